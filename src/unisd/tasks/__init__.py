"""What is learned and how it is graded: tasks, and the registry that finds them by name."""

from unisd.tasks.base import Example, Grade, NegativeRequest, Task
from unisd.tasks.parallel import grade_all
from unisd.tasks.registry import get, names, register, summary

__all__ = ["Example", "Grade", "NegativeRequest", "Task", "get", "grade_all", "names", "register", "summary"]
