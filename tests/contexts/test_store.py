import json

import pytest
from transformers.utils import logging as progress_bars

from contexts.families import FakeSampler
from unisd.contexts import TextStore
from unisd.errors import UniSDError
from unisd.rollout.base import Request, SamplingParams

PARAMS = SamplingParams(8)


def requests(count):
    return [Request([1, 2, number], ("test", number)) for number in range(count)]


def echo(request):
    return f"text é{request.prompt_ids[-1]}\nof {request.key[-1]}"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def store(tmp_path):
    return TextStore(tmp_path / "deep" / "texts.jsonl", "model-1", batch_size=3)


def test_writes_once_in_batches_and_in_order(store):
    sampler = FakeSampler(echo)
    texts = store.written(sampler, requests(7), PARAMS)
    assert texts == [echo(request) for request in requests(7)]
    assert [len(call) for call in sampler.calls] == [3, 3, 1]
    again = FakeSampler(echo)
    assert store.written(again, requests(7)[::-1], PARAMS) == texts[::-1]
    assert again.calls == []
    assert len(lines(store.path)) == 7


def test_only_what_is_missing_is_written(store):
    store.written(FakeSampler(echo), requests(3), PARAMS)
    sampler = FakeSampler(echo)
    store.written(sampler, requests(5), PARAMS)
    assert sampler.asked == requests(5)[3:]


def test_equal_requests_are_written_once(store):
    sampler = FakeSampler(echo)
    assert store.written(sampler, requests(2) * 3, PARAMS) == [echo(request) for request in requests(2)] * 3
    assert len(sampler.asked) == 2


@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_kill_loses_at_most_a_batch(store, dies_at):
    with pytest.raises(KeyboardInterrupt):
        store.written(FakeSampler(echo, dies_at), requests(8), PARAMS)
    assert len(lines(store.path)) == 3 * dies_at if dies_at else not store.path.exists()
    sampler = FakeSampler(echo)
    assert store.written(sampler, requests(8), PARAMS) == [echo(request) for request in requests(8)]
    assert sampler.asked == requests(8)[3 * dies_at :]


def test_a_line_torn_anywhere_is_written_again_and_nothing_else(tmp_path):
    whole = TextStore(tmp_path / "whole.jsonl", "m")
    expected = whole.written(FakeSampler(echo), requests(3), PARAMS)
    data = whole.path.read_bytes()
    for cut in range(len(data) + 1):
        torn = TextStore(tmp_path / f"{cut}.jsonl", "m")
        torn.path.write_bytes(data[:cut])
        sampler = FakeSampler(echo)
        assert torn.written(sampler, requests(3), PARAMS) == expected
        complete = data[: cut + 1].count(b"}\n") if data[cut : cut + 1] == b"\n" else data[:cut].count(b"}\n")
        assert sampler.asked == requests(3)[complete:]
        again = FakeSampler(echo)
        assert torn.written(again, requests(4), PARAMS)[:3] == expected
        assert again.asked == requests(4)[3:]


def test_foreign_lines_do_no_harm(store):
    store.path.parent.mkdir()
    store.path.write_bytes(b'\n[1]\n{"key": 3, "text": "x"}\n{"key": "a"}\n\xff\xfe\n{"key": "b", "text": null}')
    assert store.written(FakeSampler(echo), requests(1), PARAMS) == [echo(requests(1)[0])]
    assert store.written(FakeSampler(echo, dies_at=0), requests(1), PARAMS) == [echo(requests(1)[0])]


def test_the_first_entry_of_a_key_counts(store):
    first = store.written(FakeSampler(echo), requests(1), PARAMS)
    with store.path.open("a") as file:
        file.write(json.dumps({"key": store.key(requests(1)[0], PARAMS), "text": "later"}) + "\n")
    assert store.written(FakeSampler(echo), requests(1), PARAMS) == first


def test_everything_that_matters_is_in_the_key(store, tmp_path):
    one = Request([1, 2], ("a", 1))
    keys = {
        store.key(one, PARAMS),
        TextStore(store.path, "model-2").key(one, PARAMS),
        store.key(Request([1, 3], ("a", 1)), PARAMS),
        store.key(Request([1, 2], ("a", 2)), PARAMS),
        store.key(one, SamplingParams(9)),
        store.key(one, SamplingParams(8, temperature=0.0)),
        store.key(one, SamplingParams(8, top_p=0.5)),
        store.key(one, SamplingParams(8, seed=1)),
    }
    assert len(keys) == 8
    assert store.key(Request((1, 2), ("a", 1)), PARAMS) == store.key(one, PARAMS)
    assert TextStore(tmp_path / "elsewhere", "model-1").key(one, PARAMS) == store.key(one, PARAMS)


def test_a_progress_bar_counts_the_missing_texts(store, capsys):
    store.written(FakeSampler(echo), requests(2), PARAMS, "writing")
    capsys.readouterr()
    store.written(FakeSampler(echo), requests(6), PARAMS, "writing")
    assert "4/4" in capsys.readouterr().err
    store.written(FakeSampler(echo), requests(9), PARAMS)
    store.written(FakeSampler(echo), requests(9), PARAMS, "writing")
    assert capsys.readouterr().err == ""


def test_progress_bars_may_be_off_everywhere(store, capsys):
    progress_bars.disable_progress_bar()
    try:
        assert len(store.written(FakeSampler(echo), requests(4), PARAMS, "writing")) == 4
    finally:
        progress_bars.enable_progress_bar()
    assert capsys.readouterr().err == ""


def test_a_sampler_that_leaves_requests_out_is_caught(store):
    class Short(FakeSampler):
        def sample(self, requests, params, progress=None):
            return super().sample(requests, params)[1:]

    with pytest.raises(UniSDError, match="2 completions for 3 requests"):
        store.written(Short(echo), requests(3), PARAMS)


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(UniSDError, match="cannot read"):
        TextStore(tmp_path, "m").written(FakeSampler(echo), requests(1), PARAMS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UniSDError, match=r"cannot (read|write) .*file"):
        TextStore(tmp_path / "file" / "texts.jsonl", "m").written(FakeSampler(echo), requests(1), PARAMS)


def test_nothing_asked_nothing_written(store):
    assert store.written(FakeSampler(echo), [], PARAMS, "writing") == []
    assert not store.path.exists()


def test_the_store_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("UNISD_CACHE", str(tmp_path))
    assert TextStore.in_cache("cos_e", "m") == TextStore(tmp_path / "contexts" / "cos_e.jsonl", "m")
