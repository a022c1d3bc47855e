"""`calibrate`: what it may be fitted on, what it remembers, and what it refuses."""

import dataclasses
import json
import shutil
from functools import partial
from operator import mul

import pytest
import torch
from test_router import build, images
from tiny_runs import tiny_data, tiny_net
from torch.utils.data import DataLoader, TensorDataset
from unchecked import unchecked

import offramp
from offramp import Recipe, calibrate, fit
from offramp.data import Batch, Split, Transform, open_data
from offramp.errors import UserError
from offramp.exits import ExitLogits, PathCosts, Policy, Router, decide
from offramp.exits._fingerprint import fingerprint
from offramp.exits.calibration import to_cost
from offramp.exits.path_times import PathTimes, median_times
from offramp.reports.policy_text import policy_text

CLEAN = Transform((0.5,) * 3, (0.25,) * 3)
X = images(300).float()


@pytest.fixture(scope="module")
def net():
    return build().float().eval()


@pytest.fixture(scope="module")
def labels(net):
    """Mostly what the last exit says, so that it is the best."""
    with torch.no_grad():
        labels = net(X)[-1].argmax(-1)
    labels[::6] = 0
    return labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "joint" / "seed-0"
    recipe = Recipe(epochs=2, batch_size=8, augment="none", lr=0.05)
    return fit(tiny_net(), tiny_data(val=120), "joint", recipe, folder, quiet=True)


def test_a_policy_keeps_to_its_budget_and_remembers_all_of_it(net, labels, tmp_path):
    policy = calibrate(net, (X, labels), budget="60%")
    costs = PathCosts(net)
    recorded = ExitLogits.of(net, [(X, labels)])
    decided, answer = decide(recorded, policy, costs), Router(net, policy)(X)
    assert decided.mean_cost <= 0.6 * costs.static and policy.net == fingerprint(net)
    assert (answer.exit == decided.exit).double().mean() > 0.99  # but for rounding at a threshold
    assert policy.calibration == {
        "digest": recorded.digest,
        "samples": 300,
        "target": {"budget": 0.6 * costs.static, "convention": "macs", "rule": "best"},
        "achieved": {
            "accuracy": decided.accuracy,
            "full_accuracy": (recorded.logits[-1].argmax(-1) == labels).double().mean().item(),
            "cost": decided.mean_cost,
            "exits": decided.shares(4),
        },
    }
    policy.save(tmp_path / "policy.json")
    assert Policy.open(tmp_path / "policy.json") == policy


DATA = {
    "pair": lambda labels: (X, labels),
    "batches": lambda labels: [(X[:100], labels[:100]), Batch(X[100:], {"label": labels[100:]})],
    "loader": lambda labels: DataLoader(TensorDataset(X, labels), 64, shuffle=True),
    "recorded": lambda labels: ExitLogits.of(build().float(), [(X, labels)]),
}


@pytest.mark.parametrize("form", DATA)
def test_forms_of_data(form, net, labels):
    expected = calibrate(net, iter([(X, labels)]), budget=20_000)
    policy = calibrate(net, DATA[form](labels), budget=20_000)
    assert policy.evaluated == expected.evaluated and policy.net == expected.net
    assert policy.calibration["digest"] == expected.calibration["digest"]
    cost = pytest.approx(expected.calibration["achieved"]["cost"])
    assert policy.calibration["achieved"]["cost"] == cost


def test_thresholds_of_the_published_algorithm(net, labels):
    policy = calibrate(net, (X, labels), budget="60%", rule="published")
    assert policy.evaluated == (1, 2, 3, 4)
    best = calibrate(net, (X, labels), budget=policy.calibration["achieved"]["cost"])
    assert best.calibration["achieved"]["accuracy"] >= policy.calibration["achieved"]["accuracy"]


@pytest.mark.parametrize("confidence", ["margin", "entropy", "patience", "ensemble"])
def test_confidences_and_temperatures(confidence, net, labels):
    policy = calibrate(net, (X, labels), budget="60%", confidence=confidence, temperatures=True)
    assert policy.confidence == confidence and set(policy.temperatures) != {1.0}
    assert Router(net, policy)(X).cost.double().mean() <= 0.61 * PathCosts(net).static


def test_at_full_budget_the_router_is_the_backbone(net, labels):
    for full in ({"budget": "100%"}, {"budget": "1G"}, {"latency": "100s"}):
        policy = calibrate(net, (X, labels), **full)
        assert policy.evaluated == (4,) and policy.net == fingerprint(net)
        assert policy.calibration["achieved"]["exits"] == [0, 0, 0, 1]


@pytest.mark.parametrize("confidence", ["max-softmax", "margin", "patience", "ensemble"])
def test_at_full_budget_exits_are_read_as_asked(confidence, net, labels):
    asked = {"confidence": confidence, "temperatures": True}
    policy = calibrate(net, (X, labels), budget="100%", **asked)
    assert policy.temperatures == calibrate(net, (X, labels), budget="60%", **asked).temperatures
    # an ensemble's last exit predicts together with the others
    assert policy.confidence == ("max-softmax" if confidence == "ensemble" else confidence)
    assert torch.equal(Router(net, policy)(X).prediction, net(X)[-1].argmax(-1))


def test_a_run_brings_its_validation_images_and_their_normalisation(run):
    policy = calibrate(run, budget="90%")
    assert calibrate(run.net, run.batches("val"), budget="90%") == policy
    assert calibrate(run, run.open_data().val, budget="90%") == policy
    clean = Transform(*(tuple(run.record["normalisation"][key]) for key in ("mean", "std")))
    assert calibrate(run.net, run.open_data().val, budget="90%", transform=clean) == policy
    assert policy.calibration["data"] == "noise" and policy.calibration["split"] == "val"
    assert policy.calibration["samples"] == 120
    reopened = offramp.Run.open(run.folder, tiny_net())
    assert calibrate(reopened, run.open_data().val, budget="90%") == policy


def test_no_policy_is_fitted_on_test_data(run, net):
    data = run.open_data()
    for given in (data.test, run.batches("test"), [*run.batches("val"), *run.batches("test")]):
        with pytest.raises(UserError, match="the test samples of noise are its test data"):
            calibrate(run, given, budget="50%")
    with pytest.raises(UserError, match="the test samples of noise are its test data"):
        calibrate(run, ExitLogits.of(run.net, run.batches("test")), budget="50%")
    with pytest.raises(UserError, match=r"noise is a whole set, .* data.val"):
        calibrate(run, data, budget="50%")


def test_validation_images_that_stand_for_a_test_set_are_test_data():
    data = open_data([(torch.rand(3, 8, 8), k % 3) for k in range(60)], val_fraction=0.3)
    with pytest.raises(UserError, match=r"the val samples of .* are its test data"):
        calibrate(tiny_net(), data.val, budget="50%", transform=CLEAN)
    data = open_data([(torch.rand(3, 8, 8), k % 3) for k in range(60)], val_fraction=0)
    with pytest.raises(UserError, match=r"the train samples of .* are its test data"):
        calibrate(tiny_net(), data.train, budget="50%", transform=CLEAN)
    parts = {name: [(torch.rand(3, 8, 8), k % 3) for k in range(60)] for name in ("train", "test")}
    policy = calibrate(tiny_net(), open_data(parts).val, budget="90%", transform=CLEAN)
    assert policy.calibration["split"] == "val"


def test_training_samples_are_told_apart(run, capsys):
    calibrate(run, run.batches("train"), budget="90%")
    assert "are the training split of noise" in capsys.readouterr().err
    with pytest.raises(
        UserError, match="has learned the training samples of noise, which cannot test a risk"
    ):
        calibrate(run, run.batches("train"), risk=0.1)


def test_what_validation_samples_have_chosen_is_not_known_without_the_run(run, net, labels, capsys):
    calibrate(run.net, run.batches(), risk=0.3)
    assert "tested on the validation samples of noise; where these have chosen" in capsys.readouterr().err
    calibrate(run, risk=0.3)
    calibrate(net, (X, labels), risk=0.3)
    assert "have chosen" not in capsys.readouterr().err


def test_a_risk_is_not_tested_on_what_has_chosen_the_rate(run, tmp_path):
    alone = shutil.copytree(run.folder, tmp_path / "seed-0")
    for name, changes in {"seed-1": {"seed": 1}, "seed-1-lr-x3": {"seed": 1, "lr": 0.15}}.items():
        folder = unchecked(shutil.copytree(run.folder, tmp_path / name))
        record, result = (json.loads((folder / name).read_text()) for name in ("run.json", "result.json"))
        record["recipe"] |= changes
        record["seed"] = result["seed"] = changes["seed"]
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "result.json").write_text(json.dumps(result))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")

    def calibrated(folder, **rest):
        opened = offramp.Run.open(folder, tiny_net())
        return calibrate(opened, run.open_data().val, risk=0.3, **rest)

    assert calibrated(alone).calibration["target"]["risk"] == 0.3
    with pytest.raises(UserError, match=r"may have chosen the learning rate \(0.05, 0.15 were tried beside"):
        calibrated(tmp_path / "seed-1")
    own = offramp.Run.open(tmp_path / "seed-1", tiny_net())
    recorded = ExitLogits.of(own.net, run.batches("val"))
    assert calibrate(own, dataclasses.replace(recorded, origin=None), risk=0.3)
    assert calibrate(own, recorded, budget="90%")


def timed(seconds):
    """A clock that runs every part once, and says what it is told."""

    def clock(parts):
        for part in parts:
            part()
        assert len(parts) == len(seconds)
        return seconds

    return partial(PathTimes, clock=clock)


def test_times_of_parts_add_up(net):
    seconds = [0.8, 1.6, 2.4, 3.2, 0.08, 0.16, 0.24, 0.32]
    times = timed(seconds)(net, Policy.full(4), 8)
    assert times.of((1, 3, 4)) == pytest.approx([0.11, 0.11 + 0.5 + 0.03, 0.11 + 0.5 + 0.03 + 0.44])
    assert times.static == pytest.approx(1.04)
    for confidence, size in (("patience", 1), ("margin", 2)):
        timed(seconds)(net, Policy((None,) * 3, confidence), size)


def test_the_clock_takes_the_median_of_rounds():
    ran = []
    first, second = median_times([lambda: ran.append(1), lambda: ran.append(2)])
    assert ran[:4] == [1, 2, 1, 2] and ran.count(1) == ran.count(2) > 10
    assert 0 < first < 1 and 0 < second < 1


def test_a_latency_leaves_out_the_heads_that_do_not_pay(net, labels, monkeypatch):
    monkeypatch.setattr(to_cost, "PathTimes", timed([10.0] * 4 + [0.5, 15.0, 0.5, 0.5]))
    policy = calibrate(net, (X, labels), latency="25s")
    assert 2 not in policy.evaluated and len(policy.evaluated) > 1
    assert policy.calibration["target"] == {"latency": 25.0, "batch_size": 1, "static": 40.5}
    assert policy.calibration["achieved"]["cost"] <= 25
    half = calibrate(net, (X, labels), latency="50%")
    assert half.calibration["target"]["latency"] == pytest.approx(20.25)
    with pytest.raises(UserError, match=r"exit 1, takes 1.05e\+07us here; give .*'1.155e\+07us'"):
        calibrate(net, (X, labels), latency="10s")
    assert calibrate(net, (X, labels), latency="1.155e+07us").evaluated == (1, 4)


def test_a_budget_and_a_latency_are_both_kept(net, labels, monkeypatch):
    """Exits 1 and 2 save operations and no time: their heads take longer than all that is behind them."""
    monkeypatch.setattr(to_cost, "PathTimes", timed([10.0] * 4 + [45.0, 40.0, 0.5, 0.5]))
    both = {"budget": "80%", "latency": "100%"}
    policy = calibrate(net, (X, labels), **both)
    assert {1, 2} & {*calibrate(net, (X, labels), budget="80%").evaluated}
    assert policy.evaluated == (3, 4)
    target = policy.calibration["target"]
    assert target["budget"] == pytest.approx(0.8 * PathCosts(net).static) and target["rule"] == "best"
    assert target["latency"] == target["static"] == 40.5
    achieved, costs = policy.calibration["achieved"], PathCosts(net).of((3, 4))
    shares = [share for share in achieved["exits"] if share]
    assert achieved["cost"] == pytest.approx(sum(map(mul, shares, costs)))
    assert achieved["seconds"] == pytest.approx(sum(map(mul, shares, (30.5, 41.0))))
    assert achieved["cost"] <= target["budget"] and achieved["seconds"] <= 40.5
    assert "FLOPs and 3" in policy_text(policy) and "; and of 4.05e+04 ms in batches of 1" in policy_text(
        policy
    )

    for rule in ("published", "precision"):
        found = calibrate(net, (X, labels), budget="90%", latency="200%", rule=rule)
        assert found.calibration["target"]["rule"] == rule
        assert found.calibration["achieved"]["cost"] <= 0.9 * PathCosts(net).static
        assert found.calibration["achieved"]["seconds"] <= 81
    assert calibrate(net, (X, labels), budget="100%", latency="100%").evaluated == (4,)
    # exit 1 alone has so few operations, and exit 3 alone so little time
    with pytest.raises(
        UserError, match=r"no exit is within budget='30%' and latency='80%' together; with \d\.\d\d times"
    ) as caught:
        calibrate(net, (X, labels), budget="30%", latency="80%")
    factor = float(str(caught.value).split("with ")[1].split()[0])
    calibrate(net, (X, labels), budget=f"{30 * factor}%", latency=f"{80 * factor}%")
    with pytest.raises(UserError, match="no exit is within"):
        calibrate(net, (X, labels), budget=f"{30 * (factor - 0.01)}%", latency=f"{80 * (factor - 0.01)}%")


@pytest.mark.parametrize("budget", [{}, {"budget": "100%"}], ids=["latency", "both"])
def test_with_all_the_time_of_the_static_network_nobody_leaves(net, budget, monkeypatch):
    """Also where the first exit is always right and the last one is not."""
    monkeypatch.setattr(to_cost, "PathTimes", timed([10.0] * 4 + [0.1] * 4))
    with torch.no_grad():
        labels = net(X)[0].argmax(-1)
    assert calibrate(net, (X, labels), **budget, latency="100%").evaluated == (4,)
    if budget:
        found = calibrate(net, (X, labels), budget="99%", latency="100%")
        assert 1 in found.evaluated and found.calibration["achieved"]["accuracy"] == 1


@pytest.mark.parametrize("budget", [{}, {"budget": "100%"}], ids=["latency", "both"])
def test_an_exit_that_is_right_and_costs_more_time_than_it_saves_is_left_out(net, budget, monkeypatch):
    """Each third of the samples has an exit of its own that is sure and right; the second's is dear.

    Its head takes 12 s of two thirds and saves 20 s of one.
    """
    monkeypatch.setattr(to_cost, "PathTimes", timed([10.0] * 4 + [0.1, 12.0, 0.1, 0.1]))
    with torch.no_grad():
        first, second, _, labels = (logits.softmax(-1) for logits in net(X))
    labels = labels.argmax(-1)
    rest = torch.ones(300, dtype=torch.bool)
    for probabilities in (first, second):
        surest = torch.where(rest, probabilities.amax(-1), -1).topk(100).indices
        labels[surest], rest[surest] = probabilities.argmax(-1)[surest], False
    policy = calibrate(net, (X, labels), **budget, latency="90%")
    assert 1 in policy.evaluated and 2 not in policy.evaluated
    costs = PathCosts(net)
    free = calibrate(net, (X, labels), budget=float(costs.static - 1))  # of operations it saves more
    assert 2 in free.evaluated


def test_a_budget_and_a_latency_heed_all_options(net, labels, monkeypatch):
    sizes = []

    def times(net, reading, batch_size):
        sizes.append((batch_size, reading.confidence, reading.temperatures != (1.0,) * 4))
        return timed([10.0] * 4 + [0.1] * 4)(net, reading, batch_size)

    monkeypatch.setattr(to_cost, "PathTimes", times)
    both = {"budget": "60%", "latency": "70%", "batch_size": 2, "convention": "op-counter", "per_class": True}
    for rule in ("best", "precision"):
        policy = calibrate(net, (X, labels), **both, rule=rule, confidence="margin", temperatures=True)
        assert policy.confidence == "margin" and all(isinstance(t, tuple) for t in policy.thresholds if t)
        assert any(policy.thresholds)
        target, achieved = (policy.calibration[name] for name in ("target", "achieved"))
        assert ("precision" in target) == (rule == "precision")
        assert target["batch_size"] == 2 and target["convention"] == "op-counter"
        costs = PathCosts(net, "op-counter")
        assert target["budget"] == pytest.approx(0.6 * costs.static)
        decided = decide(ExitLogits.of(net, [(X, labels)]), policy, costs)
        assert achieved["cost"] == decided.mean_cost <= 0.6 * costs.static
    assert sizes == [(2, "margin", True)] * 2
    policy = calibrate(net, (X, labels), latency="60%", per_class=True)
    assert any(isinstance(threshold, tuple) for threshold in policy.thresholds)


def test_a_budget_that_cannot_be_reached_names_the_nearest(net, labels):
    least = PathCosts(net).of({1, 4})[0]
    with pytest.raises(UserError, match=f"takes {least}; give `budget={least}` or more"):
        calibrate(net, (X, labels), budget=least - 1)
    assert set(Router(net, calibrate(net, (X, labels), budget=least))(X).exit.tolist()) == {1}
    with pytest.raises(UserError, match=r"the published curve begins above budget=.*rule='best'"):
        calibrate(net, (X, labels), budget=least, rule="published")


def test_a_risk_needs_no_count_of_operations(net, labels):
    class Hidden(torch.nn.Module):
        """Transforms by an operator for which nobody knows a formula."""

        def forward(self, x):
            return torch.fft.fft2(x).real

    hidden = build().float()
    hidden.stages[1].append(Hidden())
    with pytest.raises(UserError, match="operations of the net are unknown"):
        calibrate(hidden, (X, labels), budget="50%")
    assert "cost" not in calibrate(hidden, (X, labels), risk=0.9).calibration["achieved"]
    policy = calibrate(net, (X, labels), risk=0.3, delta=None, loss="brier")
    assert policy.calibration["target"] == {"risk": 0.3, "delta": None, "loss": "brier"}
    assert set(policy.temperatures) != {1.0} and "cost" in policy.calibration["achieved"]
    plain = calibrate(net, (X, labels), risk=0.3, temperatures=False)
    assert set(plain.temperatures) == {1.0}


FINE = {"budget": "50%"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a policy is fitted for a budget, a latency, both, or a risk, got none"),
        ({"budget": 5, "risk": 0.1}, "a risk is no target beside others, got budget and risk; give"),
        ({"budget": "50%", "latency": "1x"}, "latency='1x' must be a time per sample with its unit"),
        ({"budget": "5x"}, "budget='5x' must be operations per sample"),
        ({"latency": 3}, "latency=3 must be a time per sample with its unit"),
        ({"risk": 0}, "risk is 0, must be a number above 0 and below 1$"),
        ({"risk": 1.0}, "risk is 1.0, must be"),
        ({"risk": "1%"}, "risk is '1%', must be"),
        ({"risk": float("nan")}, "risk is nan, must be"),
        ({"risk": 0.1, "delta": 0}, "delta is 0, must be a number above 0 and below 1, or None"),
        ({"risk": 0.1, "delta": 1}, "delta is 1, must be"),
        (
            {"risk": 0.1, "loss": "brief"},
            r"no loss 'brief' \(did you mean 'brier'\?\); there are: wrong, brier",
        ),
        ({"risk": 0.1, "rule": "published"}, "rule is for budget, not for risk"),
        ({"risk": 0.1, "per_class": True}, "per_class is for budget or latency, not for risk"),
        ({"latency": "3ms", "convention": "thop"}, "convention is for budget or risk, not for latency"),
        ({**FINE, "delta": 0.1}, "delta is for risk, not for budget"),
        ({**FINE, "loss": "brier"}, "loss is for risk, not for budget"),
        ({**FINE, "batch_size": 8}, "batch_size is for latency, not for budget"),
        ({"latency": "3ms", "batch_size": 0}, "batch_size is 0, must be a whole number"),
        ({**FINE, "rule": "pulished"}, r"did you mean 'published'\?"),
        ({**FINE, "rule": "published", "per_class": True}, "the published thresholds are one for each exit"),
        ({"latency": "3ms", "rule": "precision"}, "rule is for budget, not for latency"),
        ({**FINE, "per_class": "yes"}, "per_class is 'yes', must be true or false"),
        ({**FINE, "temperatures": 2.5}, "temperatures is 2.5, must be true or false"),
        ({**FINE, "confidence": "max"}, "no confidence 'max'"),
        ({**FINE, "convention": "flops"}, "no counting convention 'flops'"),
    ],
)
def test_options_that_do_not_fit_give_one_line(options, message, net, labels):
    with pytest.raises(UserError, match=message):
        calibrate(net, (X, labels), **options)


BAD = {
    "none": (None, "there are no data to calibrate on"),
    "dataset": (TensorDataset(X, X), "data is a TensorDataset, must be batches"),
    "word": ("digits", "data is a str, must be batches"),
    "number": (3, "data is an int, must be batches"),
    "empty": ([], "no sample with a label"),
    "unlabelled": ((X, torch.full((300,), -100)), "no sample with a label"),
    "images": ([X], "a batch to calibrate on is a pair"),
    "split": (
        Split((255 * X).byte(), {"label": torch.zeros(300).long()}),
        "are not normalised; .* `transform=...`",
    ),
    "other exits": (ExitLogits(torch.zeros(2, 5, 5), torch.zeros(5).long()), "of 2 exits, the net has 4"),
    "other net": (ExitLogits(torch.zeros(4, 5, 5), torch.zeros(5).long(), net="00"), "of other weights"),
    "nan": ((X * torch.nan, torch.zeros(300).long()), "the logits of sample 0 at exit 1 are not finite"),
}


@pytest.mark.parametrize("kind", BAD)
def test_data_that_do_not_fit_give_one_line(kind, net):
    data, message = BAD[kind]
    with pytest.raises(UserError, match=message):
        calibrate(net, data, budget="50%")


def test_what_is_no_net_with_exits_is_refused(labels):
    with pytest.raises(UserError, match="is a Linear without exits"):
        calibrate(torch.nn.Linear(2, 2), (X, labels), budget="50%")
    separate = offramp.nets.Separate(tiny_net())
    with pytest.raises(UserError, match="Separate has no exits in a row"):
        calibrate(separate, (X, labels), budget="50%")


@pytest.mark.parametrize("shape", [(4, 3, 8, 8, 8), (4, 3), (4,), (4, 1, 8, 8)])
def test_inputs_of_another_shape_give_one_line(net, shape):
    batch = torch.zeros(shape), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(UserError, match=r"^the net reads inputs \[N, 3, \d+, \d+\], got "):
        calibrate(net, [batch], budget="50%")
