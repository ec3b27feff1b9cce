"""The teacher: whose weights, and what it says of a completion."""

from unisd.teacher.scorer import View, score
from unisd.teacher.weights import Teacher, TeacherKind

__all__ = ["Teacher", "TeacherKind", "View", "score"]
