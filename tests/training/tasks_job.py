"""What each of two processes does in test_task_runs.py: train on several tasks, and resume a stopped run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from attentive import Attentive, partly_labelled
from tiny_runs import Tripwire

from offramp import Recipe, fit
from offramp.training import Interruption

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.02, augment="none")
# one pass for all losses, also with what is learned beside the net; rows; weights that are kept; stages apart
METHODS = {
    "joint": {},
    "uncertainty": {},
    "pcgrad": {},
    "cagrad": {},
    "nash-mtl": {"shared": "union", "lean": True},
    "mgda": {"shared": "union", "every": 2},
    "graddrop": {},
    "meta-gf": {},
    "dr-mgf": {},
}
STOPPED = ("joint", "cagrad", "mgda", "dr-mgf")


def net() -> Attentive:
    """Without batch norm, whose statistics are each process's own."""
    torch.manual_seed(0)
    return Attentive(norm=False)


def recipe(method: str) -> Recipe:
    return RECIPE.replace(options=METHODS[method])


def main(out: Path) -> None:
    torch.set_num_threads(1)
    for method in METHODS:
        fit(net(), partly_labelled(), method, recipe(method), out / method, device="cpu", quiet=True)
    for method in STOPPED:
        data = partly_labelled(split=Tripwire)
        if os.environ["RANK"] == "1":
            data.train.at, data.train.act = 7, lambda: os.kill(os.getpid(), 15)
        folder = out / f"stopped-{method}"
        try:
            fit(net(), data, method, recipe(method), folder, device="cpu", quiet=True)
        except Interruption:
            (out / f"{folder.name}-{os.environ['RANK']}").touch()
        fit(net(), partly_labelled(), method, recipe(method), folder, resume=True, device="cpu", quiet=True)
    torch.distributed.barrier()  # a process that leaves while another still works may end it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
