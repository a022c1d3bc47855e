"""Runs of loops with several parts in an epoch: lines, passes, deaths in any part, and what they refuse."""

import csv
import os
import signal

import pytest
import torch
from tiny_runs import CLASSES, STEPS, Tripwire, rows, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, fit
from offramp.methods.loops import read_routes
from offramp.nets import MultiExitNet
from offramp.training import Interruption

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="crop-flip", checkpoint_every=2)
# two exits: an epoch has three parts, and the k-th part of epoch e draws batches from step (3 e + k) STEPS on
WHERE = {"stage 1/2": 0, "stage 2/2": 1, "fusion": 2}
OPTIONS = [
    ("dr-mgf", {}),
    ("dr-mgf", {"landscape": True, "auxiliary": 0.5}),
    ("dr-mgf", {"stage_weights": "equal-norms", "ramp": True}),
    ("dr-mgf", {"fusion_fraction": 0.6, "merge": True, "sign": "softplus", "affine": "mean"}),
    ("dr-mgf-paper", {"init": "kaiming-apart", "pointwise": True}),
    ("dr-mgf-nyu", {"optimizers": "shared", "statistics": "carried", "official_quirks": True}),
    ("dr-mgf-chained", {}),
    ("meta-gf", {"granularity": "tensor", "frozen": True, "start": "carried"}),
]


def stop(data, epoch, part, step):
    """Send a signal to this process before a step."""
    data.train.at = (3 * epoch + WHERE[part]) * STEPS + step
    data.train.act = lambda: os.kill(os.getpid(), signal.SIGTERM)
    return data


@pytest.fixture(scope="module", params=OPTIONS, ids=lambda value: f"{value[0]}-{value[1]}")
def left_alone(request, tmp_path_factory):
    """A run that nothing stops: method, recipe, folder and what it gives."""
    method, options = request.param
    recipe, folder = RECIPE.replace(options=options), tmp_path_factory.mktemp("whole")
    return method, recipe, folder, fit(tiny_net(), tiny_data(), method, recipe, folder, quiet=True)


@pytest.mark.parametrize(
    ("epoch", "part", "step"), [(0, "stage 2/2", 3), (1, "fusion", 2), (1, "stage 1/2", 0)]
)
def test_stopped_anywhere_it_resumes_exactly(tmp_path, left_alone, epoch, part, step):
    method, recipe, folder, whole = left_alone
    with pytest.raises(Interruption, match=f"epoch {epoch + 1}, {part}, after step {step + 1}; go on"):
        fit(tiny_net(), stop(tiny_data(split=Tripwire), epoch, part, step), method, recipe, tmp_path / "cut")
    cut = fit(tiny_net(seed=99), tiny_data(), method, recipe, tmp_path / "cut", resume=True, quiet=True)
    torch.testing.assert_close(dict(cut.net.state_dict()), dict(whole.net.state_dict()), rtol=0, atol=0)
    assert rows(tmp_path / "cut") == rows(folder)
    assert cut.result == whole.result


def test_one_line_for_each_part(tmp_path, capsys):
    fit(tiny_net(), tiny_data(), "dr-mgf", RECIPE, tmp_path / "run")
    lines = [line.split("  ") for line in capsys.readouterr().err.splitlines()]
    told = ["stage 1/2", "stage 2/2", "fusion", None]
    assert [line[0] for line in lines] == [f"epoch {e}/2" for e in (1, 2) for _ in told]
    assert [line[1] for line in lines[:3]] == told[:3]
    with open(tmp_path / "run" / "parts.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["epoch"], row["part"]) for row in table] == [(str(e), p) for e in (1, 2) for p in told[:3]]
    assert [float(row["passes"]) for row in rows(tmp_path / "run")] == [3, 6]


def test_a_short_epoch_costs_what_it_says(tmp_path):
    recipe = RECIPE.replace(options={"stage_fraction": 0.4, "fusion_fraction": 0.2})
    calls = []
    net = tiny_net()
    net.heads[0].register_forward_hook(lambda *_: calls.append(net.training and torch.is_grad_enabled()))
    fit(net, tiny_data(), "dr-mgf", recipe, tmp_path / "run", quiet=True)
    assert sum(calls) == 2 * (2 * 2 + 1)  # two epochs of two stages of two batches, and one of the fusion
    assert float(rows(tmp_path / "run")[-1]["passes"]) == pytest.approx(2.0)  # 2 (2 x 0.4 + 0.2)


def test_routes_stay_beside_the_net(tmp_path):
    fit(tiny_net(), tiny_data(), "dr-mgf", RECIPE, tmp_path / "run", quiet=True)
    routes = read_routes(tmp_path / "run" / "routes.safetensors")
    assert list(routes) == ["stages.0.0.weight"]  # the other convolution belongs to exit 2 alone
    route = routes["stages.0.0.weight"]
    assert route.owners == (0, 1)
    assert route.importance.shape == route.scale.shape == (2, 4, 3)
    assert (route.importance >= 0).all()
    assert (route.importance[0] - route.importance[1]).abs().max() > 1e-4  # the tasks went apart
    with pytest.raises(UserError, match=r"no\.safetensors is missing"):
        read_routes(tmp_path / "no.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"123")
    with pytest.raises(UserError, match="damaged"):
        read_routes(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("method", ["dr-mgf", "meta-gf"])
def test_low_precision_clip_and_adamw(precision, method):
    recipe = RECIPE.replace(precision=precision, clip=1.0, optimizer="adamw", lr=1e-3, channels_last=True)
    run = fit(tiny_net(), tiny_data(), method, recipe, quiet=True)
    assert all(p.isfinite().all() for p in run.net.parameters())


def test_a_compiled_net_learns_the_same(monkeypatch):
    """What is compiled is the substituted forward too; the stand-in for a compiler only wraps."""
    wrapped = []

    def compile(function):
        wrapped.append(function)
        return lambda *a, **k: function(*a, **k)

    plain = fit(tiny_net(dropout=0.0), tiny_data(), "dr-mgf", RECIPE, quiet=True).net.state_dict()
    monkeypatch.setattr(torch, "compile", compile)
    other = fit(tiny_net(dropout=0.0), tiny_data(), "dr-mgf", RECIPE.replace(compile=True), quiet=True)
    assert len(wrapped) == 2
    torch.testing.assert_close(dict(other.net.state_dict()), dict(plain), rtol=0, atol=0)


def test_a_net_that_shares_nothing_is_refused():
    net = tiny_net()
    for parameter in net.stages[0].parameters():
        parameter.requires_grad_(False)
    with pytest.raises(UserError, match="no two outputs of this net share a trainable parameter"):
        fit(net, tiny_data(), "dr-mgf", RECIPE, quiet=True)


def test_an_objective_that_learns_is_refused():
    wide = [nn.Sequential(nn.Conv2d(c, 4, 3), nn.BatchNorm2d(4), nn.ReLU()) for c in (3, 4)]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(s), nn.Flatten(), nn.Linear(4 * s * s, CLASSES)) for s in (1, 2)
    ]
    net = MultiExitNet(wide, heads, input_size=(3, 8, 8))
    with pytest.raises(UserError, match="learns layers of its own"):
        fit(net, tiny_data(), "dr-mgf+byot", RECIPE, quiet=True)


@pytest.mark.parametrize("part", WHERE)
def test_a_loss_that_is_not_finite_names_its_part(tmp_path, part):
    net, data = tiny_net(), tiny_data(split=Tripwire)
    data.train.at = WHERE[part] * STEPS + 3

    def poison():
        weight = net.heads[1][-1].weight  # a stage's own parameter, and what the fusion runs
        weight.data.fill_(float("nan"))

    data.train.act = poison
    with pytest.raises(UserError, match=f"exit 2 is not finite at epoch 1, {part}, step 4") as error:
        fit(net, data, "dr-mgf", RECIPE, tmp_path / "run", quiet=True)
    assert "the last good checkpoint" in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gate": "any"}, "gate is 'any', must be own or mixed"),
        ({"auxiliary": -1}, "auxiliary is -1, must be a number from 0 to 1e30"),
        ({"stage_fraction": 0}, "stage_fraction is 0, must be a number above 0 and up to 1"),
        ({"stage_fraction": "0/K"}, "must be a number above 0 and up to 1, or one over K, as '2/K'"),
        ({"stage_fraction": "2"}, "must be a number above 0 and up to 1, or one over K, as '2/K'"),
        ({"stage_fraction": "3/K"}, "stage_fraction=3/K is more than all images for each of 2 outputs; give"),
        ({"start": "warm"}, "start is 'warm', must be common or carried"),
        ({"stage_weights": [1, 0]}, "stage_weights are"),
        ({"stage_weights": 1}, "stage_weights are 1, must be"),
        ({"stage_weights": "equal"}, "stage_weights are 'equal', must be"),
        ({"routed_share": 2}, "routed_share is 2, must be a number from 0 to 1"),
        ({"merge": 1}, "merge is 1, must be true or false"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(UserError) as error:
        fit(tiny_net(), tiny_data(), "dr-mgf", RECIPE.replace(options=options), quiet=True)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_as_many_stage_weights_as_exits():
    with pytest.raises(UserError, match="stage_weights are 3, outputs 2; give one weight per output"):
        fit(
            tiny_net(),
            tiny_data(),
            "dr-mgf",
            RECIPE.replace(options={"stage_weights": [1, 2, 3]}),
            quiet=True,
        )
