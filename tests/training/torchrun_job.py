"""What each of several processes does in test_torchrun.py: train, and train with an interruption."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import torch
from short_of_memory import Limit
from tiny_dense import dense_data, dense_net
from tiny_runs import Tripwire, for_method, tiny_data, tiny_net
from two_targets import on_one_rank, two_decoders, two_heads, two_targets

from offramp import Recipe, UserError, fit
from offramp.runs import lock
from offramp.runs.beginning import begin
from offramp.runs.folder import RunFolder
from offramp.training import Interruption

RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, augment="none")
LONG = RECIPE.replace(schedule="constant")
SHORT = LONG.replace(epochs=2)
DENSE = LONG.replace(batch_size=4, last_epochs=2)
# plain backward passes; what averages rows by itself; a state that all processes must agree on; stages apart
METHODS = ("dfs", "bdl-2", "pcgrad", "nash-mtl", "graddrop", "kd", "kd+dr-mgf", "uncertainty")
METHODS += ("gradnorm", "dfs+auto-lambda", "eed+famo", "survivors+dtp", "gradient-remedy", "gradvac")
METHODS += ("mgda-ub", "adatask", "hdkd", "ztw", "rotograd")
ACCUMULATED = ("dfs", "bdl-2", "nash-mtl", "kd", "uncertainty")
DECODERS = ("dfs", "dfs+cagrad", "dfs-no-reference", "rotograd")
STOPPED = ("dfs", "dr-mgf", "dwa", "auto-lambda")
# with targets on one rank only
PARTIAL = ("joint", "auto-lambda", "cagrad", "nash-mtl", "uncertainty", "dr-mgf")
SHORT_OF_MEMORY = ("dfs", "nash-mtl", "kd")
ONCE = RECIPE.replace(epochs=1)


def refused_by_another_writer(out: Path) -> None:
    """Resume a run that is locked, and begin one where another has begun just before; only rank 0 sees it."""
    lock.PATIENCE = 0.1
    first = os.environ["RANK"] == "0"
    with lock.Lock(out / "extended") if first else contextlib.nullcontext():
        refused(out / "extended", LONG.replace(epochs=4), out / f"locked-{os.environ['RANK']}")
    if first:
        own = RunFolder.begin
        RunFolder.begin = lambda self, *rest: (begin(self.path, b"{}").release(), own(self, *rest))[1]
    refused(out / "meanwhile", LONG, out / f"begun-{os.environ['RANK']}")


def refused(folder: Path, recipe: Recipe, told: Path) -> None:
    try:
        net = tiny_net(norm=False, dropout=0.0)
        fit(net, tiny_data(), "dfs", recipe, folder, resume=True, device="cpu", quiet=True)
    except UserError as error:
        told.write_text(str(error))


def main(out: Path) -> None:
    torch.set_num_threads(1)
    for method in METHODS:
        plain = tiny_net(norm=False, dropout=0.0)
        recipe = for_method(RECIPE, method)
        fit(plain, tiny_data(), method, recipe, out / method, device="cpu", quiet=method != "dfs")
    for method in DECODERS:
        folder = out / f"decoders-{method}"
        fit(two_decoders(), two_targets(lack=0.3), method, RECIPE, folder, device="cpu", quiet=True)
    fit(dense_net(plain=True), dense_data(), "pcgrad", DENSE, out / "dense", device="cpu", quiet=True)
    for method in PARTIAL:
        folder = out / f"partial-{method}"
        fit(two_heads(), on_one_rank(8), method, ONCE, folder, device="cpu", quiet=True)
    for recipe in (SHORT, LONG):
        net = tiny_net(norm=False, dropout=0.0)
        fit(net, tiny_data(), "dfs", recipe, out / "extended", resume=True, device="cpu", quiet=True)
    for method in ACCUMULATED:
        cut, folder = RECIPE.replace(accumulate=3), out / f"accumulated-{method}"
        net = tiny_net(norm=False, dropout=0.0)
        fit(net, tiny_data(), method, cut, folder, device="cpu", quiet=True)
    for method in SHORT_OF_MEMORY:  # on one rank
        net = tiny_net(norm=False, dropout=0.0)
        net.stages[1].append(Limit(2 if os.environ["RANK"] == "1" else 8))
        folder = out / f"short-{method}"
        fit(net, tiny_data(), method, ONCE.replace(accumulate="auto"), folder, device="cpu", quiet=True)
    for method in STOPPED:
        alone, stopped = out / f"alone-{method}", out / f"stopped-{method}"
        fit(tiny_net(), tiny_data(), method, RECIPE, alone, device="cpu", quiet=True)
        data = tiny_data(split=Tripwire)
        if os.environ["RANK"] == "1":  # the other process must hear of it
            data.train.at, data.train.act = 7, lambda: os.kill(os.getpid(), 15)
        try:
            fit(tiny_net(), data, method, RECIPE, stopped, device="cpu", quiet=True)
        except Interruption as stop:
            (out / f"{stopped.name}-{os.environ['RANK']}").write_text(str(stop.signum))
        fit(tiny_net(seed=9), tiny_data(), method, RECIPE, stopped, resume=True, device="cpu", quiet=True)
    try:
        unreached = RECIPE.replace(weights=[0, 1])
        fit(tiny_net(), tiny_data(), "joint", unreached, out / "unreached", device="cpu", quiet=True)
    except UserError as error:
        (out / f"unreached-{os.environ['RANK']}").write_text(str(error))
    refused_by_another_writer(out)
    torch.distributed.barrier()  # a process that leaves while another still works may end it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
