import dataclasses

import pytest

import tiny
from evaluation.asked import Scripted
from unisd.contexts import PromptBuilder
from unisd.errors import UsageError
from unisd.evaluation.instructions import instruction_change, instruction_following
from unisd.evaluation.statistics import paired_difference, wilson
from unisd.rollout import Completion, CompletionStore, make_sampler
from unisd.tasks.instructions import Instructions

REPLIES = {example.id: example.answer for example in Instructions().load("test")}


@pytest.fixture
def builder(tokenizer):
    return PromptBuilder(tokenizer, "paper")


def obedient(request):
    return REPLIES[request.key[1]]


def silent(request):
    return "."


def test_all_are_asked_by_default_and_a_smaller_number_is_a_part_of_a_larger(builder):
    sampler = Scripted(obedient)
    found = instruction_following(sampler, builder)
    assert (found.task, found.n, found.correct) == ("instructions", len(REPLIES), len(REPLIES))
    few, more = (
        {item.id for item in instruction_following(Scripted(silent), builder, count).items} for count in (5, 20)
    )
    assert len(few) == 5
    assert few < more
    with pytest.raises(UsageError, match="no items"):
        instruction_following(Scripted(silent), builder, 0)


def test_the_room_is_the_tasks_own_or_more_and_fits_into_what_a_model_reads(builder):
    rooms = []

    class Spy(Scripted):
        def sample(self, requests, params, progress=None):
            rooms.append((params.max_new_tokens, params.temperature))
            return super().sample(requests, params, progress)

    for given in ({}, {"max_new_tokens": 8}, {"max_new_tokens": 900}, {"max_length": 500}):
        instruction_following(Spy(silent), builder, 3, **given)
    assert rooms[:3] == [(160, 0.0), (160, 0.0), (900, 0.0)]
    assert rooms[3][0] <= 160


def test_what_was_written_is_kept(builder, tokenizer, tmp_path):
    sampler, store = make_sampler(tiny.model(), tokenizer), CompletionStore(tmp_path / "kept", "tiny")
    first = instruction_following(sampler, builder, 2, store)
    silenced = Scripted(silent)
    silenced.decode = sampler.decode
    assert instruction_following(silenced, builder, 2, store) == first
    assert silenced.asked == []


def test_the_change_is_paired_and_by_kind(builder):
    before = instruction_following(Scripted(obedient), builder)
    after = instruction_following(Scripted(lambda r: "." if "lines" in kinds_of(r) else obedient(r)), builder)
    found = instruction_change(before, after)
    lost = sum("lines" in kinds for kinds in KINDS_OF.values())
    n = len(REPLIES)
    assert found["prompts"] == n
    whole = found["all"]
    assert (whole["gained"], whole["lost"]) == (0, lost)
    assert (whole["base"]["count"], whole["adapted"]["count"], whole["adapted"]["of"]) == (n, n - lost, n)
    assert (whole["adapted"]["low"], whole["adapted"]["high"]) == wilson(n - lost, n)
    expected = paired_difference([True] * n, [False] * lost + [True] * (n - lost))
    assert whole["change"] == dataclasses.asdict(expected)
    lines = found["kinds"]["lines"]
    assert (lines["base"]["count"], lines["adapted"]["count"], lines["lost"]) == (lost, 0, lost)
    assert lines["change"]["estimate"] == -1
    assert found["kinds"]["json_keys"]["change"]["estimate"] == 0
    assert sum(part["base"]["of"] for part in found["kinds"].values()) == sum(map(len, KINDS_OF.values()))
    with pytest.raises(UsageError, match="different instructions"):
        instruction_change(before, instruction_following(Scripted(silent), builder, 9))


KINDS_OF = {example.id: set(example.fields["constraints"]) for example in Instructions().load("test")}


def kinds_of(request):
    return KINDS_OF[request.key[1]]


def test_thoughts_are_no_part_of_a_reply(builder):
    found = instruction_following(Scripted(lambda r: f"<think>Hm.</think>\n{obedient(r)}"), builder)
    change = instruction_change(found, found)
    assert change["all"]["base"]["value"] == 1
    assert all(part["base"]["value"] == 1 for part in change["kinds"].values())
    kept = instruction_following(Scripted(lambda r: f"<think>Hm.</think>\n{obedient(r)}"), builder, thoughts="keep")
    assert instruction_change(kept, kept, "keep")["kinds"]["json_keys"]["base"]["value"] == 0


def test_replies_that_the_length_limit_ended_are_judged_as_they_were_graded(builder):
    class Cut(Scripted):
        def sample(self, requests, params, progress=None):
            return [Completion(done.ids, False) for done in super().sample(requests, params, progress)]

    found = instruction_following(Cut(obedient), builder)
    change = instruction_change(found, found)
    assert change["kinds"]["sentences"]["base"]["count"] == 0
    assert change["kinds"]["without_commas"]["base"]["value"] == 1
    assert change["all"]["base"]["count"] == found.correct > 0
