import json

import pytest
import torch

from offramp import Run, cost
from offramp.exits import Policy


@pytest.fixture(scope="module")
def logits(runs):
    """The logits of all exits on the validation and the test images, ``[K, N, classes]``, and the labels."""
    opened = Run.open(runs / "joint")
    found = {}
    with torch.no_grad():
        for split in ("val", "test"):
            batches = [*opened.batches(split)]
            parts = [torch.stack(opened.net(batch.inputs)) for batch in batches]
            labels = torch.cat([batch.targets["label"] for batch in batches])
            found[split] = torch.cat(parts, 1), labels
    return found


@pytest.fixture(scope="module")
def costs(runs):
    """Operations of each of the net's stages and heads."""
    counted = cost(Run.open(runs / "joint").net)
    return counted.stages, counted.heads


def routed(logits, labels, policy, costs):
    """Accuracy, mean cost and exits of a policy, sample by sample."""
    stages, heads = costs
    thresholds = (*policy.thresholds, -1)
    exits, right, total = [], 0, 0
    for i, label in enumerate(labels.tolist()):
        for k, threshold in enumerate(thresholds, 1):
            total += stages[k - 1] + (heads[k - 1] if threshold is not None else 0)
            if threshold is not None and logits[k - 1, i].softmax(-1).max() >= threshold:
                exits.append(k)
                right += int(logits[k - 1, i].argmax()) == label
                break
    return right / len(labels), total / len(labels), exits


def test_a_policy_for_a_budget_is_written_and_said(offramp, runs, logits, costs, tmp_path):
    out = tmp_path / "policy.json"
    code, text, err = offramp("calibrate", runs / "joint", "--budget", "50%", "--out", out, "--json")
    assert code == 0, err
    document, policy = json.loads(text), Policy.open(out)
    assert document["policy"] == str(out)
    assert [exit["threshold"] for exit in document["exits"]] == [*policy.thresholds, None]
    assert [k for k, exit in enumerate(document["exits"], 1) if exit["evaluated"]] == [*policy.evaluated]
    accuracy, mean, exits = routed(*logits["val"], policy, costs)
    assert mean <= 0.5 * (sum(costs[0]) + costs[1][-1])
    achieved = document["calibration"]["achieved"]
    assert achieved["accuracy"] == pytest.approx(accuracy)
    assert achieved["cost"] == pytest.approx(mean)
    shares = [exits.count(k) / len(exits) for k in range(1, 7)]
    assert [exit["share"] for exit in document["exits"]] == pytest.approx(shares)
    right = (logits["val"][0][-1].argmax(-1) == logits["val"][1]).double().mean()
    assert achieved["full_accuracy"] == pytest.approx(right.item())


def test_eval_sends_the_test_set_through_the_router(offramp, runs, logits, costs, tmp_path):
    # at exit 1 half of the images leave, exit 2 is not evaluated, and so on
    of_test, labels = logits["test"]
    sure = of_test[:-1].softmax(-1).amax(-1).sort().values
    thresholds = ((sure[:, 24] + sure[:, 25]) / 2).tolist()
    thresholds[1] = None
    Policy(thresholds).save(tmp_path / "policy.json")
    policy = Policy.open(tmp_path / "policy.json")
    words = ("eval", runs / "joint", "--policy", tmp_path / "policy.json")
    code, text, err = offramp(*words, "--json")
    assert code == 0, err
    found = json.loads(text)
    accuracy, mean, exits = routed(of_test, labels, policy, costs)
    assert found["top1"] == pytest.approx(100 * accuracy)
    assert found["flops"] == pytest.approx(mean)
    assert found["static_flops"] == sum(costs[0]) + costs[1][-1]
    assert [exit["share"] for exit in found["exits"]] == [exits.count(k) / 50 for k in range(1, 7)]
    assert found["exits"][1] == {"share": 0.0, "top1": None}
    of_all = sum(exit["share"] * (exit["top1"] or 0) for exit in found["exits"])
    assert of_all == pytest.approx(found["top1"])
    code, text, _ = offramp(*words)
    assert code == 0
    assert f"all           100.0  {found['top1']:7.2f}\n" in text
    assert "as the router executes them (thop)" in text


def test_eval_takes_a_policy_on_other_data_too(offramp, runs, grey, tmp_path):
    Policy.full(6).save(tmp_path / "full.json")
    words = ("eval", runs / "joint", "--data", grey(32), "--json")
    routed = json.loads(offramp(*words, "--policy", tmp_path / "full.json")[1])
    plain = json.loads(offramp(*words)[1])
    assert routed["data"] == "grey"
    assert routed["top1"] == pytest.approx(plain["exits"][-1]["top1"])
    assert routed["flops"] == routed["static_flops"] == plain["exits"][-1]["flops"]


def test_text_says_thresholds_dropped_exits_and_what_to_expect(offramp, runs, tmp_path):
    out = tmp_path / "policy.json"
    code, text, _ = offramp("calibrate", runs / "joint", "--latency", "90%", "--out", out)
    assert code == 0
    policy = Policy.open(out)
    for k, threshold in enumerate(policy.thresholds, 1):
        shown = "not evaluated" if threshold is None else f"{threshold:.4g}"
        assert any(line.split()[0] == str(k) and shown in line for line in text.splitlines()[2:8])
    assert "fitted on 20 val samples of digits for a mean of" in text
    assert "in batches of 1, where the static network takes" in text
    assert "the full network" in text
    assert text.endswith(f"policy: {out}\n")


def test_a_budget_within_a_latency(offramp, runs, tmp_path):
    out = tmp_path / "policy.json"
    words = ("calibrate", runs / "joint", "--budget", "90%", "--latency", "200%", "--batch-size", 2)
    code, text, _ = offramp(*words, "--out", out)
    assert code == 0
    found = Policy.open(out).calibration
    assert found["achieved"]["cost"] <= found["target"]["budget"]
    assert found["achieved"]["seconds"] <= found["target"]["latency"] == 2 * found["target"]["static"]
    assert "; and of" in text and "in batches of 2, where the static network takes" in text


def test_too_few_images_for_a_risk_give_the_full_network_and_say_so(offramp, runs, tmp_path):
    out = tmp_path / "policy.json"
    code, text, err = offramp("calibrate", runs / "joint", "--risk", 0.01, "--delta", 0.1, "--out", out)
    assert code == 0
    assert "every sample goes through the full network" in err
    assert "no sample leaves early: a risk of 0.01 at delta=0.1 takes" in text
    assert Policy.open(out).evaluated == (6,)


def test_a_risk_in_expectation_may_be_asked_for(offramp, runs, tmp_path):
    out = tmp_path / "policy.json"
    words = ("calibrate", runs / "joint", "--risk", 0.9, "--delta", "none", "--out", out, "--json")
    code, text, err = offramp(*words)
    assert code == 0, err
    assert json.loads(text)["calibration"]["target"] == {"risk": 0.9, "delta": None, "loss": "wrong"}
    achieved = json.loads(text)["calibration"]["achieved"]
    assert {"accuracy", "full_accuracy", "exits", "cost", "risk", "tested_on"} == achieved.keys()


def test_what_is_there_is_never_overwritten(refused, runs, tmp_path):
    out = tmp_path / "policy.json"
    out.write_text("mine")
    words = ("calibrate", runs / "joint", "--budget", "50%", "--out")
    assert "is there already; give another --out" in refused(*words, out)
    assert out.read_text() == "mine"
    assert "is there already" in refused(*words, tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "is there already" in refused(*words, tmp_path / "link")
    assert "there is no folder" in refused(*words, tmp_path / "none" / "policy.json")


def test_mistakes_are_one_line(offramp, refused, small, runs, tmp_path):
    out = tmp_path / "policy.json"
    words = ("calibrate", runs / "joint", "--out", out)
    assert "missing: --out" in refused("calibrate", runs / "joint", "--budget", "50%")
    assert "got none; give one" in refused(*words)
    assert "a risk is no target beside others, got budget and risk" in refused(
        *words, "--budget", "50%", "--risk", "0.1"
    )
    assert "budget='fast' must be" in refused(*words, "--budget", "fast")
    line = refused(*words, "--budget", "1")
    remedy = line.rsplit("give --budget ", 1)[1].split(" or more")[0]
    assert offramp(*words, "--budget", remedy)[0] == 0
    out.unlink()
    assert "must be a number above 0 and below 1" in refused(*words, "--risk", "1.5")
    assert "delta is for risk, not for budget" in refused(*words, "--budget", "50%", "--delta", "0.1")
    assert "no confidence 'max'" in refused(*words, "--budget", "50%", "--confidence", "max")
    assert "no run folder" in refused("calibrate", tmp_path, "--budget", "50%", "--out", out)
    for name, more in {"sep": ("separate",), "no-val": ("joint", "--set", "val_fraction=0")}.items():
        assert offramp(*small, "--method", *more, "--out", tmp_path / name)[0] == 0
    line = refused("calibrate", tmp_path / "sep", "--budget", "50%", "--out", out)
    assert "no exits in a row" in line
    line = refused("calibrate", tmp_path / "no-val", "--budget", "50%", "--out", out)
    assert "the run held out no validation samples" in line
    assert not out.exists()
    assert offramp(*words, "--budget", "50%")[0] == 0
    line = refused("eval", runs / "dfs", "--policy", out)
    assert "calibrated for other weights" in line
    assert "no exits in a row" in refused("eval", tmp_path / "sep", "--policy", out)
    assert "cannot read the policy" in refused("eval", runs / "dfs", "--policy", tmp_path / "none.json")
