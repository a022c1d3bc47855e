"""Whether the nets of finished runs are still there, for what runs them once a sweep is done."""

from __future__ import annotations

from fractions import Fraction

from offramp.errors import UserError
from offramp.runs.files import read_errors
from offramp.sweeps._trials import trials
from offramp.sweeps.file import Sweep

__all__ = ["check_weights"]


def check_weights(plan: Sweep) -> None:
    """Check that every run of a sweep that is finished has its weights.

    Args:
        plan: Of the sweep, whose runs have the learning rates that it names.

    Raises:
        UserError: The weights of one are gone.
    """
    for run in trials(plan, (Fraction(1),)):
        weights = run.folder / "weights.safetensors"
        with read_errors(weights):
            if run.finished and not weights.exists():
                raise UserError(
                    f"{run.folder} is finished, but its net is needed, and {weights.name} is gone; restore "
                    "it from a copy, or move the folder away, and the same command trains that run again"
                )
