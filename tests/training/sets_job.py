"""What each of several processes does in test_sets_torchrun.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from several_sets import partly_labelled, two_sets, two_tasks
from tiny_runs import for_method

from offramp import Recipe, fit

RECIPE = Recipe(epochs=2, batch_size=4, lr=0.05, augment="none", val_fraction=0)
PARTLY = ("joint", "cagrad", "nash-mtl", "mgda", "uncertainty", "meta-gf", "dr-mgf")
PARTLY += ("mgda-ub", "adatask")
SETS = ("joint", "cagrad", "dr-mgf", "adatask")
STREAMS = ("together", "in-turn")


def runs(out: Path):
    """Every run: what to train on, by what, and its folder."""
    for method in PARTLY:
        yield partly_labelled(), method, for_method(RECIPE, method), out / f"partly-{method}"
    for streams in STREAMS:
        for method in SETS:
            recipe = RECIPE.replace(streams=streams, batch_size=12, proportions={"kind": 2})
            yield two_sets(), method, for_method(recipe, method), out / f"{streams}-{method}"


def main(out: Path) -> None:
    torch.set_num_threads(1)
    for data, method, recipe, folder in runs(out):
        fit(two_tasks(), data, method, recipe, folder, device="cpu", quiet=True)
    (out / f"done-{os.environ['RANK']}").touch()
    torch.distributed.barrier()  # a process that leaves while another still works may end it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
