"""The Python interface: rows of one's own, a grader of one's own, training, and what the model says before and after.

    python examples/python_api/train.py --output runs/python

Rows need a prompt and what the teacher sees beside it; an `id` names them. Nothing else is asked for.
"""

import argparse
from pathlib import Path

from unisd import UniSDConfig, UniSDTrainer
from unisd.models import load_model, load_tokenizer

NAMES = ["ada", "ben", "cleo", "dov", "edda", "finn", "gus", "hana"]
ROWS = [
    {
        "id": name,
        "prompt": f"What is the house code of {name.title()}?",
        "privileged_context": f"A house code is the name backwards: that of {name.title()} is {name[::-1].upper()}.",
    }
    for name in NAMES
]


def main() -> None:
    """Train, save, and ask one question before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="a folder, a hub id, or a short name")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("runs/python"))
    chosen = parser.parse_args()

    model, tokenizer = load_model(chosen.model), load_tokenizer(chosen.model)
    config = UniSDConfig(
        output_dir=str(chosen.output),
        max_steps=chosen.steps,
        per_device_train_batch_size=4,
        learning_rate=1e-3,
        save_strategy="no",
        rollout={"max_completion_length": 24},
        teacher={"kind": "ema", "decay": 0.9, "every": 1},
    )
    from peft import LoraConfig

    trainer = UniSDTrainer(
        model,
        config,
        train_dataset=ROWS,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    question = tokenizer.apply_chat_template(
        [{"role": "user", "content": ROWS[0]["prompt"]}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    ).to(trainer.model.device)

    def answer() -> str:
        ids = trainer.model.generate(**question, max_new_tokens=24, do_sample=False)
        return tokenizer.decode(ids[0, question["input_ids"].shape[1] :], skip_special_tokens=True)

    before = answer()
    trainer.train()
    trainer.save_weights(chosen.output / "adapter")
    print(f"before: {before}\nafter:  {answer()}")
    for found in trainer.acting():
        print(f"{found.mechanism}: {'acts' if found.acts else 'does not act'} ({found.evidence})")


if __name__ == "__main__":
    main()
