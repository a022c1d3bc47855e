"""Many runs: the sweep's file, its trials, and where they run."""

from offramp.sweeps.file import Sweep, read_sweep, sweep_of
from offramp.sweeps.sweep import SweepResult, sweep

__all__ = ["Sweep", "SweepResult", "read_sweep", "sweep", "sweep_of"]
