"""A run on disk: record, result, weights, checkpoint and log, written and read in one place."""

from offramp.runs.pretrained import Pretrained, load_pretrained
from offramp.runs.result import Result
from offramp.runs.run import Run

__all__ = ["Pretrained", "Result", "Run", "load_pretrained"]
