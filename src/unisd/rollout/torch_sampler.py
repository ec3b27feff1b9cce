"""The sampler that runs in this process, on the model as transformers loaded it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unisd.devices import has_float64
from unisd.errors import UniSDError, UsageError
from unisd.fast.merged import merged_weights
from unisd.files import stable_integer
from unisd.models.load import base_model
from unisd.models.trust import trusted_reader
from unisd.models.vocabulary import check_ids
from unisd.rollout.base import Completion, Request, SamplingParams
from unisd.rollout.chat import template_ends
from unisd.rollout.filters import filtered, seen_tokens
from unisd.rollout.thoughts import readable

# Tokens of the vocabulary that are searched together: the square root of a usual size, so that both searches are short.
_BLOCK = 256


class TorchSampler:
    """Writes completions in batches of prompts of like length; finished rows leave the batch.

    Each completion draws from a random stream of its own, seeded by the sampling seed and the request's key, so it does
    not depend on its neighbours, the batch size or the rank.

    Args:
        model: an unwrapped causal language model (PEFT or plain); it is put into evaluation mode while it writes.
        tokenizer: the model's tokenizer.
        batch_size: completions written at a time.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, batch_size: int = 32) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        # A base model may not declare the token with which the chat template ends a turn.
        self.end_tokens = end_tokens(model, tokenizer) | template_ends(tokenizer)
        self.vocabulary: int = base_model(model).get_input_embeddings().weight.shape[0]  # type: ignore[operator, index]

    def sample(
        self, requests: Sequence[Request], params: SamplingParams, progress: str | None = None
    ) -> list[Completion]:
        """Write one completion per request, in the order of the requests.

        Raises:
            UsageError: a prompt without tokens, or with one that the model does not have.
            UniSDError: the model's logits are not finite.
        """
        from tqdm.auto import tqdm

        empty = next((request for request in requests if not request.prompt_ids), None)
        if empty is not None:
            raise UsageError(f"a prompt without tokens cannot be continued (request {empty.key}); give it text")

        check_ids(self.model, self.tokenizer, [request.prompt_ids for request in requests])
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        written: dict[int, Completion] = {}
        training = self.model.training
        self.model.eval()
        try:
            with (
                torch.no_grad(),
                merged_weights(self.model),
                tqdm(total=len(requests), desc=progress, disable=progress is None, unit="answer", leave=False) as bar,
            ):
                for start in range(0, len(order), self.batch_size):
                    chosen = order[start : start + self.batch_size]
                    batch = _Batch(self.model, self.end_tokens, [requests[i] for i in chosen], params)
                    written.update(zip(chosen, batch.write(), strict=True))
                    bar.update(len(chosen))
        finally:
            self.model.train(training)
        return [written[i] for i in range(len(requests))]

    def decode(self, completion: Completion) -> str:
        """Return the completion's text without special tokens, but for the marks of thoughts."""
        return readable(self.tokenizer, completion.ids)


class _Batch:
    """One batch on its way from prompts to completions."""

    def __init__(
        self, model: nn.Module, ends: frozenset[int], requests: Sequence[Request], params: SamplingParams
    ) -> None:
        self.reader = trusted_reader(model)(model)
        self.params = params
        self.device = self.reader.device
        # Running sums are made in double precision, on the CPU where the device has none.
        self.home = self.device if has_float64(self.device) else torch.device("cpu")
        self.ends = ends
        self.prompts = [list(request.prompt_ids) for request in requests]
        # One number a token decides it, drawn ahead: a row's stream depends on nothing but its own key.
        self.draws = (
            torch.stack([_stream(params, request) for request in requests]).to(self.home)
            if params.temperature > 0
            else None
        )
        self.outputs: list[list[int]] = [[] for _ in requests]
        self.finished = [False] * len(requests)
        self.alive = list(range(len(requests)))
        self.seen: Tensor | None = None

    def write(self) -> list[Completion]:
        """Decode until every row has ended or run into the limit."""
        scores = self.reader.begin(self.prompts)
        if self.params.repetition_penalty != 1:
            self.seen = seen_tokens(self.prompts, scores)
        for step in range(self.params.max_new_tokens):
            tokens = self._choose(scores, step)
            staying = self._take(tokens.tolist())
            if self.seen is not None:
                self.seen = self.seen.scatter(-1, tokens[:, None].to(self.device), True)[staying]
            if not self.alive or step + 1 == self.params.max_new_tokens:
                break
            if len(staying) < len(scores):
                self.reader.keep(staying)
            newest = torch.tensor([self.outputs[row][-1:] for row in self.alive], device=self.device)
            positions = torch.tensor([[len(self.prompts[row]) + step] for row in self.alive])
            scores = self.reader.read(newest, positions)[:, -1]
        return [Completion(ids, done) for ids, done in zip(self.outputs, self.finished, strict=True)]

    def _choose(self, logits: Tensor, step: int) -> Tensor:
        """Pick a token per living row, ``[B, V]`` to ``[B]``: where the row's own number falls in the distribution.

        It is -1 where the logits are not finite.
        """
        scores = filtered(logits, self.params, self.seen)
        if self.draws is None:
            peak, token = scores.max(-1)
            return torch.where(peak.isfinite(), token, -1)
        return _token_at(scores.to(self.home), self.draws[self.alive, step])

    def _take(self, tokens: list[int]) -> list[int]:
        """Append one token to each living row; return the rows (of this batch as it stands) that go on."""
        if min(tokens) < 0:
            raise UniSDError("the model's logits are not finite; load it in bfloat16 or float32, or check its weights")
        for index, token in zip(self.alive, tokens, strict=True):
            self.outputs[index].append(token)
            self.finished[index] = token in self.ends
        staying = [row for row, index in enumerate(self.alive) if not self.finished[index]]
        self.alive = [self.alive[row] for row in staying]
        return staying


def _stream(params: SamplingParams, request: Request) -> Tensor:
    """Return a request's random numbers in [0, 1), one a token, on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(stable_integer(params.seed, *request.key))
    return torch.rand(params.max_new_tokens, dtype=torch.float64, generator=generator)


def _token_at(scores: Tensor, draws: Tensor) -> Tensor:
    """Return the token at which the softmax's running sum passes a number in [0, 1): ``[B, V]``, ``[B]`` to ``[B]``.

    It is -1 where the largest score is not finite: nothing is read from the device here, for it would have to wait.
    Blocks of the vocabulary are added up first, and only the block that is hit is searched.
    """
    peak = scores.amax(-1, keepdim=True)
    weights = scores.sub(peak).exp_()
    blocks = functional.pad(weights, (0, -weights.shape[-1] % _BLOCK)).unflatten(-1, (-1, _BLOCK))
    ends = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    at = draws[:, None] * ends[:, -1:]
    block = _first_beyond(ends, at)
    before = torch.where(block > 0, ends.gather(-1, (block - 1).clamp(min=0)), 0.0)
    rows = torch.arange(len(scores), device=scores.device)[:, None]
    block = block.clamp(max=blocks.shape[1] - 1)  # what is no number is found nowhere
    inside = blocks[rows, block].squeeze(1).cumsum(-1, dtype=torch.float64)
    token = (block * _BLOCK + _first_beyond(inside, at - before)).squeeze(-1)
    return torch.where(peak.squeeze(-1).isfinite(), token, -1)


def _first_beyond(sums: Tensor, at: Tensor) -> Tensor:
    """Return where running sums ``[B, N]`` first exceed ``at`` ``[B, 1]``: never where the last step was zero.

    ``at`` is less than the whole sum but for rounding.
    """
    total = sums[:, -1:]
    return torch.searchsorted(sums, torch.minimum(at, total.nextafter(torch.zeros_like(total))), right=True)


def end_tokens(model: nn.Module, tokenizer: Any) -> frozenset[int]:
    """Return every token id that ends a turn: the generation config's, the model config's and the tokenizer's."""
    ids: set[int] = set()
    for holder in (tokenizer, getattr(model, "generation_config", None), getattr(model, "config", None)):
        value = getattr(holder, "eos_token_id", None)
        if value is not None:
            ids.update([value] if isinstance(value, int) else value)
    known = tokenizer.get_vocab()
    return frozenset(ids | {known[token] for token in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>") if token in known})
