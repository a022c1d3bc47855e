"""Table of the commands: where each is defined and what it does."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["COMMANDS", "load"]

# Command -> its module, its dataclass and what it does. A module is imported when its command is given.
COMMANDS = {
    "train": ("train", "Train", "train a net on a data set with a method, and evaluate every exit"),
    "eval": (
        "evaluate",
        "Evaluate",
        "evaluate every exit of a run on the test set of its data, or of other data",
    ),
    "sweep": (
        "sweep",
        "SweepOf",
        "train methods x seeds under one recipe, several at a time, and compare them",
    ),
    "compare": ("compare", "Compare", "put runs side by side: table, paired differences, picture"),
    "diagnose": ("diagnose", "Diagnose", "see where the exits of runs conflict, and what each of them needs"),
    "toy": ("toy", "Toy", "see what the methods do on two problems of two parameters"),
    "cost": ("cost", "CostOf", "count params and FLOPs of every exit, and what training costs"),
    "nets": ("listing", "Nets", "list the networks"),
    "methods": ("listing", "Methods", "list the training methods and their options"),
}


def load(name: str) -> Any:
    """Import a command, a frozen dataclass, by its name.

    Raises:
        UserError: It needs a package that is not installed.
    """
    module, kind, _ = COMMANDS[name]
    return getattr(importlib.import_module(f"offramp.cli.{module}"), kind)
