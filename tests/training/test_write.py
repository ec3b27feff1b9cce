"""Who writes: the teacher in the gold context, or somebody once for the whole run; and the same after a resume."""

import json

import pytest
import torch
from transformers import TrainerCallback

import tiny
from unisd.errors import UsageError
from unisd.mechanisms import InitialTeacher
from unisd.rollout import Completion, Request, TorchSampler
from unisd.training.trainer import UniSDTrainer
from unisd.training.write import Writer, sampling_params

CROSS_ENTROPY = {"divergence": {"kind": "cross_entropy"}}


MIXED = {"source": "mix", "mix": 1.0, "mix_schedule": "readable", "mix_start": 0.3, "max_completion_length": 40}


class Reader:
    """A grader that reads of some texts whether they hold an answer."""

    def __call__(self, ids, texts):
        return [1.0 for _ in texts]

    def readable(self, ids, texts):
        assert len(ids) == len(texts) > 0
        return [len(text) % 3 > 0 for text in texts]


def trainer_of(folder, tokenizer, adapter=True, rows=None, eval_rows=None, rollout=(), dropout=0.0, **changes):
    model = tiny.model()
    model.generation_config.eos_token_id = list(range(0, tiny.VOCABULARY, 8))
    return UniSDTrainer(
        model,
        tiny.arguments(folder, rollout={"max_completion_length": 8, **dict(rollout)}, **changes),
        train_dataset=rows or tiny.rows(),
        eval_dataset=eval_rows,
        processing_class=tokenizer,
        peft_config=tiny.lora_config(dropout) if adapter else None,
        grader=Reader(),
    )


def sampled(trainer, model, prompts, keys):
    """What the model writes of plain prompts."""
    sampler = TorchSampler(model, trainer.processing_class)
    sampler.end_tokens = trainer.sampler.end_tokens
    requests = [Request(prompt, key) for prompt, key in zip(prompts, keys, strict=True)]
    return sampler.sample(requests, sampling_params(trainer.args))


def trained(trainer):
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


def untimed(folder, name="metrics.jsonl"):
    rows = [json.loads(line) for line in (folder / name).read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/", "speed/"))} for row in rows]


# -- the teacher writes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["initial", "live", "ema"])
def test_the_teacher_in_force_writes_in_the_gold_context(tmp_path, tokenizer, kind):
    """Its own prompt, its own weights; the student learns the tokens behind the student's prompt."""
    rollout = {"source": "teacher", "teacher_draws": "each_step", "num_generations": 2}
    trainer = trainer_of(tmp_path, tokenizer, rollout=rollout, teacher={"kind": kind, "decay": 0.5, "every": 1})
    tiny.move(trainer.model, 0.3)
    for mechanism in trainer.mechanisms:
        mechanism.follow(1)
    tiny.move(trainer.model, 0.3)
    rows = trainer.train_dataset[:3]
    plan = trainer.planner.plan(rows, 7)
    weights = {
        "initial": lambda: {n: torch.zeros_like(p) if "lora_B" in n else p for n, p in trained(trainer).items()},
        "live": lambda: trained(trainer),
        "ema": lambda: trainer.teacher._shadow,
    }[kind]()
    other = tiny.lora(tiny.model())
    other.load_state_dict(weights, strict=False)
    keys = [(7, row.id, number) for row in rows for number in range(2)]
    expected = sampled(trainer, other, [row.contexts["gold"][0] for row in rows for _ in range(2)], keys)
    assert plan.completions == expected
    assert plan.completions != sampled(trainer, other, [row.student_ids for row in rows for _ in range(2)], keys)
    assert [s.prompt_ids for s in plan.sequences] == [row.student_ids for row in rows for _ in range(2)]
    assert trainer.planner.plan(rows, 8).completions != expected


@pytest.mark.parametrize("adapter", [True, False])
def test_static_imitation_is_cross_entropy_on_what_the_initial_model_writes_in_the_gold_context(
    tmp_path, tokenizer, adapter
):
    trainer = trainer_of(tmp_path, tokenizer, adapter, rollout={"source": "teacher"}, max_steps=2, **CROSS_ENTROPY)
    rows = trainer.train_dataset
    expected = sampled(
        trainer, tiny.model(), [row.contexts["gold"][0] for row in rows], [("teacher", row.id) for row in rows]
    )
    trainer.train()
    plan = trainer.planner.plan(rows, 0)
    assert plan.completions == expected == trainer.planner.plan(rows, 9).completions
    loss = trainer.learner.learn(trainer.model, plan, with_gradient=False)
    total = 0.0
    for row, done in zip(rows, expected, strict=True):
        ids = torch.tensor([[*row.student_ids, *done.ids]])
        labels = ids.clone()
        labels[0, : len(row.student_ids)] = -100
        with torch.no_grad():
            total += float(trainer.model(ids, labels=labels).loss) * len(done.ids)
    assert float(loss) == pytest.approx(total / sum(len(done.ids) for done in expected), rel=1e-5)
    assert plan.step.readings == {}


@pytest.mark.parametrize("source", ["teacher", "own"])
def test_what_is_drawn_once_is_never_drawn_again(tmp_path, tokenizer, source):
    """In every epoch the same, though the student has moved; several samples of a prompt differ."""
    rollout = {"source": source, "num_generations": 2}
    trainer = trainer_of(tmp_path, tokenizer, rollout=rollout, max_steps=4, teacher={"kind": "live"})
    seen = {}
    make = trainer.planner.plan

    def watched(rows, step):
        made = make(rows, step)
        for item, done in zip(made.step.items, made.completions, strict=True):
            seen.setdefault(item, []).append(tuple(done.ids))
        return made

    trainer.planner.plan = watched
    trainer.train()
    assert {len(written) for written in seen.values()} == {4}  # two epochs, two samples
    for written in seen.values():
        assert written[:2] == written[2:]
    assert any(written[0] != written[1] for written in seen.values())
    assert len((tmp_path / f"{source}_samples.jsonl").read_text().splitlines()) == 16


def test_the_first_own_sample_has_the_stream_that_it_always_had(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, rollout={"source": "own", "num_generations": 2}, **CROSS_ENTROPY)
    rows = trainer.train_dataset[:3]
    trainer.planner.writer.draw(rows, InitialTeacher(trainer.model))
    found = trainer.planner.plan(rows, 0).completions
    prompts = [row.student_ids for row in rows]
    assert found[::2] == sampled(trainer, tiny.model(), prompts, [("own", row.id) for row in rows])
    assert found[1::2] == sampled(trainer, tiny.model(), prompts, [("own", row.id, 1) for row in rows])


# -- an evaluation's rows are rows of their own -----------------------------------------------------------------------


@pytest.mark.parametrize("source", ["teacher", "own"])
@pytest.mark.parametrize("adapter", [True, False])
def test_rows_to_evaluate_get_completions_of_their_own(tmp_path, tokenizer, source, adapter):
    """Though their ids are those of training rows; and they are the initial model's after training, too."""
    rows = [{**row, "prompt": f"Why? {row['prompt']}"} for row in tiny.rows(3)]
    more = {"rollout": {"source": source}, "max_steps": 2, **CROSS_ENTROPY}
    trainer = trainer_of(tmp_path, tokenizer, adapter, eval_rows=rows, **more)
    before = trainer.evaluate()
    drawn = trainer.planner.plan(trainer.eval_dataset, "eval").completions
    trainer.train()
    assert trainer.planner.plan(trainer.eval_dataset, "eval").completions == drawn
    assert trainer.evaluate()["eval_loss"] != before["eval_loss"]
    asked = [trainer.planner.writer.prompt(row) for row in trainer.eval_dataset]
    assert drawn == sampled(trainer, tiny.model(), asked, [(source, row.id) for row in trainer.eval_dataset])
    assert drawn != [trainer.planner.plan([row], 0).completions[0] for row in trainer.train_dataset[:3]]


def test_rows_that_come_late_get_theirs_from_the_initial_model(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, False, rollout={"source": "own"}, max_steps=1, **CROSS_ENTROPY)
    trainer.train()
    late = [{**row, "prompt": "Now?"} for row in tiny.rows(3)[1:]]
    plain, plans = trainer.planner.plan, []
    trainer.planner.plan = lambda *asked: plans.append(plain(*asked)) or plans[-1]
    trainer.evaluate(late)
    prompt = trainer._builder.student_ids("Now?")
    expected = sampled(trainer, tiny.model(), [prompt, prompt], [("own", row["id"]) for row in late])
    written = [list(done.ids) for plan in plans for done in plan.completions]
    assert written == [list(done.ids) for done in expected]


def test_rows_that_come_after_the_teacher_has_moved_are_refused_in_one_line(tmp_path, tokenizer):
    moving = {"teacher": {"kind": "ema", "every": 1}, "rollout": {"source": "teacher"}}
    trainer = trainer_of(tmp_path, tokenizer, **moving, max_steps=1)
    trainer.train()
    with pytest.raises(UsageError, match=r"'item-2': with rollout.source teacher .* as its eval_dataset") as raised:
        trainer.evaluate([{**row, "prompt": "Now?"} for row in tiny.rows(3)[2:]])
    assert "\n" not in str(raised.value)


# -- kept, and the same after a resume --------------------------------------------------------------------------------


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:  # one step past the checkpoint
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("rollout", "more"),
    [
        ({"source": "teacher", "log_completions_steps": 1}, {}),
        ({"source": "own", "log_completions_steps": 2}, CROSS_ENTROPY),
        ({"source": "teacher", "teacher_draws": "each_step", "repetition_penalty": 1.2, "min_p": 0.01}, {}),
        ({**MIXED, "num_generations": 1}, {}),
    ],
    ids=["teacher once", "own", "teacher each step", "mix"],
)
def test_stopped_and_resumed_gives_the_same_bits(tmp_path, tokenizer, rollout, more):
    changes = {"save_strategy": "steps", "save_steps": 2, "dropout": 0.2, "per_device_train_batch_size": 2, **more}
    changes["rollout"] = {"num_generations": 2, "mask_truncated_completions": True, **rollout}
    if not more:
        changes["teacher"] = {"kind": "ema", "decay": 0.5, "every": 1}
    whole = trainer_of(tmp_path / "whole", tokenizer, **changes)
    whole.train()
    first = trainer_of(tmp_path / "halves", tokenizer, **changes)
    first.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = trainer_of(tmp_path / "halves", tokenizer, **changes)
    if second.planner.writer.once:
        second.planner.writer._sample = None  # nothing is drawn again
    second.train(resume_from_checkpoint=True)
    assert untimed(tmp_path / "halves") == untimed(tmp_path / "whole")
    for name, value in trained(whole).items():
        assert torch.equal(trained(second)[name], value), name
    if "log_completions_steps" in rollout:
        assert untimed(tmp_path / "halves", "completions.jsonl") == untimed(tmp_path / "whole", "completions.jsonl")
    else:
        assert not (tmp_path / "halves/completions.jsonl").exists()


# -- demonstrations and the student's words in turns ------------------------------------------------------------------


def drawn(trainer, step):
    """What each row of a step is learned from, and whether that is its demonstration."""
    rows = trainer.train_dataset
    return [
        done.ids == row.completion_ids
        for row, done in zip(rows, trainer.planner.writer.completions(rows, step), strict=True)
    ]


def test_a_linear_schedule_begins_with_demonstrations_and_ends_with_the_students_words(tmp_path, tokenizer):
    mixed = {"source": "mix", "mix": 1.0, "mix_schedule": "linear", "mix_steps": 3, "max_completion_length": 40}
    trainer = trainer_of(tmp_path, tokenizer, rollout=mixed)
    assert all(drawn(trainer, 0))
    assert 0 < sum(drawn(trainer, 1)) < len(trainer.train_dataset)
    assert not any(drawn(trainer, 3))
    assert not any(drawn(trainer, "eval"))
    trainer.train()
    rows = untimed(tmp_path)
    assert [row["mix/share"] for row in rows] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (rows[0]["mix/sampled"], rows[3]["mix/sampled"]) == (0, 1)
    assert 0 < rows[1]["mix/sampled"] < 1


def test_a_share_follows_what_can_be_read_of_the_student(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, rollout=MIXED)
    rows = trainer.train_dataset
    texts = {}
    sample = trainer.planner.writer.sampler.sample

    def watched(requests, params, progress=None):
        done = sample(requests, params, progress)
        texts.setdefault(requests[0].key[0], []).extend(map(trainer.sampler.decode, done))
        return done

    trainer.planner.writer.sampler.sample = watched
    readable, share = 0.0, 0.3
    for step in range(4):
        metrics = trainer.planner.plan(rows, step).metrics
        assert metrics["mix/share"] == pytest.approx(share)
        written = texts.get(step, [])
        assert metrics["mix/sampled"] == len(written) / len(rows)
        if written:
            readable += (sum(Reader().readable(written, written)) / len(written) - readable) / 4
        share = 0.3 + 0.7 * readable
    before = trainer.planner.writer.mix.readable
    assert before == pytest.approx(readable)
    assert before > 0
    trainer.planner.plan(rows, "eval")  # what is no step of training changes nothing
    assert trainer.planner.writer.mix.readable == before


def test_nobody_reads_without_a_reader(tmp_path, tokenizer):
    with pytest.raises(UsageError, match="mix_schedule: nobody here can say whether an answer is readable; use linear"):
        UniSDTrainer(
            tiny.model(),
            tiny.arguments(tmp_path, rollout=MIXED),
            train_dataset=tiny.rows(),
            processing_class=tokenizer,
            grader=lambda ids, texts: [1.0] * len(texts),
        )


def test_a_file_of_an_earlier_version_or_of_other_rows_is_passed_over(tmp_path, tokenizer):
    trainer = trainer_of(tmp_path, tokenizer, rollout={"source": "own"}, **CROSS_ENTROPY)
    (tmp_path / "own_samples.jsonl").write_text(
        '{"id": "item-0", "ids": [5], "finished": true}\n{"place": "elsewhere", "ids": [6], "finished": true}\n'
    )
    writer, rows = trainer.planner.writer, trainer.train_dataset
    writer.load(tmp_path / "own_samples.jsonl")
    assert writer.draw(rows, InitialTeacher(trainer.model))
    assert not writer.draw(rows, InitialTeacher(trainer.model))
    drawn = writer.completions(rows, 0)
    assert all(len(done.ids) > 1 or done.finished for done in drawn)
    writer.save(tmp_path / "again.jsonl")
    other = Writer(trainer.args, trainer.sampler, None)
    other.load(tmp_path / "again.jsonl")
    assert other.completions(rows, 3) == drawn


def test_who_writes_is_counted_as_work(tmp_path, tokenizer):
    rows = trainer_of(tmp_path / "r", tokenizer, rollout={"source": "gold", "max_completion_length": 64}).train_dataset
    done = [Completion([5] * (2 + i), True) for i in range(8)]
    student = sum(len(row.student_ids) + len(each.ids) - 1 for row, each in zip(rows, done, strict=True))
    teacher = sum(len(row.contexts["gold"][0]) + len(each.ids) - 1 for row, each in zip(rows, done, strict=True))
    for name, expected in (("student", student), ("teacher", teacher), ("own", 0), ("gold", 0)):
        draws = {"teacher_draws": "each_step"} if name == "teacher" else {}
        config = tiny.arguments(tmp_path, rollout={"source": name, **draws})
        assert Writer(config, None, None).tokens_read(rows, done) == expected
