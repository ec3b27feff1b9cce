import json

import pytest
from transformers.utils import logging as progress_bars

from contexts.families import FakeSampler
from unisd.errors import UniSDError
from unisd.files import fingerprint
from unisd.rollout import Completion, CompletionStore, Request, SamplingParams

PARAMS = SamplingParams(8)


def requests(count):
    return [Request([1, 2, number], ("test", number)) for number in range(count)]


def echo(request):
    return f"text é{request.prompt_ids[-1]}\nof {request.key[-1]}"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def store(tmp_path):
    return CompletionStore(tmp_path / "deep" / "texts.jsonl", "model-1", batch_size=3)


def test_writes_once_in_batches_and_in_order(store):
    sampler = FakeSampler(echo)
    texts = store.texts(sampler, requests(7), PARAMS)
    assert texts == [echo(request) for request in requests(7)]
    assert [len(call) for call in sampler.calls] == [3, 3, 1]
    again = FakeSampler(echo)
    assert store.texts(again, requests(7)[::-1], PARAMS) == texts[::-1]
    assert again.calls == []
    assert len(lines(store.path)) == 7


def test_only_what_is_missing_is_written(store):
    store.texts(FakeSampler(echo), requests(3), PARAMS)
    sampler = FakeSampler(echo)
    store.texts(sampler, requests(5), PARAMS)
    assert sampler.asked == requests(5)[3:]


def test_equal_requests_are_written_once(store):
    sampler = FakeSampler(echo)
    assert store.texts(sampler, requests(2) * 3, PARAMS) == [echo(request) for request in requests(2)] * 3
    assert len(sampler.asked) == 2


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_kill_loses_at_most_a_batch(store, dies_at):
    with pytest.raises(KeyboardInterrupt):
        store.texts(FakeSampler(echo, dies_at), requests(8), PARAMS)
    assert len(lines(store.path)) == 3 * dies_at if dies_at else not store.path.exists()
    sampler = FakeSampler(echo)
    assert store.texts(sampler, requests(8), PARAMS) == [echo(request) for request in requests(8)]
    assert sampler.asked == requests(8)[3 * dies_at :]


def test_a_line_torn_anywhere_is_written_again_and_nothing_else(tmp_path):
    whole = CompletionStore(tmp_path / "whole.jsonl", "m")
    expected = whole.texts(FakeSampler(echo), requests(3), PARAMS)
    data = whole.path.read_bytes()
    for cut in range(len(data) + 1):
        torn = CompletionStore(tmp_path / f"{cut}.jsonl", "m")
        torn.path.write_bytes(data[:cut])
        sampler = FakeSampler(echo)
        assert torn.texts(sampler, requests(3), PARAMS) == expected
        complete = data[: cut + 1].count(b"}\n") if data[cut : cut + 1] == b"\n" else data[:cut].count(b"}\n")
        assert sampler.asked == requests(3)[complete:]
        again = FakeSampler(echo)
        assert torn.texts(again, requests(4), PARAMS)[:3] == expected
        assert again.asked == requests(4)[3:]


def test_foreign_lines_do_no_harm(store):
    store.path.parent.mkdir()
    store.path.write_bytes(b'\n[1]\n{"key": 3, "ids": "x"}\n{"key": "a"}\n\xff\xfe\n{"key": "b", "ids": null}')
    assert store.texts(FakeSampler(echo), requests(1), PARAMS) == [echo(requests(1)[0])]
    assert store.texts(FakeSampler(echo, dies_at=0), requests(1), PARAMS) == [echo(requests(1)[0])]


def test_the_first_entry_of_a_key_counts(store):
    first = store.texts(FakeSampler(echo), requests(1), PARAMS)
    with store.path.open("a") as file:
        file.write(json.dumps({"key": store.key(requests(1)[0], PARAMS), "ids": [65], "finished": True}) + "\n")
    assert store.texts(FakeSampler(echo), requests(1), PARAMS) == first


def test_completions_come_back_as_they_were_written(store):
    class Unfinished(FakeSampler):
        def sample(self, requests, params, progress=None):
            return [Completion(done.ids, False) for done in super().sample(requests, params)]

    written = store.completions(Unfinished(echo), requests(2), PARAMS)
    assert not any(done.finished for done in written)
    assert store.completions(FakeSampler(echo, dies_at=0), requests(2), PARAMS) == written


def test_prompts_of_like_length_are_written_together(store):
    mixed = [Request([1] * length, (length,)) for length in (9, 1, 8, 2, 7, 3)]
    sampler = FakeSampler(echo)
    assert store.texts(sampler, mixed, PARAMS) == [echo(request) for request in mixed]
    assert [[len(r.prompt_ids) for r in call] for call in sampler.calls] == [[1, 2, 3], [7, 8, 9]]


def test_everything_that_matters_is_in_the_key(store, tmp_path):
    one = Request([1, 2], ("a", 1))
    keys = {
        store.key(one, PARAMS),
        CompletionStore(store.path, "model-2").key(one, PARAMS),
        store.key(Request([1, 3], ("a", 1)), PARAMS),
        store.key(Request([1, 2], ("a", 2)), PARAMS),
        store.key(one, SamplingParams(9)),
        store.key(one, SamplingParams(8, temperature=0.0)),
        store.key(one, SamplingParams(8, top_p=0.5)),
        store.key(one, SamplingParams(8, seed=1)),
        store.key(one, SamplingParams(8, top_k=5)),
        store.key(one, SamplingParams(8, min_p=0.1)),
        store.key(one, SamplingParams(8, repetition_penalty=1.1)),
    }
    assert len(keys) == 11
    assert store.key(Request((1, 2), ("a", 1)), PARAMS) == store.key(one, PARAMS)
    assert CompletionStore(tmp_path / "elsewhere", "model-1").key(one, PARAMS) == store.key(one, PARAMS)


def test_settings_that_came_later_leave_the_keys_of_what_was_written_before(store):
    """As they were made when there were four: an answer that is kept must not be written again."""
    before = {"max_new_tokens": 8, "temperature": 0.7, "top_p": 1.0, "seed": 42}
    assert store.key(Request([1, 2], ("a", 1)), PARAMS) == fingerprint("model-1", [1, 2], ["a", 1], before)


def test_a_progress_bar_counts_the_missing_texts(store, capsys):
    store.texts(FakeSampler(echo), requests(2), PARAMS, "writing")
    capsys.readouterr()
    store.texts(FakeSampler(echo), requests(6), PARAMS, "writing")
    assert "0/4 [" in capsys.readouterr().err
    store.texts(FakeSampler(echo), requests(9), PARAMS)
    store.texts(FakeSampler(echo), requests(9), PARAMS, "writing")
    assert capsys.readouterr().err == ""


def test_progress_bars_may_be_off_everywhere(store, capsys):
    progress_bars.disable_progress_bar()
    try:
        assert len(store.texts(FakeSampler(echo), requests(4), PARAMS, "writing")) == 4
    finally:
        progress_bars.enable_progress_bar()
    assert capsys.readouterr().err == ""


def test_a_sampler_that_leaves_requests_out_is_caught(store):
    class Short(FakeSampler):
        def sample(self, requests, params, progress=None):
            return super().sample(requests, params)[1:]

    with pytest.raises(UniSDError, match="2 completions for 3 requests"):
        store.texts(Short(echo), requests(3), PARAMS)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UniSDError, match="cannot read"):
        CompletionStore(tmp_path, "m").texts(FakeSampler(echo), requests(1), PARAMS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UniSDError, match=r"cannot (read|write) .*file"):
        CompletionStore(tmp_path / "file" / "texts.jsonl", "m").texts(FakeSampler(echo), requests(1), PARAMS)


def test_nothing_asked_nothing_written(store):
    assert store.texts(FakeSampler(echo), [], PARAMS, "writing") == []
    assert not store.path.exists()


def test_the_store_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path))
    path = tmp_path / "contexts" / "cos_e.jsonl"
    assert CompletionStore.in_cache("contexts", "cos_e", "m") == CompletionStore(path, "m")


@pytest.mark.parametrize("bad", ["[-1]", "[100000]", "[Infinity]"])
def test_ids_that_no_model_wrote_are_written_again(bad, store):
    """Below zero, beyond the sampler's vocabulary, or no number at all."""
    store.completions(FakeSampler(echo), requests(2), PARAMS)
    first, second = store.path.read_text().splitlines()
    entry = json.loads(first)
    broken = json.dumps(entry | {"ids": []}).replace("[]", bad)
    store.path.write_text(f"{broken}\n{second}\n")
    sampler = FakeSampler(echo)
    sampler.vocabulary = 100000
    store.completions(sampler, requests(2), PARAMS)
    assert len(sampler.asked) == 1
