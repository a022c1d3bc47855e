"""Each mistake is one line that names the culprit, and the last good checkpoint stays."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import shutil
import signal

import pytest
import torch
from tiny_runs import STEPS, Tripwire, tiny_data, tiny_net
from torch import nn
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.data import open_data
from offramp.methods import METHODS
from offramp.methods.objectives import TaskLoss
from offramp.nets import MultiExitNet, Net, vgg_sdn
from offramp.runs import checkpoint
from offramp.tasks import Boxes, Classification
from offramp.training import Interruption

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none", checkpoint_every=2)


class TwoHeads(Net):
    input_size = (3, 8, 8)

    def __init__(self, outputs):
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
        self.heads = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 4)])
        self.outputs = outputs

    def forward(self, x):
        feature = self.trunk(x)
        return [head(feature) for head in self.heads]


def refused(*arguments, words, **rest):
    with pytest.raises(UserError) as caught:
        fit(*arguments, quiet=True, **rest)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message
    return message


@pytest.mark.parametrize("method", ["joint", "dr-mgf"])
@pytest.mark.parametrize("tasks", [[Boxes()] * 2, [Classification(), Boxes()]])
def test_a_task_whose_target_the_data_lack(tasks, method, tmp_path):
    net = TwoHeads(dict(zip(("first", "second"), tasks, strict=True)))
    lacking = "first" if tasks[0] == tasks[1] else "second"
    words = [f"{lacking} looks for 'box' among the targets", "has 'label' alone", "bind(net)"]
    refused(net, tiny_data(), method, RECIPE, tmp_path / "run", words=words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("says_its_size", [True, False])
@pytest.mark.parametrize(("reads", "has"), [(3, 1), (1, 3), (4, 3)])
def test_images_of_other_channels(says_its_size, reads, has, tmp_path):
    """Whether the net says what it reads, or was built for images of the set's shape."""
    net = tiny_net()
    net.stages[0][0] = torch.nn.Conv2d(reads, 4, 3, 2, 1)
    images = torch.randint(0, 256, (40, has, 8, 8), dtype=torch.uint8)
    data = open_data((images, torch.arange(40) % 3))
    net.input_size = (reads, 8, 8) if says_its_size else (has, 8, 8)
    line = refused(net, data, "joint", RECIPE, words=[f"`image_channels={reads}`", f"a net that reads {has}"])
    assert ("images of 1 channel, those" in line) == (reads == 1)
    assert "size=" not in line


def test_a_net_whose_size_is_at_fault_is_not_told_of_channels():
    net = tiny_net()
    net.heads[0] = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 8 * 8, 3))
    refused(net, tiny_data(), "joint", RECIPE, words=["cut them by `size=...`"])


def test_a_set_of_one_class_is_told(capsys):
    data = open_data((torch.randint(0, 256, (24, 3, 8, 8), dtype=torch.uint8), ["cat"] * 20 + ["dog"] * 4))
    data.train.labels.zero_()
    fit(tiny_net(classes=2), data, "joint", RECIPE.replace(epochs=1))
    assert "all training samples are of one class, cat: there is nothing" in capsys.readouterr().err


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was interrupted in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = STEPS + 3, lambda: os.kill(os.getpid(), 15)
    with pytest.raises(Interruption, match="SIGTERM at epoch 2 after step 4") as caught:
        fit(tiny_net(), data, "dfs", RECIPE, folder, quiet=True)
    assert caught.value.signum == 15
    return folder


@pytest.fixture
def copy(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def finishes(folder):
    fit(tiny_net(), tiny_data(), "dfs", RECIPE, folder, resume=True, quiet=True)
    return (folder / "result.json").is_file()


def test_the_folder_exists(copy):
    refused(tiny_net(), tiny_data(), "dfs", RECIPE, copy, words=[copy, "exists", "`resume=True`"])
    assert finishes(copy)


def test_the_folder_is_no_run(tmp_path):
    (tmp_path / "notes.txt").touch()
    refused(tiny_net(), tiny_data(), "dfs", RECIPE, tmp_path, resume=True, words=[tmp_path, "no run folder"])


@pytest.mark.parametrize(
    ("method", "recipe", "data", "words"),
    [
        ("joint", RECIPE, {}, ["method", "'dfs'", "'joint'"]),
        ("dfs", RECIPE.replace(beta=0.25), {}, ["options", "beta was 0.5, is 0.25"]),
        ("dfs", RECIPE.replace(epochs=1), {}, ["recipe", "epochs was 2, is 1"]),
        ("dfs", RECIPE.replace(lr=0.1, seed=1), {}, ["recipe", "lr was 0.05, is 0.1", "seed was 0, is 1"]),
        ("dfs", RECIPE, {"train": 50}, ["data", "train was 43, is 50"]),
    ],
)
def test_resuming_with_something_else(copy, method, recipe, data, words):
    refused(tiny_net(), tiny_data(**data), method, recipe, copy, resume=True, words=[copy, "another", *words])
    assert finishes(copy)


def test_a_checkpoint_of_another_network(copy):
    deeper = tiny_net()
    deeper.heads[1].append(torch.nn.Linear(3, 3))
    for net in (tiny_net(width=6), deeper):
        refused(net, tiny_data(), "dfs", RECIPE, copy, resume=True, words=[copy, "another net", "shapes was"])
    for net, word in ((tiny_net(width=6), "stages.0.0.weight is (4, 3, 3, 3)"), (deeper, "heads.1.4.weight")):
        with pytest.raises(UserError, match=f"another network: {re.escape(word)}") as caught:
            checkpoint.load(checkpoint.last(copy), net)
        assert str(checkpoint.last(copy) / "weights.safetensors") in str(caught.value)
    assert finishes(copy)


@pytest.mark.parametrize("name", ["weights.safetensors", "state.pt"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.99])
def test_a_checkpoint_cut_short(copy, name, keep):
    file = checkpoint.last(copy) / name
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    refused(tiny_net(), tiny_data(), "dfs", RECIPE, copy, resume=True, words=[file, "cut short"])
    file.write_bytes(whole)
    assert finishes(copy)


def test_a_checkpoint_that_lacks_a_file(copy):
    file = checkpoint.last(copy) / "state.pt"
    file.unlink()
    refused(tiny_net(), tiny_data(), "dfs", RECIPE, copy, resume=True, words=[file, "No such file"])


class Payload:
    """Writes a file when unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (torch.save, ["could run code", "not read"]),
        (lambda value, path: path.write_bytes(pickle.dumps(value)), ["no checkpoint", "not a zip file"]),
    ],
)
def test_a_checkpoint_with_code_in_its_pickle(copy, tmp_path, save, words):
    file, target = checkpoint.last(unchecked(copy)) / "state.pt", tmp_path / "ran"
    save({"epoch": 0, "step": 0, "payload": Payload(target)}, file)
    refused(tiny_net(), tiny_data(), "dfs", RECIPE, copy, resume=True, words=[file, *words])
    assert not target.exists()


def test_weights_with_code_in_them(tmp_path):
    run = fit(tiny_net(), tiny_data(), "dfs", RECIPE, tmp_path / "run", quiet=True)
    torch.save(Payload(tmp_path / "ran"), unchecked(run.folder) / "weights.safetensors")
    with pytest.raises(UserError, match=r"weights\.safetensors is cut short or no safetensors file"):
        Run.open(run.folder, tiny_net())
    assert not (tmp_path / "ran").exists()


def poison(net):
    with torch.no_grad():
        net.heads[1][-1].bias.fill_(float("nan"))


def test_a_loss_that_turns_nan(tmp_path):
    net, data, folder = tiny_net(), tiny_data(split=Tripwire), tmp_path / "run"
    data.train.at, data.train.act = STEPS + 3, lambda: poison(net)
    good = folder / "checkpoint" / "epoch-00001-step-0000002"
    words = ["exit 2", "epoch 2, step 4", "train anew into another folder with a lower lr or with clip"]
    words.append(f"the last good checkpoint, {good}, stands")
    message = refused(net, data, "dfs", RECIPE, folder, words=words)
    assert "fp32" not in message  # it is fp32 already
    assert checkpoint.last(folder) == good
    assert finishes(folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_divergence_never_replaces_a_good_checkpoint(tmp_path, precision):
    recipe = RECIPE.replace(lr=1e30, schedule="constant", checkpoint_every=1, precision=precision)
    folder = tmp_path / "run"
    message = refused(tiny_net(), tiny_data(), "joint", recipe, folder, words=["finite", "lower lr"])
    assert ("or in fp32" in message) == (precision != "fp32")
    net = tiny_net()
    checkpoint.load(checkpoint.last(folder), net)
    assert all(p.isfinite().all() for p in net.parameters())


def overflowing(when):
    class Overflowing(TaskLoss):
        def __call__(self, step):
            return [loss * (float("inf") if when(step.progress) else 1) for loss in super().__call__(step)]

    return dataclasses.replace(METHODS["joint"], name="overflowing", parts={"objective": Overflowing()})


def test_an_overflow_that_loss_scaling_skips_is_no_error(tmp_path):
    recipe = RECIPE.replace(precision="fp16")
    run = fit(tiny_net(), tiny_data(), overflowing(lambda p: p == 0.3), recipe, tmp_path / "run", quiet=True)
    losses = (run.folder / "metrics.csv").read_text()
    assert "nan" not in losses
    assert "inf" not in losses
    refused(tiny_net(), tiny_data(), overflowing(lambda p: p == 0.3), RECIPE, words=["exits 1, 2", "step 4"])


def test_overflow_after_overflow_is_an_error():
    recipe = RECIPE.replace(precision="fp16", epochs=6)
    method = overflowing(lambda p: p >= 0.1)  # from the fourth step on; the 20th in a row is step 23
    refused(tiny_net(), tiny_data(), method, recipe, words=["exits 1, 2", "epoch 5, step 3", "fp32"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 44}, ["43 samples", "44", "batch_size"]),
        ({"augment": "crop-flop"}, ["crop-flop", "crop-flip"]),
    ],
)
def test_a_refused_recipe_leaves_no_folder(tmp_path, changes, words):
    refused(tiny_net(), tiny_data(), "dfs", RECIPE.replace(**changes), tmp_path / "run", words=words)
    assert list(tmp_path.iterdir()) == []


def test_a_net_for_other_data(tmp_path):
    refused(tiny_net(classes=4), tiny_data(), words=["4 classes", "noise has 3", "num_classes=3"])
    net = tiny_net()
    net.input_size = (3, 32, 32)
    refused(net, tiny_data(), words=["(3, 32, 32)", "(3, 8, 8)"])


def test_an_option_of_no_use():
    refused(tiny_net(), tiny_data(), "joint", RECIPE.replace(beta=0.5), words=["'joint'", "'beta'"])
    refused(tiny_net(), tiny_data(), METHODS["dfs"], RECIPE.replace(beta=0.5), words=["'beta'", "own"])
    refused(tiny_net(), tiny_data(), "dsf", RECIPE, words=["'dsf'", "did you mean 'dfs'"])


def test_a_device_that_is_not_there():
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    refused(tiny_net(), tiny_data(), "joint", RECIPE, device=missing, words=[missing, "cpu"])


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    refused(
        tiny_net(),
        tiny_data(),
        "joint",
        RECIPE,
        tmp_path / "file" / "run",
        words=["cannot write", "file/run"],
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_ignored_stays_so(tmp_path, signum):
    """As under nohup, or in the background of a script."""
    data = tiny_data(split=Tripwire)
    data.train.at, data.train.act = 1, lambda: os.kill(os.getpid(), signum)
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        fit(tiny_net(), data, "joint", RECIPE, tmp_path / "run", quiet=True)
        assert signal.getsignal(signum) is signal.SIG_IGN
    except Interruption as stop:
        pytest.fail(str(stop))
    finally:
        signal.signal(signum, before)
    assert (tmp_path / "run" / "result.json").is_file()


def test_images_that_the_net_cannot_take():
    net = vgg_sdn(num_classes=3, width=4)
    net.input_size = (3, 8, 8)  # as the command line sets it; the pooling of its heads does not fit
    refused(net, tiny_data(), "joint", RECIPE, words=["cannot take images of (3, 8, 8)", "another net"])


def test_logits_whose_first_axis_is_not_the_batch():
    """A head that takes the mean over the batch of features ``[T, N, C]``, with as many steps as images."""

    class Steps(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(2).permute(2, 0, 1)  # [N, C, 2, 2] -> [T, N, C]

    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1)

    stages = [
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), Steps()),
        nn.Identity(),
    ]
    heads = [nn.Sequential(Mean(), nn.Linear(4, 3)) for _ in stages]
    net = MultiExitNet(stages, heads, input_size=(3, 8, 8))
    refused(net, tiny_data(), "joint", RECIPE, words=["[4, 3] for one image", "not the batch", "batch_first"])
