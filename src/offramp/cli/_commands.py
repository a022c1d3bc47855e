"""Table of the commands: where each is defined and what it does."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["COMMANDS", "load"]

# Command -> its module, its dataclass and its summary. A module is imported when its command is given.
COMMANDS = {
    "train": ("_train", "TrainCommand", "train a net on a data set with a method, and evaluate every exit"),
    "eval": (
        "_evaluate",
        "EvalCommand",
        "evaluate every exit of a run on the test set of its data, or of other data",
    ),
    "predict": ("_predict", "PredictCommand", "predict the class of image files, and show where they leave"),
    "serve": ("_serve", "ServeCommand", "serve a bundle over HTTP, so that clients get answers early"),
    "predict-maps": (
        "_predict_maps",
        "PredictMapsCommand",
        "draw what a net predicts for every pixel of test images, beside the truth",
    ),
    "sweep": (
        "_sweep",
        "SweepCommand",
        "train methods x seeds under one recipe, several at a time, and compare them",
    ),
    "reproduce": (
        "_reproduce",
        "ReproduceCommand",
        "train the rows of a published table or figure again, ours beside what was published",
    ),
    "compare": ("_compare", "CompareCommand", "put runs side by side: table, paired differences, picture"),
    "report": (
        "_report",
        "ReportCommand",
        "write runs as one HTML page: tables, curves, a slider for the thresholds, pictures",
    ),
    "calibrate": (
        "_calibrate",
        "CalibrateCommand",
        "fit a policy for a budget, a latency, both, or a risk, by which images leave early",
    ),
    "budget": ("_budget", "BudgetCommand", "see accuracy against cost as more or fewer images leave early"),
    "export": (
        "_export",
        "ExportCommand",
        "write the net of a run as a folder that leaves early in any ONNX runtime, without torch",
    ),
    "diagnose": (
        "_diagnose",
        "DiagnoseCommand",
        "see where the exits of runs conflict, and what each of them needs",
    ),
    "toy": ("_toy", "ToyCommand", "see what the methods do on two problems of two parameters"),
    "cost": ("_cost", "CostCommand", "count params and FLOPs of every exit, and what training costs"),
    "nets": ("_listing", "NetsCommand", "list the networks"),
    "methods": ("_listing", "MethodsCommand", "list the training methods and their options"),
}


def load(name: str) -> Any:
    """Import a command, a frozen dataclass, by its name.

    Raises:
        UserError: It needs a package that is not installed.
    """
    module, kind, _ = COMMANDS[name]
    return getattr(importlib.import_module(f"offramp.cli.{module}"), kind)
