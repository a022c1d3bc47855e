"""Published tables and figures as commands: trained again, at any scale, beside what was published."""

from offramp.reproduce.catalogue import EXPERIMENTS
from offramp.reproduce.estimate import Estimate, estimate
from offramp.reproduce.experiment import Experiment, Report, Row
from offramp.reproduce.planning import Plan, plan_of
from offramp.reproduce.published_sets import SETS, PublishedSet
from offramp.reproduce.reproduction import Reproduction, plan, reproduce

__all__ = [
    "EXPERIMENTS",
    "SETS",
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
