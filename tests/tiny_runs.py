"""A tiny net, a tiny data set and short recipes; and training in a process of its own, to be killed there."""

from __future__ import annotations

import csv
import os
import resource
import sys
from pathlib import Path

import pytest
import torch
from processes import fork_server
from torch import nn

from offramp import Recipe, UserError
from offramp.data import ImageData, Split, Target
from offramp.methods import method
from offramp.nets import MultiExitNet

CLASSES = 3
STEPS = 5  # per epoch, of 8 images

RECIPES = {
    "sgd": Recipe(epochs=3, batch_size=8, lr=0.05, augment="crop-flip", checkpoint_every=3),
    "adamw-fp16": Recipe(
        epochs=3, batch_size=8, lr=1e-3, optimizer="adamw", precision="fp16", clip=1.0, schedule="cosine",
        augment="crop-flip", checkpoint_every=2,
    ),
}  # fmt: skip


def tiny_net(
    seed: int = 0, width: int = 4, classes: int = CLASSES, dropout: float = 0.3, norm: bool = True
) -> MultiExitNet:
    """Two exits; convolutions, batch norm and dropout."""
    torch.manual_seed(seed)
    stages = [
        nn.Sequential(
            nn.Conv2d(reads, width, 3, 2, 1), nn.BatchNorm2d(width) if norm else nn.Identity(), nn.ReLU()
        )
        for reads in (3, width)
    ]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, classes))
        for _ in stages
    ]
    return MultiExitNet(stages, heads, input_size=(3, 8, 8))


def tiny_data(*, train: int = 8 * STEPS + 3, val: int = 7, split: type[Split] = Split) -> ImageData:
    """Noise whose brightness tells the class."""
    draws = torch.Generator().manual_seed(5)

    def images(count: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        labels = torch.randint(CLASSES, (count,), generator=draws)
        noise = torch.randint(0, 86, (count, 3, 8, 8), generator=draws)
        return (noise + 80 * labels[:, None, None, None]).to(torch.uint8), {"label": labels}

    parts = [split(*images(train)), Split(*images(val)), Split(*images(21))]
    return ImageData(
        name="noise",
        source="noise",
        targets={"label": Target("class", ("dark", "gray", "bright"))},
        train=parts[0],
        val=parts[1],
        load_test=lambda: parts[2],
    )


def for_method(recipe: Recipe, name: str) -> Recipe:
    """The recipe, with Adam where the method makes its own steps of Adam's, and with no sample held out."""
    row = method(name)
    if row.loop.held_out:
        return recipe.replace(held_out=0)
    return recipe.replace(optimizer="adam", lr=0.005) if row.combiner.own_optimizer else recipe


def rows(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without the columns that tell the time."""
    with open(folder / "metrics.csv", newline="") as file:
        return [
            {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
            for row in csv.DictReader(file)
        ]


def assert_resumes_to(left_alone, folder: Path, method: str = "dfs") -> None:
    """A run in the folder, begun with the method, goes on to the very bits of (recipe, folder, run)."""
    from offramp import fit
    from offramp.runs import checkpoint

    recipe, reference, run = left_alone
    net = tiny_net(seed=99)  # the checkpoint's weights must be all that counts
    resumed = fit(net, tiny_data(), method, recipe, folder, resume=True, quiet=True)
    expected = run.net.state_dict()
    assert net.state_dict().keys() == expected.keys()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    assert resumed.result == run.result
    assert rows(folder) == rows(reference)
    last = [torch.load(checkpoint.last(f) / "state.pt", weights_only=True) for f in (folder, reference)]
    for key in ("loop", "precision", "rng"):
        torch.testing.assert_close(last[0][key], last[1][key], rtol=0, atol=0)


def assert_a_stopped_run_goes_on(tmp_path: Path, recipe: Recipe) -> tuple[Path, Path]:
    """A run that ends in its second epoch goes on to the very bits of one left alone; the folders of both."""
    from offramp import fit

    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    run = fit(tiny_net(), tiny_data(), "dfs", recipe, alone, quiet=True)
    data = tiny_data(split=Tripwire)
    data.train.at = STEPS + 3
    data.train.act = lambda: (_ for _ in ()).throw(KeyError("stop"))
    with pytest.raises(KeyError):
        fit(tiny_net(), data, "dfs", recipe, stopped, quiet=True)
    assert_resumes_to((recipe, alone, run), stopped)
    return alone, stopped


class Tripwire(Split):
    """Training images that do something to the process just before a certain step of the run."""

    at = -1

    def batches(self, batch_size, *, epoch=0, start=0, **rest):
        given = super().batches(batch_size, epoch=epoch, start=start, **rest)
        for step, batch in enumerate(given, epoch * STEPS + start):
            if step == self.at:
                self.act()
            yield batch

    @staticmethod
    def act():
        raise NotImplementedError


def in_process(target, *arguments):
    """Run a function in a process of its own; its exit code (negative: the signal that killed it)."""
    process = fork_server().Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def train_until_signal(folder: Path, recipe: Recipe, step: int, signum: int) -> None:
    """Train; the process sends itself a signal just before a step. Exits as a program should."""
    from offramp import fit
    from offramp.training import Interruption

    torch.set_num_threads(1)
    data = tiny_data(split=Tripwire)
    data.train.at = step
    data.train.act = lambda: os.kill(os.getpid(), signum)
    try:
        fit(tiny_net(), data, "dfs", recipe, folder, quiet=True)
    except Interruption as stop:
        (folder / "message").write_text(str(stop))
        sys.exit(128 + stop.signum)


def train_until_file_operation(folder: Path, recipe: Recipe, operation: int) -> None:
    """Train; the process is killed -9 in the middle of its n-th flush, rename or deletion."""
    import shutil
    import signal

    from offramp import fit

    torch.set_num_threads(1)
    done = 0

    def deadly(function, partly=None):
        def call(*arguments, **rest):
            nonlocal done
            done += 1
            if done == operation:
                if partly:
                    partly(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **rest)

        return call

    os.fsync = deadly(os.fsync)
    os.replace = deadly(os.replace)
    shutil.rmtree = deadly(
        shutil.rmtree, partly=lambda path: [os.remove(f) for f in list(Path(path).glob("*"))[:1]]
    )
    fit(tiny_net(), tiny_data(), "dfs", recipe, folder, quiet=True)


def train_on_full_disk(folder: Path, recipe: Recipe, step: int, file_size: int) -> None:
    """Train; from a step on, no file may grow beyond a size. Exit code 2 for a UserError."""
    from offramp import fit

    torch.set_num_threads(1)
    data = tiny_data(split=Tripwire)
    data.train.at = step
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    data.train.act = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, limits[1]))
    report, told = (folder.parent / "message").open("w"), ""
    try:
        fit(tiny_net(), data, "dfs", recipe, folder, quiet=True)
    except UserError as error:
        told = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    report.write(told)
    report.close()
    sys.exit(2 if told else 0)
