"""Published tables and figures as commands: trained again, at any scale, beside what was published."""

from offramp.reproduce.catalogue import COMPUTATIONS, EXPERIMENTS, NOT_KNOWN
from offramp.reproduce.computation import Computation, ComputationPlan
from offramp.reproduce.estimate import Estimate, estimate
from offramp.reproduce.experiment import Experiment, Report, Row
from offramp.reproduce.planning import Plan, plan_of
from offramp.reproduce.published_sets import SETS, PublishedSet
from offramp.reproduce.reproduction import Reproduction, plan, reproduce

__all__ = [
    "COMPUTATIONS",
    "EXPERIMENTS",
    "NOT_KNOWN",
    "SETS",
    "Computation",
    "ComputationPlan",
    "Estimate",
    "Experiment",
    "Plan",
    "PublishedSet",
    "Report",
    "Reproduction",
    "Row",
    "estimate",
    "plan",
    "plan_of",
    "reproduce",
]
