"""fit against a training loop written out in plain torch, and what it leaves behind."""

from __future__ import annotations

import copy
import functools
import io
import sys

import pytest
import torch
import torch.nn.functional as F
from tiny_runs import CLASSES, RECIPES, STEPS, Tripwire, rows, tiny_data, tiny_net
from unchecked import unchecked

from offramp import Recipe, Run, UserError, fit
from offramp.data import pipeline
from offramp.forks import Fork, partition, remove
from offramp.nets import MultiExitNet
from offramp.runs import checkpoint
from offramp.training._schedule import learning_rate

PLAIN = Recipe(epochs=2, batch_size=8, lr=0.05, augment="crop-flip", channels_last=False)


def by_hand(net: MultiExitNet, recipe: Recipe) -> list[list[float]]:
    """Train in place; the mean losses of each epoch."""
    data = tiny_data()
    transform, _ = pipeline(recipe.augment, data)
    if recipe.optimizer != "sgd":
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        optimizer = kind(net.parameters(), weight_decay=recipe.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            net.parameters(),
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
    low = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
    scaler = torch.amp.GradScaler("cpu", enabled=recipe.precision == "fp16")
    torch.manual_seed(recipe.seed)
    means, step = [], 0
    for epoch in range(recipe.epochs):
        net.train()
        sums = torch.zeros(2, dtype=torch.float64)
        for batch in data.train.batches(
            recipe.batch_size, transform=transform, device="cpu", seed=recipe.seed, epoch=epoch, shuffle=True,
            drop_last=True,
        ):  # fmt: skip
            images, targets = batch.inputs, batch.targets["label"]
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, STEPS)
            with torch.autocast("cpu", dtype=low, enabled=low is not None):
                logits = net(images.to(low) if low else images)
            losses = [
                F.cross_entropy(z.float(), targets, label_smoothing=recipe.label_smoothing) for z in logits
            ]
            optimizer.zero_grad()
            scaler.scale(losses[0] + losses[1]).backward()
            if recipe.clip:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            scaler.step(optimizer)
            scaler.update()
            sums += torch.stack(losses).detach()
            step += 1
        means.append((sums / STEPS).tolist())
    return means


@pytest.mark.parametrize("method", ["joint", "dfs"])
@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        PLAIN.replace(nesterov=False, schedule="cosine", label_smoothing=0.1, seed=3),
        PLAIN.replace(optimizer="adamw", lr=1e-3, clip=0.5),
        PLAIN.replace(optimizer="adam", lr=1e-3, weight_decay=0.1),
        PLAIN.replace(schedule="multistep", milestones=(1,), weight_decay=0.0, precision="bf16"),
        PLAIN.replace(precision="fp16", clip=0.5),
    ],
    ids=["plain", "smooth-cosine", "adamw-clip", "adam", "bf16", "fp16"],
)
def test_fit_is_the_plain_loop(tmp_path, recipe, method):
    oracle, net = tiny_net(), tiny_net()
    if method == "dfs":
        partition(oracle, beta=0.5)
    means = by_hand(oracle, recipe)
    fit(net, tiny_data(), method, recipe, tmp_path / "run", quiet=True)
    for (name, found), expected in zip(net.state_dict().items(), oracle.state_dict().values(), strict=True):
        torch.testing.assert_close(
            found, expected, rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}"
        )
    for row, losses in zip(rows(tmp_path / "run"), means, strict=True):
        found = [float(row[f"train_loss_{k}"]) for k in (1, 2)]
        assert found == pytest.approx(losses, rel=1e-4)
    assert not torch.equal(net.heads[1][-1].weight, tiny_net().heads[1][-1].weight)


def test_options_reach_the_method():
    nets = [tiny_net() for _ in range(3)]
    for net, beta in zip(nets, (0.25, 0.75, 0.75), strict=True):
        fit(net, tiny_data(), "dfs", PLAIN.replace(beta=beta), quiet=True)
    weights = [net.stages[0][0].weight for net in nets]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])


def test_the_seed_decides():
    nets = [tiny_net() for _ in range(3)]
    for net, seed in zip(nets, (1, 2, 1), strict=True):
        torch.rand(seed)  # random numbers drawn before do not count
        fit(net, tiny_data(), "joint", PLAIN.replace(seed=seed), quiet=True)
    weights = [net.stages[0][0].weight for net in nets]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_channels_last_is_the_same_training():
    nets = [tiny_net() for _ in range(2)]
    for net, channels_last in zip(nets, (False, True), strict=True):
        fit(net, tiny_data(), "dfs", PLAIN.replace(channels_last=channels_last), quiet=True)
    assert nets[1].stages[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(dict(nets[0].state_dict()), dict(nets[1].state_dict()), rtol=1e-4, atol=1e-6)


def test_compile_trains_the_same_and_keeps_names_clean(tmp_path, monkeypatch):
    compiled = []
    backend = lambda graph, _: compiled.append(graph) or graph  # noqa: E731
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    nets = [tiny_net() for _ in range(2)]
    for net, compile in zip(nets, (False, True), strict=True):
        recipe = PLAIN.replace(compile=compile, epochs=1)
        fit(net, tiny_data(), "joint", recipe, tmp_path / str(compile), quiet=True)
    assert compiled
    assert nets[1].state_dict().keys() == tiny_net().state_dict().keys()
    torch.testing.assert_close(dict(nets[0].state_dict()), dict(nets[1].state_dict()), rtol=1e-4, atol=1e-6)


def test_the_test_set_is_read_once_at_the_end(tmp_path):
    data, seen = tiny_data(), []
    load = data._load_test
    data._load_test = lambda: seen.append(len(rows(tmp_path / "run"))) or load()
    fit(tiny_net(), data, "joint", PLAIN, tmp_path / "run", quiet=True)
    assert seen == [PLAIN.epochs]


def test_training_learns():
    recipe = Recipe(epochs=15, batch_size=8, lr=0.05, augment="none", weight_decay=0.0)
    run = fit(tiny_net(), tiny_data(), "joint", recipe, quiet=True)
    assert run.result["average_top1"] > 90
    assert run.folder is None


def test_run_folder(tmp_path):
    run = fit(tiny_net(), tiny_data(), "dfs", RECIPES["sgd"], tmp_path / "deep" / "run", quiet=True)
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"run.json", "metrics.csv", "result.json", "weights.safetensors", "checkpoint"}
    assert list(rows(run.folder)[0]) == [
        "epoch", "lr", "train_loss_1", "train_loss_2", "val_top1_1", "val_top1_2", "passes",
    ]  # fmt: skip
    assert [row["passes"] for row in rows(run.folder)] == ["1", "2", "3"]
    assert [row["epoch"] for row in rows(run.folder)] == ["1", "2", "3"]
    kept = list((run.folder / "checkpoint").iterdir())
    assert [path.name for path in kept] == ["epoch-00003-step-0000000"]
    record = run.record
    assert (record["method"], record["options"]["beta"], record["seed"]) == ("dfs", 0.5, 0)
    assert record["data"] == {
        "name": "noise", "source": "noise", "num_classes": CLASSES, "input_size": [3, 8, 8],
        "classes": ["dark", "gray", "bright"], "train": 43, "val": 7,
    }  # fmt: skip


def test_without_validation(tmp_path):
    run = fit(tiny_net(), tiny_data(val=0), "joint", PLAIN, tmp_path / "run", quiet=True)
    assert [key for key in rows(run.folder)[0] if key.startswith("val")] == []


def test_tensorboard_has_every_epoch_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    fit(tiny_net(), tiny_data(), "joint", PLAIN, run, quiet=True)
    late = checkpoint.last(unchecked(run))
    late.rename(late.with_name("epoch-00001-step-0000000"))  # as if killed in the second epoch
    state = torch.load(checkpoint.last(run) / "state.pt", weights_only=True)
    torch.save(state | {"epoch": 1, "rows": state["rows"][:1]}, checkpoint.last(run) / "state.pt")
    (run / "result.json").unlink()
    fit(tiny_net(), tiny_data(), "joint", PLAIN, run, resume=True, quiet=True)
    events = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    losses = [float(row["train_loss_2"]) for row in rows(run)]
    assert [e.step for e in events.Scalars("train_loss_2")] == [1, 2]
    assert [e.value for e in events.Scalars("train_loss_2")] == pytest.approx(losses, rel=1e-4)


def test_the_methods_fork_comes_off_again():
    net = tiny_net()
    fit(net, tiny_data(), "dfs", PLAIN, quiet=True)
    assert {type(fork) for fork in net.forks} == {Fork}


def test_the_plain_method_refuses_a_fork_that_is_still_on():
    net = partition(tiny_net())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(UserError, match=r"'joint' trains plain forks.*offramp\.forks\.remove\(net\)"):
        fit(net, tiny_data(), "joint", PLAIN, quiet=True)
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_the_methods_own_fork_takes_the_place_of_another():
    nets = [tiny_net(), partition(tiny_net(), beta=0.25)]
    for net in nets:
        fit(net, tiny_data(), "dfs", PLAIN.replace(beta=0.75), quiet=True)
    torch.testing.assert_close(dict(nets[1].state_dict()), dict(nets[0].state_dict()), rtol=0, atol=0)


def test_a_fork_that_changes_values_stays_and_the_net_trains_again(tmp_path):
    net, recipe = tiny_net(), PLAIN.replace(reference="zero", epochs=1)
    fit(net, tiny_data(), "dfs", recipe, tmp_path / "run", quiet=True)
    x = torch.randn(2, 3, 8, 8)
    outputs = net.eval()(x)
    opened = Run.open(tmp_path / "run", tiny_net(seed=9)).net.eval()
    plain = remove(copy.deepcopy(net))
    for again, expected, without in zip(opened(x), outputs, plain(x), strict=True):
        assert torch.equal(again, expected)
        assert not torch.equal(without, expected)
    fit(net, tiny_data(), "dfs", recipe, quiet=True)


def test_a_fit_that_fails_takes_its_fork_off():
    net, data = tiny_net(), tiny_data(split=Tripwire)
    data.train.at, data.train.act = 1, lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(net, data, "dfs", PLAIN.replace(reference="zero"), quiet=True)
    assert [type(fork) for fork in net.forks] == [Fork]


def test_lines_on_stderr_and_quiet(capsys):
    fit(tiny_net(), tiny_data(), "joint", PLAIN)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().split("\n")
    assert len(lines) == PLAIN.epochs
    assert lines[0].startswith("epoch 1/2")
    assert "img/s" in lines[0]
    fit(tiny_net(), tiny_data(), "joint", PLAIN, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    fit(tiny_net(), tiny_data(), "joint", PLAIN)
    shown = terminal.getvalue()
    assert f"{2 * STEPS}/{2 * STEPS} steps" in shown
    assert "left" in shown
    assert "epoch 1/2  loss" in shown  # the line of a finished epoch scrolls away above the bar
    assert "images/s" in shown
