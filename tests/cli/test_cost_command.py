import json

import pytest

from offramp.counting import cost
from offramp.nets import create


def test_json_is_what_the_library_counts(offramp):
    code, out, err = offramp("cost", "--net", "vgg7:width=8", "--classes", 10, "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    counted = cost(create("vgg7", num_classes=10, width=8))
    assert document["net"] == "vgg7"
    assert document["arguments"] == {"width": 8}
    assert (document["convention"], document["params"]) == (counted.convention, counted.params)
    assert document["exits"] == [{"params": e.params, "flops": e.flops} for e in counted.exits]


def test_text_holds_raw_counts(offramp):
    code, out, _ = offramp("cost", "--net", "vgg7")
    assert code == 0
    last = cost(create("vgg7")).exits[-1]
    assert out.splitlines()[7].split() == ["6", f"{last.params:,}", f"{last.flops:,}"]


def test_training_macs_of_dfs_beside_the_papers_model(offramp):
    words = ["cost", "--net", "vgg7", "--method", "dfs", "--beta", 0.5]
    code, out, _ = offramp(*words, "--json")
    assert code == 0
    training = json.loads(out)["training"]
    # By hand: 152.854 M products forward, as many for the weights, 150.995 M for the convolutions' inputs and
    # 0.09 M for the heads'; DFS leaves out half of the input gradients that reach a fork.
    assert (training["joint_macs"], training["macs"]) == (456_792_576, 381_263_104)
    assert training["saved_percent"] == pytest.approx(16.53, abs=0.01)
    assert (training["paper"]["joint_operations"], training["paper"]["operations"]) == (70, 60)
    assert training["paper"]["saved_percent"] == pytest.approx(100 * 5 / 35)  # (L - 1) / (6 L - 1), L = 6
    code, out, _ = offramp(*words)
    assert code == 0
    assert [line.split()[-4:] for line in out.splitlines() if line.startswith("saved")] == [
        ["16.53", "%", "14.29", "%"]
    ]


def test_a_side_twice_as_long_makes_four_times_the_products(offramp):
    words = ["cost", "--net", "vgg7:width=4", "--method", "dfs", "--json"]
    small, large = (json.loads(offramp(*words, "--size", side)[1]) for side in (32, 64))
    assert (small["input_size"], large["input_size"]) == ([3, 32, 32], [3, 64, 64])
    logits = 3 * 100 * (4 + 4 + 8 + 8 + 16 + 16)  # a head's products do not depend on the size
    macs = [document["training"]["joint_macs"] - logits for document in (small, large)]
    assert macs[1] == 4 * macs[0]
    assert large["params"] == small["params"]


def test_joint_saves_nothing(offramp):
    _, out, _ = offramp("cost", "--net", "vgg7:width=4", "--method", "joint", "--json")
    training = json.loads(out)["training"]
    assert training["macs"] == training["joint_macs"] > 0
    assert training["saved_percent"] == training["paper"]["saved_percent"] == 0


def test_options_of_the_method_count(offramp):
    saved = []
    for option in ("beta=0.1", "beta=0.9"):
        _, out, _ = offramp("cost", "--net", "vgg7:width=8", "--method", "dfs", "--set", option, "--json")
        saved.append(json.loads(out)["training"]["saved_percent"])
    assert saved[0] > 20 > 5 > saved[1] > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "missing: --net"),
        (("--net", "vgg"), "no network 'vgg'"),
        (("--net", "vgg7:"), "write name:key=value"),
        (("--net", "vgg7:width=wide"), "whole number"),
        (("--net", "vgg7:name=resnet18"), "vgg7 has no argument 'name'"),
        (("--net", "vgg7:width=1000000000"), "cannot build 'vgg7:width=1000000000'"),
        (("--net", "vgg7:slice_beta=half"), "cannot build 'vgg7:slice_beta=half'"),
        (("--net", "msdnet_cifar:dropout=2"), "dropout is 2, must be a probability"),
        (("--net", "resnet18", "--size", "20"), "size (3, 20, 20)"),
        (("--net", "vgg7", "--size", "0"), "size (3, 0, 0)"),
        (("--net", "vgg7", "--size", "-1"), "size (3, -1, -1)"),
        (("--net", "vgg7", "--classes", "ten"), "--classes"),
        (("--net", "vgg7", "--beta", "0.5"), "give --method too"),
        (("--net", "vgg7", "--method", "dfs", "--beta", "1"), "a number above 0 and below 1"),
        (("--net", "vgg7", "--method", "joint", "--beta", "0.5"), "'joint' has no option 'beta'"),
    ],
)
def test_mistakes_are_one_line(refused, words, says):
    assert says in refused("cost", *words)


@pytest.mark.parametrize(
    ("method", "times"),
    [
        ("separate", 3.022),  # all of these by hand, from the shapes of the layers
        ("cagrad", 2.342),
        ("bdl-1", 1.537),
        ("dr-mgf", 6.917),  # 6 stages, and a fusion that trains neither the last stage nor the heads
    ],
)
def test_what_costs_more_than_joint_training(offramp, method, times):
    words = ["cost", "--net", "vgg7", "--method", method]
    training = json.loads(offramp(*words, "--json")[1])["training"]
    assert training["macs"] / training["joint_macs"] == pytest.approx(times, abs=1e-3)
    assert training["saved_percent"] == pytest.approx(100 * (1 - times), abs=0.1)
    assert training["paper"]["operations"] is training["paper"]["saved_percent"] is None
    lines = offramp(*words)[1].splitlines()
    assert next(line.split() for line in lines if line.startswith(method))[2:] == ["not", "modelled"]
    assert [line.split()[-1] for line in lines if line.startswith("times joint")] == [f"{times:.3f}"]


def test_what_cannot_be_counted_says_so(offramp):
    words = ["cost", "--net", "vgg7:width=4", "--method", "dr-mgf", "--set", "landscape=true"]
    training = json.loads(offramp(*words, "--json")[1])["training"]
    assert training["macs"] is training["saved_percent"] is None
    code, out, _ = offramp(*words)
    assert code == 0
    assert out.splitlines()[-1] == f"unknown: {training['unknown'][0]}"
    assert [line.split()[1] for line in out.splitlines() if line.startswith("dr-mgf")] == ["unknown"]


def test_what_comes_once_an_epoch(offramp):
    words = ["cost", "--net", "vgg7:width=4", "--method", "dr-mgf", "--set", "stage_weights=equal-norms"]
    _, out, _ = offramp(*words)
    assert out.splitlines()[-1] == "On top, once an epoch: 33,186,944 MACs for each image of a batch."


def test_a_net_of_several_tasks_has_a_row_for_each(offramp):
    words = ["cost", "--net", "segnet_split:width=2", "--size", 32]
    _, out, _ = offramp(*words, "--json")
    document = json.loads(out)
    counted = cost(create("segnet_split", width=2), (3, 32, 32))
    assert document["outputs"] == ["segmentation", "depth", "normals"]
    assert document["exits"] == [{"params": e.params, "flops": e.flops} for e in counted.exits]
    code, out, _ = offramp(*words, "--method", "joint")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line]
    assert [row[0] for row in rows if len(row) == 3][:5:2] == ["output", "segmentation", "normals"]
    images = (
        32 * 32 * 3 * 2 * 9
    )  # products of the first convolution, which reads images: no gradient for them
    assert [row[1] for row in rows if row[0] == "joint"] == [f"{3 * counted.flops - images:,}"] * 2
    assert "not modelled" in out


@pytest.mark.parametrize("side", [2**21, 2**31, 10**30])
def test_an_image_beyond_any_memory(refused, side):
    line = refused("cost", "--net", "vgg_sdn:width=1", "--size", side)
    assert f"one input of size (3, {side}, {side}) has more values than any memory; make it smaller" in line


def test_a_large_image_is_counted_without_memory_for_it(offramp):
    code, out, _ = offramp("cost", "--net", "vgg7:width=2", "--size", 2**18, "--json")
    assert code == 0 and json.loads(out)["input_size"] == [3, 2**18, 2**18]
