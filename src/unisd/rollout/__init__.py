"""Who writes: one protocol, one sampler per engine."""

from unisd.rollout.base import Completion, Request, Sampler, SamplingParams
from unisd.rollout.torch_sampler import TorchSampler

__all__ = ["Completion", "Request", "Sampler", "SamplingParams", "TorchSampler"]
