"""Mechanisms: one idea a file, what they may answer, and the loop over those that are on."""

from unisd.mechanisms.active import Mechanisms, former_names
from unisd.mechanisms.base import (
    GOLD,
    Acting,
    Curve,
    Mean,
    Mechanism,
    Reading,
    Run,
    StateTerm,
    Step,
    TeacherWeights,
    View,
    Weights,
)
from unisd.mechanisms.registry import known, register
from unisd.mechanisms.teacher import InitialTeacher, LiveTeacher

__all__ = [
    "GOLD",
    "Acting",
    "Curve",
    "InitialTeacher",
    "LiveTeacher",
    "Mean",
    "Mechanism",
    "Mechanisms",
    "Reading",
    "Run",
    "StateTerm",
    "Step",
    "TeacherWeights",
    "View",
    "Weights",
    "former_names",
    "known",
    "register",
]
