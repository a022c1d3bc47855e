"""Many runs: the sweep's file, its trials, and where they run."""

from offramp.sweeps.file import Sweep, read_sweep
from offramp.sweeps.sweep import Swept, sweep

__all__ = ["Sweep", "Swept", "read_sweep", "sweep"]
