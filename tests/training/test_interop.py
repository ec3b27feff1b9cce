"""What people bring from other trainers: it works as there, or one line says what to do."""

import copy
import dataclasses

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EarlyStoppingCallback,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)

import tiny
from unisd.errors import UniSDError, UsageError
from unisd.rollout import Completion
from unisd.training.arguments import UniSDConfig
from unisd.training.interop import arguments_of, bare_model, check_optimizer, padded, refuse, tokenizer_of
from unisd.training.trainer import UniSDTrainer

MODEL = tiny.model()


def arguments(folder, **changes):
    return tiny.arguments(folder, **({"max_steps": 1, "rollout": {"max_completion_length": 4}} | changes))


def made(folder, tokenizer, model=None, **given):
    given = {"train_dataset": tiny.rows(4), "processing_class": tokenizer} | given
    return UniSDTrainer(model or tiny.model(), given.pop("args", None) or arguments(folder), **given)


# Arguments


def test_arguments_of_transformers_keep_their_values(tmp_path):
    given = TrainingArguments(
        str(tmp_path), learning_rate=1e-4, per_device_train_batch_size=3, lr_scheduler_type="linear", max_steps=7,
        use_cpu=True, seed=5, eval_strategy="steps", eval_steps=2, report_to=["none"], weight_decay=0.1,
    )  # fmt: skip
    found = arguments_of(given)
    assert isinstance(found, UniSDConfig)
    for field in dataclasses.fields(TrainingArguments):
        if field.name not in ("remove_unused_columns", "ddp_find_unused_parameters"):
            assert getattr(found, field.name) == getattr(given, field.name), field.name
    assert found.remove_unused_columns is False
    assert found.rollout == UniSDConfig(str(tmp_path)).rollout
    # What is not set is transformers' default, which is what the user sees in them.
    assert arguments_of(TrainingArguments(str(tmp_path))).learning_rate == 5e-5


@dataclasses.dataclass
class Foreign(TrainingArguments):
    max_length: int = 1024
    chosen: list = dataclasses.field(default_factory=list)


def test_arguments_of_another_trainer_pass_where_nothing_of_it_is_set(tmp_path):
    assert arguments_of(Foreign(str(tmp_path), learning_rate=1e-3)).learning_rate == 1e-3
    with pytest.raises(UsageError, match="args: max_length of Foreign has no effect here; use UniSDConfig"):
        arguments_of(Foreign(str(tmp_path), max_length=5))


def test_other_arguments(tmp_path):
    given = UniSDConfig(str(tmp_path))
    assert arguments_of(given) is given
    assert arguments_of(None).output_dir == "unisd-run"
    assert arguments_of({"output_dir": str(tmp_path), "rollout": {"top_p": 0.5}}).rollout.top_p == 0.5
    with pytest.raises(UsageError, match="max_stepz: no such setting; did you mean 'max_steps'"):
        arguments_of({"max_stepz": 1})
    with pytest.raises(UsageError, match="args: UniSDConfig or TrainingArguments were expected, not str"):
        arguments_of("runs/a")


def test_plain_arguments_train(tmp_path, tokenizer):
    args = TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to=[], save_strategy="no")
    trainer = made(tmp_path, tokenizer, args=UniSDConfig(str(tmp_path), rollout={"max_completion_length": 4}))
    assert isinstance(UniSDTrainer(tiny.model(), args, processing_class=tokenizer).args, UniSDConfig)
    assert trainer.args.output_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("compute_metrics", len, "pass grader="),
        ("data_collator", list, "rows are joined by the trainer"),
        ("data_collator", [{}], "a data set stands there; name it: train_dataset="),
        ("compute_loss_func", len, "args.divergence"),
        ("preprocess_logits_for_metrics", len, "logits are never kept"),
        ("formatting_func", str, "columns prompt, privileged_context and completion"),
        ("teacher_model", "a", "the teacher is the model itself"),
        ("reward_funcs", [], "pass grader="),
        ("train_datasets", [], "did you mean 'train_dataset'"),
        ("colour", 1, "no argument of UniSDTrainer; is it a setting"),
    ],
)
def test_arguments_without_a_meaning_here_are_refused(tmp_path, tokenizer, name, value, said):
    with pytest.raises(UsageError, match=f"^{name}: .*{said}"):
        made(tmp_path, tokenizer, model=MODEL, **{name: value})


def test_arguments_that_are_none_pass():
    refuse([], data_collator=None, compute_metrics=None, teacher_model=None)


def test_the_order_of_arguments_is_that_of_transformers(tmp_path, tokenizer):
    trainer = UniSDTrainer(tiny.model(), arguments(tmp_path), None, tiny.rows(2), tiny.rows(3), tokenizer)
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (2, 3)
    import inspect

    ours, theirs = (list(inspect.signature(kind.__init__).parameters) for kind in (UniSDTrainer, Trainer))
    assert ours[: len(theirs)] == theirs


# Models


class Compiled(nn.Module):
    def __init__(self, model):
        super().__init__()
        self._orig_mod = model


def test_wrappers_are_taken_off(capsys):
    model = tiny.model()
    for wrapped in (model, nn.DataParallel(model), Compiled(model), Compiled(nn.DataParallel(model))):
        assert bare_model(wrapped, None, 0) == (model, "")
    assert capsys.readouterr().err.count("model: it is compiled") == 2
    adapted = tiny.lora(tiny.model())
    assert bare_model(nn.DataParallel(adapted), None, 0)[0] is adapted


def test_a_model_that_is_made(tmp_path, tokenizer):
    first, second = (bare_model(None, make, 7)[0] for make in (_random, lambda trial: _random()))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    trainer = UniSDTrainer(
        args=arguments(tmp_path), model_init=tiny.model, train_dataset=tiny.rows(2), processing_class=tokenizer
    )
    trainer.train()
    assert trainer.planner.model is trainer.model
    with pytest.raises(UsageError, match="model and model_init are both given"):
        bare_model(tiny.model(), tiny.model, 0)


def _random():
    return LlamaForCausalLM(LlamaConfig(**{**tiny._SHARED, "num_hidden_layers": 1}))


def _on_meta():
    with torch.device("meta"):
        return _random()


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "not NoneType; load it with from_pretrained"),
        (lambda: LlamaForCausalLM, "not the class LlamaForCausalLM"),
        (lambda: {"a": 1}, "not dict"),
        (lambda: _random().model, "LlamaModel is no causal language model; load one with AutoModelForCausalLM"),
        (lambda: nn.Linear(2, 2), "Linear is no causal language model"),
        (lambda: BertForMaskedLM(BertConfig(vocab_size=9, **SMALL)), "BertForMaskedLM is no causal language model"),
        (lambda: LlamaForSequenceClassification(LlamaConfig(vocab_size=9, pad_token_id=0, **SMALL)), "is no causal"),
        (
            lambda: T5ForConditionalGeneration(T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1)),
            "T5ForConditionalGeneration is no causal language model",
        ),
        (_on_meta, "its weights are on the meta device"),
    ],
)
def test_what_cannot_learn_is_refused(make, said):
    with pytest.raises(UsageError, match=f"model: .*{said}"):
        bare_model(make(), None, 0)


def _dropout():
    config = LlamaConfig(**tiny._SHARED, attention_dropout=0.5)
    torch.manual_seed(0)
    return LlamaForCausalLM(config).train()


def _resized():
    model = tiny.model("qwen2")
    model.resize_token_embeddings(300)
    return model


@pytest.mark.parametrize(
    "make",
    [
        _dropout,
        _resized,
        lambda: LlamaForCausalLM(LlamaConfig(**{**tiny._SHARED, "vocab_size": 600})),
        lambda: tiny.model().to(torch.float64),
        lambda: tiny.lora(tiny.model()).train(),
    ],
    ids=["dropout", "resized", "larger vocabulary", "float64", "adapter"],
)
def test_models_as_people_bring_them(tmp_path, tokenizer, make):
    trainer = made(tmp_path, tokenizer, model=make(), train_dataset=tiny.rows(2), eval_dataset=tiny.rows(1))
    rows = [dataclasses.replace(r, contexts={"gold": [r.student_ids]}) for r in trainer.train_dataset]
    plan = trainer.planner.plan(rows, 0)
    trainer.model.eval()
    with torch.no_grad():
        trainer.learner.learn(trainer.model, plan, with_gradient=False)
    assert plan.step.values["divergence"].abs().max() < 1e-4  # teacher and student are the same at the start
    trainer.train()
    assert trainer.state.global_step == 1
    assert trainer.evaluate()["eval_loss"] >= 0


def test_tokens_that_the_tokenizer_does_not_know_are_decoded(tmp_path, tokenizer):
    model = LlamaForCausalLM(LlamaConfig(**{**tiny._SHARED, "vocab_size": 600}))
    decode = made(tmp_path, tokenizer, model=model).sampler.decode
    assert decode(Completion([*tokenizer("ab")["input_ids"], 599], True)) == "ab"


# Tokenizers


class Processor(ProcessorMixin):
    attributes = ("tokenizer",)
    tokenizer_class = "PreTrainedTokenizerFast"

    def __init__(self, tokenizer, chat_template=None):
        self.tokenizer = tokenizer
        self.chat_template = chat_template


def test_a_processor_lends_its_tokenizer_and_template():
    inner = tiny.tokenizer()
    assert tokenizer_of(Processor(inner, "other"), "") is inner
    inner.chat_template = None
    found = tokenizer_of(Processor(inner, tiny.CHATML), "")
    assert found.chat_template == tiny.CHATML
    assert inner.chat_template is None


def test_a_processor_trains(tmp_path, tokenizer):
    trainer = made(tmp_path, Processor(tokenizer))
    trainer.train()
    assert trainer.processing_class.tokenizer is tokenizer


@pytest.mark.parametrize("given", [5, nn.Linear(1, 1), Tokenizer(models.BPE())])
def test_what_has_no_tokenizer(given):
    with pytest.raises(UsageError, match=r"processing_class: .* has no tokenizer of transformers; pass one"):
        tokenizer_of(given, "")


def test_a_tokenizer_that_cannot_be_had(tmp_path, tokenizer):
    with pytest.raises(UsageError, match=r"processing_class: this model names no folder .*; pass its tokenizer"):
        UniSDTrainer(tiny.model(), arguments(tmp_path), train_dataset=tiny.rows(2))
    with pytest.raises(UniSDError, match=r"cannot load the tokenizer .*; or pass the tokenizer as processing_class"):
        tokenizer_of(None, str(tmp_path))
    with pytest.raises(UniSDError, match="cannot load the tokenizer"):
        tokenizer_of(str(tmp_path), "")
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_of(str(tmp_path), "").chat_template == tokenizer.chat_template


class Slow(PreTrainedTokenizer):
    """A byte a token, in Python."""

    def __init__(self, **given):
        super().__init__(**given)

    @property
    def vocab_size(self):
        return 256

    def get_vocab(self):
        return {chr(i): i for i in range(256)} | self.added_tokens_encoder

    def _tokenize(self, text, **given):
        return [chr(byte) for byte in text.encode()]

    def _convert_token_to_id(self, token):
        return ord(token)

    def _convert_id_to_token(self, index):
        return chr(index)

    def convert_tokens_to_string(self, tokens):
        return "".join(tokens)


def test_a_tokenizer_in_python_and_one_without_tokens_of_its_own(tmp_path, tokenizer, capsys):
    slow = Slow(chat_template=tiny.CHATML.replace("<|im_end|>", "~").replace("<|im_start|>", "^"))
    bare = copy.deepcopy(tokenizer)
    bare.pad_token = bare.eos_token = None
    for given in (slow, bare):
        trainer = made(tmp_path, given)
        trainer.train()
        assert trainer.state.global_step == 1


def test_a_model_that_nothing_stops_is_said(tmp_path, tokenizer, capsys):
    model = tiny.model()
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    slow = Slow(chat_template=tiny.CHATML.replace("<|im_end|>", "~").replace("<|im_start|>", "^"))
    made(tmp_path, slow, model=model)
    assert "no token ends a completion" in capsys.readouterr().err
    made(tmp_path, tokenizer, model=model)
    assert "no token ends a completion" not in capsys.readouterr().err


def test_a_token_without_an_embedding_is_an_error_at_the_start(tmp_path):
    larger = tiny.tokenizer()
    larger.add_tokens(["<new>"])
    assert len(made(tmp_path, larger).train_dataset) == 4  # nobody writes it
    larger.add_tokens(["gives"])
    with pytest.raises(UsageError, match=r"the tokenizer writes token 260 \('gives'\)"):
        made(tmp_path, larger)


def test_tokenizer_is_the_earlier_name(tmp_path, tokenizer):
    trainer = UniSDTrainer(tiny.model(), arguments(tmp_path), train_dataset=tiny.rows(2), tokenizer=tokenizer)
    assert isinstance(trainer.processing_class, PreTrainedTokenizerFast)


# What trainers do


def test_an_optimizer_of_the_users(tmp_path, tokenizer):
    model = tiny.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    trainer = made(tmp_path, tokenizer, model=model, optimizers=(optimizer, None))
    before = [p.clone() for p in model.parameters()]
    trainer.train()
    assert trainer.optimizer.optimizer is optimizer
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(UsageError, match="optimizers: it holds no parameter that is trained"):
        made(
            tmp_path,
            tokenizer,
            model=tiny.lora(model),
            optimizers=(torch.optim.SGD([nn.Parameter(torch.ones(1))]), None),
        )
    check_optimizer(None, model)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimizers": 5}, "optimizers: .an optimizer, its schedule. were expected"),
        ({"optimizers": ("adamw", None)}, "optimizers: the first is no optimizer; make one"),
        ({"callbacks": EarlyStoppingCallback(2)}, "callbacks: a list of callbacks was expected"),
        ({"callbacks": [print]}, "callbacks: <built-in function print> is no TrainerCallback of transformers"),
        ({"grader": 5}, "grader: a function of ids and texts was expected"),
        ({"sampler": object()}, "sampler: an object with the methods sample and decode was expected"),
        ({"peft_config": "lora"}, "peft_config: a PEFT configuration was expected, not str"),
        (
            {
                "optimizers": (torch.optim.SGD(MODEL.parameters()), None),
                "optimizer_cls_and_kwargs": (torch.optim.SGD, {}),
            },
            "are both given; leave one out",
        ),
    ],
)
def test_parts_of_another_kind(tmp_path, tokenizer, given, said):
    with pytest.raises(UsageError, match=said):
        made(tmp_path, tokenizer, model=MODEL, **given)
    with pytest.raises(UsageError, match="model_init: a function that makes the model was expected"):
        bare_model(None, 5, 0)


def test_optimizers_may_be_none_and_a_model_a_path(tmp_path, tokenizer):
    tiny.model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    trainer = made(tmp_path, None, model=tmp_path, optimizers=None, train_dataset=tiny.rows(1))
    assert trainer.processing_class.chat_template == tokenizer.chat_template


def test_methods_without_a_meaning_or_a_network(tmp_path, tokenizer):
    trainer = made(tmp_path, tokenizer, model=MODEL)
    with pytest.raises(UsageError, match="hyperparameter_search: make a trainer for each setting"):
        trainer.hyperparameter_search(n_trials=2)
    with pytest.raises(UniSDError, match=r"push_to_hub: .*hf auth login"):
        trainer.push_to_hub()
    with pytest.raises(UsageError, match=r"push_to_hub: .*publish it when it is done: unisd push RUN"):
        arguments(tmp_path, push_to_hub=True)


def test_what_is_inherited_works(tmp_path, tokenizer):
    trainer = made(tmp_path, tokenizer, eval_dataset=tiny.rows(2))
    assert {row.id for batch in trainer.get_train_dataloader() for row in batch} == {f"item-{i}" for i in range(4)}
    assert [row.id for batch in trainer.get_eval_dataloader() for row in batch] == ["item-0", "item-1"]
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    loaded = LlamaForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), trainer.model.parameters(), strict=True))
    assert (tmp_path / "README.md").is_file()


@pytest.mark.parametrize("several", [False, True])
def test_early_stopping(tmp_path, tokenizer, several):
    name = "eval_x_loss" if several else "eval_loss"
    changes = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 6}
    changes |= {"load_best_model_at_end": True, "metric_for_best_model": name, "greater_is_better": True}
    trainer = made(
        tmp_path,
        tokenizer,
        args=arguments(tmp_path, **changes, learning_rate=1e-20),
        eval_dataset={"x": tiny.rows(2)} if several else tiny.rows(2),
        callbacks=[EarlyStoppingCallback(2)],
    )
    with pytest.raises(UniSDError, match="every trained weight is as it was"):
        trainer.train()
    assert trainer.state.global_step == 3  # the loss never changes, and two more are waited for
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-1")


def test_predictions_are_padded():
    assert padded([[1, 2], [3], []]).tolist() == [[1, 2], [3, -100], [-100, -100]]
    assert padded([]).shape == (0, 0)


def test_a_model_compiled_in_place_runs_as_before(tmp_path, tokenizer, capsys):
    whole, forward = tiny.model(), tiny.model()
    whole.compile()
    forward.forward = torch.compile(forward.forward)
    for number, model in enumerate((whole, forward)):
        UniSDTrainer(
            model, tiny.arguments(tmp_path / str(number)), train_dataset=tiny.rows(), processing_class=tokenizer
        )
        assert "it is compiled" in capsys.readouterr().err
        assert model._compiled_call_impl is None
        assert not hasattr(model.forward, "_torchdynamo_orig_callable")
