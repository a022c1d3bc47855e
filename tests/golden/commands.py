"""Runs the command line's numbers-giving commands on tiny trainings, and writes what they said as reference.

``PYTHONPATH=src python tests/golden/commands.py`` (in the repository's root, one thread) writes
``data/commands.json`` and the run folders ``data/old_runs``. Both hold what the commit gave that the README
names; write them again only where a change of the numbers is meant.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
METHODS = ("joint", "dfs", "ge", "kd", "cagrad", "dr-mgf")
TRAIN = ["train", "--data", "digits", "--net", "vgg7:width=4", "--seed", "5", "--epochs", "2"]
SETTINGS = ["train_limit=72", "test_limit=40", "batch_size=16", "lr=0.005", "augment=none"]
DIAGNOSE = ["--batches", "2", "--step", "0.01", "--what", "conflict", "filters", "importance", "convergence"]
TIMES = ("seconds", "images_per_second")


def offramp(*words: object) -> Any:
    """The JSON document of a command that succeeds."""
    from offramp.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*map(str, words), "--json"])
    assert code == 0, f"offramp {' '.join(map(str, words))} ended with {code}"
    return json.loads(out.getvalue())


def metrics(run: Path) -> list[dict[str, float]]:
    """The epochs of a run's metrics.csv, without the times."""
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def train(folder: Path) -> dict[str, Any]:
    """Train every method: its document, and its epochs."""
    said = {}
    for method in METHODS:
        document = offramp(*TRAIN, "--method", method, "--out", folder / method, "--set", *SETTINGS)
        said[method] = {"document": document, "epochs": metrics(folder / method)}
    return said


def evaluate(folder: Path) -> dict[str, Any]:
    """Evaluate every method's run again."""
    return {method: offramp("eval", folder / method) for method in METHODS}


def compare(folder: Path) -> Any:
    """Put all runs side by side."""
    return offramp("compare", *(folder / method for method in METHODS))


def diagnose(folder: Path) -> Any:
    """Diagnose a plain run and one of DR-MGF, which has routes."""
    return {
        method: offramp("diagnose", folder / method, "--out", folder / "diagnosis", *what)
        for method, what in (("joint", DIAGNOSE), ("dr-mgf", [*DIAGNOSE[:-4], "routes"]))
    }


def cost() -> dict[str, Any]:
    """Count the training of the methods that sum their losses; the command refuses the others."""
    return {
        method: offramp("cost", "--net", "vgg7:width=8", "--method", method)
        for method in METHODS
        if method not in ("cagrad", "dr-mgf")
    }


def sweep(folder: Path) -> Any:
    """Train and compare by a sweep of one run."""
    file = folder / "sweep.yaml"
    settings = "\n".join(text.replace("=", ": ") for text in SETTINGS)
    file.write_text(
        f"data: digits\nnet: vgg7:width=4\nout: {folder / 'sweep'}\nseeds: [5]\nmethods: [joint]\n"
        f"epochs: 2\n{settings}\n",
        encoding="utf-8",
    )
    return offramp("sweep", file)


def commands(folder: Path) -> dict[str, Any]:
    """What each command says, by its name."""
    return {
        "train": train(folder),
        "eval": evaluate(folder),
        "compare": compare(folder),
        "diagnose": diagnose(folder),
        "cost": cost(),
        "sweep": sweep(folder),
    }


def stopped(method: str, folder: Path, after: int) -> None:
    """Train until Ctrl-C comes in an optimiser step, by number, and leave the run as it then lies."""
    import torch

    from offramp.cli import main

    plain, steps = torch.optim.SGD.step, itertools.count(1)

    def step(*args: Any, **kwargs: Any) -> Any:
        if next(steps) == after:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(*args, **kwargs)

    torch.optim.SGD.step = step  # type: ignore[method-assign]
    code = main([*TRAIN, "--method", method, "--out", str(folder), "--set", *SETTINGS])
    torch.optim.SGD.step = plain  # type: ignore[method-assign]
    assert code == 128 + signal.SIGINT
    assert not (folder / "result.json").exists()


def plain(document: Any, folder: Path) -> Any:
    """A document without what differs from run to run: where it was written, and how long it took."""
    if isinstance(document, dict):
        return {k: None if "seconds" in k else plain(v, folder) for k, v in document.items()}
    if isinstance(document, list):
        return [plain(value, folder) for value in document]
    return document.replace(str(folder), "RUNS") if isinstance(document, str) else document


def write() -> None:
    """Write the reference again."""
    old, leave = DATA / "old_runs", shutil.ignore_patterns
    shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = plain(commands(folder), folder)
        shutil.copytree(folder / "joint", old / "joint", ignore=leave("tensorboard"))
        shutil.copytree(folder / "dr-mgf", old / "dr-mgf", ignore=leave("tensorboard", "checkpoint"))
        for method, after in (("dfs", 7), ("dr-mgf", 40)):
            stopped(method, folder / "stopped" / method, after)
            shutil.copytree(
                folder / "stopped" / method, old / f"stopped-{method}", ignore=leave("tensorboard")
            )
    (DATA / "commands.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
