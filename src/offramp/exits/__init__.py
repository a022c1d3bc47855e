"""Leaving early: policies, their calibration, and the router that really stops computing at the exit."""

from offramp.exits._engine import SampleAnswer
from offramp.exits.calibrate import calibrate
from offramp.exits.confidence import (
    CONFIDENCES,
    Confidence,
    Ensemble,
    Entropy,
    Margin,
    MaxSoftmax,
    Patience,
    Reading,
    SingleReading,
)
from offramp.exits.decisions import Decisions, decide
from offramp.exits.exit_logits import ExitLogits
from offramp.exits.path_costs import PathCosts
from offramp.exits.policy import Policy
from offramp.exits.router import Answer, Router
from offramp.exits.streaming import StreamingRouter

__all__ = [
    "CONFIDENCES",
    "Answer",
    "Confidence",
    "Decisions",
    "Ensemble",
    "Entropy",
    "ExitLogits",
    "Margin",
    "MaxSoftmax",
    "PathCosts",
    "Patience",
    "Policy",
    "Reading",
    "Router",
    "SampleAnswer",
    "SingleReading",
    "StreamingRouter",
    "calibrate",
    "decide",
]
