"""What the paper claims (docs/method.md), and whether a study supports it, contradicts it, or cannot see it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unisd.studies.analysis.effects import LEVEL, Claim
from unisd.studies.results import Results


@dataclass(frozen=True)
class Judged:
    """One claim of the paper in the light of a study."""

    text: str
    where: str
    """Task and model."""
    verdict: str
    """supports, contradicts, or cannot see."""
    evidence: str


_BEATS = (
    ("self-distillation with all components is better than the model as it is", "unisd", "base"),
    ("self-distillation with all components is better than imitation", "unisd", "sft"),
)


def paper_claims(found: Sequence[Claim], results: Results) -> list[Judged]:
    """Judge the paper's claims, for each task and model on which a study has what they speak of."""
    return [judged for place in results.places for judged in _of(place.task, place.model, found, results)]


def _of(task: str, model: str, found: Sequence[Claim], results: Results) -> Iterator[Judged]:
    where, full = f"{task}, {model}", str(results.about.get("full", "unisd"))
    own = [claim for claim in found if (claim.task, claim.model) == (task, model)]
    for text, arm, other in _BEATS:
        arm = full if arm == "unisd" else arm
        for claim in own:
            if dict(claim.weights) == {arm: 1.0, other: -1.0}:
                yield Judged(text, where, _verdict(claim), str(claim.effect))
    for claim in own:
        if claim.kind == "adding":
            yield Judged(f"{claim.parts[0]} helps by itself", where, _verdict(claim), str(claim.effect))
    for claim in own:
        if claim.kind == "removing":
            verdict = {"supports": "contradicts", "contradicts": "supports"}.get(_verdict(claim), "cannot see")
            yield Judged(f"{claim.parts[0]} is needed in the whole", where, verdict, str(claim.effect))


def _verdict(claim: Claim) -> str:
    if claim.adjusted_p >= LEVEL:
        return "cannot see"
    return "supports" if claim.effect.estimate > 0 else "contradicts"
