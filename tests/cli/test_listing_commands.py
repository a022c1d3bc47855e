import json
import re

from offramp.methods import METHODS
from offramp.nets import NETS


def test_nets_are_listed_with_their_exits(offramp):
    code, out, err = offramp("nets", "--json")
    assert (code, err) == (0, "")
    nets = {net["name"]: net for net in json.loads(out)}
    assert nets.keys() == NETS.keys()
    exits = {"vgg7": 6, "vgg16": 13, "resnet18": 4, "msdnet_cifar": 7, "msdnet_imagenet": 5}
    assert {name: nets[name]["exits"] for name in exits} == exits
    assert nets["vgg7"]["arguments"]["width"] == 64
    assert nets["segnet_mtan"]["tasks"] == ["segmentation", "depth", "normals"]
    assert (nets["segnet_mtan"]["params"], nets["vgg7"]["params"]) == (44_229_076, 1_235_968)
    assert all(("exits" in net) != ("tasks" in net) for net in nets.values())
    assert nets["vgg16"]["input_size"] == [3, 224, 224]
    code, out, _ = offramp("nets")
    assert code == 0
    exits, tasks = out.split("Networks with several tasks:")
    assert all(name in (exits if "exits" in nets[name] else tasks) for name in NETS)


def test_methods_are_listed_with_their_options(offramp):
    code, out, err = offramp("methods", "--json")
    assert (code, err) == (0, "")
    methods = {method["name"]: method for method in json.loads(out)}
    assert methods.keys() == METHODS.keys()
    assert methods["joint"]["options"] == {"weights": None}
    assert methods["joint"]["axes"] == {}
    assert methods["joint"]["passes"] == "F + B"
    assert methods["dfs"]["options"]["beta"] == 0.5
    assert methods["dfs"]["axes"] == {"fork": "Partition"}
    assert methods["dfs"]["needs"] == ["losses"]
    assert all(method["paper"] and method["summary"] for method in methods.values())
    code, out, _ = offramp("methods")
    assert code == 0
    assert "beta=0.5" in out


def test_every_option_is_explained(offramp):
    _, out, _ = offramp("methods", "--json")
    for method in json.loads(out):
        assert method["meanings"].keys() == method["options"].keys()
        for option, meaning in method["meanings"].items():
            assert meaning, (method["name"], option)
            assert "`" not in meaning, (method["name"], option)


def test_a_method_that_is_named_is_explained_option_by_option(offramp):
    code, out, err = offramp("methods", "dfs", "ge+kd")
    assert (code, err) == (0, "")
    dfs, composed = out.split("\nge+kd: ")
    assert dfs.startswith("dfs: Deep Feature Surgery")
    assert "changes: fork\n" in dfs
    assert "  later_to_own=0.0\n      Gain of the later losses on the own channels: 0 in the paper.\n" in dfs
    assert "changes: fork, objective\n" in composed
    options = re.findall(r"^  (\w+)=", composed, re.MULTILINE)
    assert options == ["scales", "weights", "alpha", "taught", "temperature", "anneal", "scale"]
    code, out, _ = offramp("methods", "ge+kd", "--json")
    assert (code, [each["name"] for each in json.loads(out)]) == (0, ["ge+kd"])


def test_methods_explain_what_they_need_and_which_to_try_first(offramp):
    _, out, _ = offramp("methods")
    legend = out[out.index("K exits") : out.index("joint: ")]
    explained = legend[legend.index("needs of a step") : legend.index("Which to try")].splitlines()[1:]
    needs = set().union(*(method.needs for method in METHODS.values()))
    assert needs == {line.split()[0] for line in explained if line}
    order = [
        legend.index(name)
        for name in (
            "joint first",
            "backbone-then-kd: start here",
            "separate beside",
            "Then dfs",
            "cagrad or nash-mtl",
            "dr-mgf-chained: start here",
        )
    ]
    assert order == sorted(order)
    assert max(map(len, legend.splitlines())) <= 110
