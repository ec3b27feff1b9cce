"""What a teacher says of completions: read packed, without gradient, in all contexts together."""

from unisd.teacher.scorer import ReadRequest, score

__all__ = ["ReadRequest", "score"]
