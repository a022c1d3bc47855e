"""Leaving early: policies, their calibration, and the router that really stops computing at the exit."""

from offramp.exits.confidence import (
    CONFIDENCES,
    Confidence,
    Ensemble,
    Entropy,
    Margin,
    MaxSoftmax,
    Patience,
    Reading,
)
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.exits.router import Answer, Router

__all__ = [
    "CONFIDENCES",
    "Answer",
    "Confidence",
    "Ensemble",
    "Entropy",
    "Margin",
    "MaxSoftmax",
    "PathCosts",
    "Patience",
    "Policy",
    "Reading",
    "Router",
]
