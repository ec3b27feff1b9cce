"""The mathematics of the objective: pure functions on tensors, knowing nothing but torch.

Tokens are flat: all completion tokens of a step, or of one row of it, lie along one dimension of N, without padding and
without masks; `sequence` [N] tells completions apart where that matters. Loss terms take a finished coefficient per
token, so that sums over rows and ranks are exact.
"""

from unisd.objective.clipping import clip, quantile
from unisd.objective.coefficients import Aggregation, effective_sample_size, local_total, token_coefficients
from unisd.objective.divergence import OF_TOKENS, DivergenceKind, divergence, divergence_bound, token_logprobs
from unisd.objective.fused import FusedResult, fused_objective, sampled_logprobs
from unisd.objective.head import Head, logits
from unisd.objective.parts import Gate, Seen, Target, TokenTerm, at
from unisd.objective.problem import Problem
from unisd.objective.support import Chooser, Support

__all__ = [
    "OF_TOKENS",
    "Aggregation",
    "Chooser",
    "DivergenceKind",
    "FusedResult",
    "Gate",
    "Head",
    "Problem",
    "Seen",
    "Support",
    "Target",
    "TokenTerm",
    "at",
    "clip",
    "divergence",
    "divergence_bound",
    "effective_sample_size",
    "fused_objective",
    "local_total",
    "logits",
    "quantile",
    "sampled_logprobs",
    "token_coefficients",
    "token_logprobs",
]
