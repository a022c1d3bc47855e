"""Many runs: the sweep's file, its trials, and where they run."""

from offramp.sweeps.file import Sweep, read_sweep, sweep_of
from offramp.sweeps.sweep import SweepResult, sweep
from offramp.sweeps.weights import check_weights

__all__ = ["Sweep", "SweepResult", "check_weights", "read_sweep", "sweep", "sweep_of"]
