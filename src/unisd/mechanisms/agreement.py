"""Multi-teacher agreement: trust a token, or a whole completion, less where the teacher's contexts disagree about it.

The auxiliary contexts are probes, not targets, and the gold context is not one of them. Their log-probabilities of the
sampled tokens, at temperature 1, set weights. Source: UniSD (arXiv 2605.06597), section 3.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from unisd.contexts import Need
from unisd.errors import UsageError
from unisd.mechanisms.base import Acting, Curve, Mean, Mechanism, Run, Step, View, Weights
from unisd.objective import effective_sample_size, quantile
from unisd.settings import Field, group

Statistic = Literal["variance", "range"]
"""Disagreement over contexts: population variance, or largest minus smallest."""


@group
class AgreementSettings:
    """Multi-teacher agreement: tokens or completions on which the probes disagree count less."""

    granularity: Literal["none", "token", "sequence"] = "none"
    """Where weights are formed; none switches the mechanism off."""
    gamma: float = Field(default=1.0, ge=0)
    """How strongly disagreement lowers a weight. The official 0.01 and 0.001 are all but inert."""
    statistic: Statistic = "variance"
    """How the probes' log-probabilities are compared: population variance, or maximum − minimum."""
    quantile: float = Field(default=0.95, gt=0, le=1)
    """Token level: disagreement is measured in units of this quantile of the step's disagreements."""
    cap: float = Field(default=10.0, gt=0)
    """Token level: the largest scaled disagreement that counts."""
    floor: float = Field(default=0.01, ge=0, le=1)
    """Token level: the smallest weight."""

    @property
    def on(self) -> bool:
        """Whether the mechanism is switched on."""
        return self.granularity != "none"


class Agreement(Mechanism):
    """Reads every completion in K auxiliary contexts and weighs it by how much they agree."""

    name = "agreement"
    summary = "tokens or completions on which several contexts disagree count less"
    Settings = AgreementSettings
    curves = (
        Curve("Agreement: weights", "weight",
              {"agreement/weight_max": "largest", "agreement/weight_mean": "mean", "agreement/weight_min": "smallest"},
              "Where several contexts disagree, weights are small."),
        Curve("Agreement: tokens that count", "share", {"agreement/effective_sample_size": "effective sample size"},
              "1: all weigh alike."),
    )  # fmt: skip
    settings: AgreementSettings

    def check(self, others: Sequence[Mechanism]) -> None:
        """Refuse a single probe, and a loss without a divergence to weigh."""
        if self.config.contexts.count < 2:
            raise UsageError(
                f"contexts.count: {self.config.contexts.count} probe cannot disagree with itself; "
                "agreement needs 2 or more"
            )

    def inert(self, steps: int | None) -> list[str]:
        """Say that a strength of 0 does nothing."""
        if self.settings.gamma == 0:
            return ["agreement.gamma: 0 gives every token weight 1; raise it or set granularity to none"]
        return []

    def unread(self) -> dict[str, str]:
        """Return what only weights of tokens read."""
        whole = "completions are weighed as a whole (granularity=sequence)"
        return dict.fromkeys(("quantile", "cap", "floor"), whole) if self.settings.granularity == "sequence" else {}

    def needs(self) -> list[Need]:
        """Return K auxiliary contexts a row."""
        contexts = self.config.contexts
        return [Need("auxiliary", contexts.kind, contexts.count)]

    def views(self) -> list[View]:
        """Return one reading a context."""
        return [View(f"agreement/{k}", "auxiliary", k, temperature=1.0) for k in range(self.config.contexts.count)]

    def weigh(self, step: Step) -> Weights:
        """Weigh tokens or completions; scale and normaliser are those of the whole step."""
        settings = self.settings
        probes = torch.stack([step.readings[view.name].values for view in self.views()])
        if settings.granularity == "token":
            scale = disagreement_scale(step.ranks.join(disagreement(probes, settings.statistic)), settings.quantile)
            weights = token_weights(probes, settings.gamma, settings.statistic, scale, settings.cap, settings.floor)
            step.values["agreement"] = weights
            return Weights(token=weights)
        weights = sequence_weights(probes, step.sequence, len(step.items), settings.gamma, settings.statistic)
        step.values["agreement"] = weights
        return Weights(sequence=weights)

    def measure(self, step: Step) -> dict[str, float | Mean]:
        """Return the spread of the weights."""
        weights = step.ranks.join(step.values["agreement"])
        return {
            "agreement/weight_min": float(weights.min()),
            "agreement/weight_mean": float(weights.mean()),
            "agreement/weight_max": float(weights.max()),
            "agreement/effective_sample_size": effective_sample_size(weights),
        }

    def acting(self, run: Run) -> Acting:
        """It acts where the weights are spread by more than a tenth."""
        low, high = run.mean("agreement/weight_min"), run.mean("agreement/weight_max")
        size = run.mean("agreement/effective_sample_size")
        return Acting(
            f"agreement ({self.settings.granularity})",
            f"weights {low:.2f} to {high:.2f}, effective sample size {size:.1%}",
            high - low > 0.1,
            f"raise agreement.gamma (now {self.settings.gamma:g}): the weights are all but equal",
        )


def disagreement(logprobs: Tensor, statistic: Statistic) -> Tensor:
    """Disagreement over the first dimension.

    Source: UniSD section 3, multi-teacher agreement. The variance divides by K everywhere in this library.

    Args:
        logprobs: [K, N] in nats, K >= 2 contexts.
        statistic: `variance` (nats²) or `range` (nats).

    Returns:
        [N], 0 or more, float32 or float64.

    Raises:
        ValueError: fewer than two contexts, not two dimensions, or an unknown statistic.
    """
    if logprobs.dim() != 2:
        raise ValueError(f"probe log-probabilities must be [contexts, tokens], got {tuple(logprobs.shape)}")
    if logprobs.shape[0] < 2:
        raise ValueError(f"agreement needs at least two auxiliary contexts, got {logprobs.shape[0]}")
    if statistic not in get_args(Statistic):
        raise ValueError(f"unknown statistic {statistic!r}: choose variance or range")
    wide = logprobs.to(torch.promote_types(logprobs.dtype, torch.float32))
    if statistic == "variance":
        return wide.var(dim=0, correction=0)
    return wide.amax(dim=0) - wide.amin(dim=0)


def disagreement_scale(delta: Tensor, quantile_level: float = 0.95, minimum: float = 1e-6) -> Tensor:
    """The disagreement that counts as "one unit" in a step.

    Source: UniSD section 3: the 0.95-quantile of the token disagreement over the batch. For several ranks, gather
    `delta` first.

    Args:
        delta: [N] from `disagreement`, every token of the step.
        quantile_level: in [0, 1].
        minimum: smallest scale that may be returned, positive; keeps the weights finite where contexts agree.

    Returns:
        Scalar tensor in the unit of `delta`, without gradient.

    Raises:
        ValueError: no tokens, a quantile outside [0, 1], or a minimum that is not positive.
    """
    if not minimum > 0.0:
        raise ValueError(f"minimum scale must be positive, got {minimum}")
    return quantile(delta, quantile_level).clamp_min(minimum)


def token_weights(
    probe_logprobs: Tensor,
    gamma: float,
    statistic: Statistic,
    scale: float | Tensor,
    cap: float = 10.0,
    floor: float = 0.01,
) -> Tensor:
    """Weight per token: w_t = max(1 / (1 + gamma min(delta_t / scale, cap)), floor).

    Source: UniSD section 3, token-level agreement.

    Args:
        probe_logprobs: [K, N] in nats, K >= 2.
        gamma: strength, 0 or more; 0 gives weight 1 everywhere.
        statistic: `variance` or `range`.
        scale: the step's `disagreement_scale`: the same number for all rows and ranks.
        cap: largest scaled disagreement that still counts.
        floor: smallest weight, in [0, 1].

    Returns:
        [N] in [floor, 1], without gradient.

    Raises:
        ValueError: as `disagreement`; or a negative gamma, a cap that is not positive, a floor outside [0, 1].
    """
    _check_strength(gamma, floor)
    if not cap > 0.0:
        raise ValueError(f"agreement cap must be positive, got {cap}")
    scaled = (disagreement(probe_logprobs.detach(), statistic) / scale).clamp_max(cap)
    return (1.0 / (1.0 + gamma * scaled)).clamp_min(floor)


def sequence_weights(
    probe_logprobs: Tensor,
    sequence: Tensor,
    n_sequences: int,
    gamma: float,
    statistic: Statistic,
    floor: float = 1e-6,
) -> Tensor:
    """Weight per completion: w = max(exp(-gamma delta), floor), delta taken over the contexts' mean log-probabilities.

    Source: UniSD section 3, sequence-level agreement. A weight that is constant within a sequence only matters if the
    normaliser spans the whole step: see `unisd.objective.coefficients`.

    Args:
        probe_logprobs: [K, N] in nats, K >= 2; every token of every sequence that is listed.
        sequence: [N] int64, the index of each token's sequence, in [0, n_sequences).
        n_sequences: S.
        gamma: strength, 0 or more.
        statistic: `variance` or `range`.
        floor: smallest weight, in [0, 1].

    Returns:
        [S] in [floor, 1], without gradient; 1 for a sequence without tokens.

    Raises:
        ValueError: as `disagreement`; or shapes that do not fit, a negative gamma, a floor outside [0, 1].
    """
    _check_strength(gamma, floor)
    if probe_logprobs.dim() != 2 or probe_logprobs.shape[1:] != sequence.shape:
        raise ValueError(f"probes {tuple(probe_logprobs.shape)} and sequence {tuple(sequence.shape)} do not fit")
    wide = probe_logprobs.detach().to(torch.promote_types(probe_logprobs.dtype, torch.float32))
    sums = wide.new_zeros(wide.shape[0], n_sequences).index_add_(1, sequence, wide)
    lengths = torch.bincount(sequence, minlength=n_sequences).clamp_min(1)
    delta = disagreement(sums / lengths, statistic)
    return torch.exp(-gamma * delta).clamp_min(floor)


def _check_strength(gamma: float, floor: float) -> None:
    if not gamma >= 0.0:
        raise ValueError(f"gamma must be 0 or more, got {gamma}")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"weight floor must be in [0, 1], got {floor}")
