import dataclasses
import itertools
import re

import pytest
import torch
from steps import exit_step

from offramp import Recipe
from offramp.errors import UserError
from offramp.forks import Partition
from offramp.methods import METHODS, Method, method
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.combiners.pcgrad import PCGrad
from offramp.methods.loops import DRMGF
from offramp.methods.objectives import TaskLoss
from offramp.methods.objectives.distillation import Distillation
from offramp.nets import Separate, vgg7


def test_tokens_of_different_axes_combine():
    both = method("dfs+kd", {"beta": 0.25, "temperature": 3})
    assert both.forks[0].beta == 0.25
    assert both.objective.temperature == 3
    assert both.axes.keys() == {"fork", "objective"}
    assert both == method("kd+dfs", {"beta": 0.25, "temperature": 3})
    assert both.name == "dfs+kd"


@pytest.mark.parametrize("name", ["dfs+kd", "dfs+byot", "dfs+pcgrad", "dfs+ge", "ge+kd", "ge+byot+cagrad"])
def test_published_and_useful_pairs(name):
    combined = method(name)
    assert len(combined.forks) == name.count("dfs") + name.count("ge")
    for token in name.split("+"):
        assert METHODS[token].paper in combined.paper
        assert all(combined.named(key) for key in METHODS[token].options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kd+byot", ["'kd' and 'byot'", "objective", "choose one"]),
        ("pcgrad+cagrad", ["'pcgrad' and 'cagrad'", "combiner"]),
        ("dr-mgf+pcgrad", ["'dr-mgf'", "'pcgrad' has nothing to combine", "choose one"]),
        ("dr-mgf+uncertainty", ["'dr-mgf'", "'uncertainty' has nothing to balance", "choose one"]),
        ("dr-mgf+meta-gf", ["'meta-gf' and 'dr-mgf'", "loop", "an epoch has one"]),
        (
            "pcgrad+auto-lambda",
            ["'auto-lambda' descends one weighted sum", "'pcgrad' has nothing to combine"],
        ),
        ("dwa+auto-lambda", ["'dwa' and 'auto-lambda'", "balancer", "choose one"]),
        ("dfs+dfs", ["same fork twice"]),
        ("dfs+dfs-no-reference", ["same fork twice"]),
        ("joint+dfs", ["'joint'", "leave it out"]),
        ("separate+kd", ["'separate' shares nothing"]),
        ("dfs+kdd", ["no method 'kdd'", "did you mean 'kd'"]),
        ("dfs+", ["has a '+' without a name on both sides"]),
    ],
)
def test_what_cannot_be_combined(name, words):
    with pytest.raises(UserError) as error:
        method(name)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(UserError, match=r"'dfs\+kd' has no option 'betta' \(did you mean 'beta'\?\)"):
        method("dfs+kd", {"betta": 0.5})


def test_options_have_qualified_names():
    """The row that brings the part, a dot and the field; the short name where one part alone has it."""
    long = method("dfs+kd", {"dfs.beta": 0.25, "kd.alpha": 0.3})
    assert long == method("dfs+kd", {"beta": 0.25, "alpha": 0.3})
    assert {"beta", "alpha"} < long.options.keys()
    assert method("dfs-no-reference", {"dfs-no-reference.beta": 0.25}).forks[0].beta == 0.25
    assert method("dfs", {"taskloss.weights": [1, 2]}).objective.weights == (1, 2)
    assert method("kd", {"alpha": 0.1, "kd.alpha": 0.2}).objective.alpha == 0.2  # the later one counts
    for key in ("dfs.alpha", "byot.alpha", "distillation.alpha", "kd."):
        with pytest.raises(UserError, match=rf"'dfs\+kd' has no option '{key}'"):
            method("dfs+kd", {key: 0.5})


def test_an_ambiguous_short_name_is_refused_with_the_qualified_ones():
    with pytest.raises(UserError, match=r"option 'scales'; say which: dfs\.scales or ge\.scales$") as error:
        method("dfs+ge", {"scales": "all"})
    assert "\n" not in str(error.value)
    both = method("dfs+ge", {"ge.scales": "all"})
    assert [rule.scales for rule in both.forks] == ["coarsest", "all"]
    assert both.options["ge.scales"] == "all"
    assert "scales" not in both.options


def test_a_method_of_a_user_s_own_is_parts_by_axis():
    mine = Method("mine", "", "", {"fork": Partition(), "objective": Distillation(alpha=0.3)})
    assert mine.axes == {"fork": "Partition", "objective": "Distillation"}
    assert (
        mine.with_options({"distillation.alpha": 0.4, "beta": 0.25}).objective.alpha == 0.4
    )  # it brings two parts
    assert (
        Method("mine", "", "", {"combiner": PCGrad()}).with_options({"mine.lean": False}).combiner == PCGrad()
    )
    with pytest.raises(
        UserError, match=r"no axis 'forks' \(did you mean 'fork'\?\); there are: fork, objective"
    ):
        Method("mine", "", "", {"forks": Partition()})
    for wrong in ({"objective": PCGrad()}, {"fork": PCGrad()}, {"combiner": (PCGrad(), PCGrad())}):
        with pytest.raises(UserError, match=r"PCGrad.* is no (objective|fork|combiner); give it on the axis"):
            Method("mine", "", "", wrong)
    with pytest.raises(UserError, match=r"'mine': 'drmgf' descends one weighted sum .*'pcgrad' has nothing"):
        Method("mine", "", "", {"combiner": PCGrad(), "loop": DRMGF()})


def test_weights_are_factors_of_the_losses():
    net = vgg7(num_classes=5, width=4)
    step = exit_step(net, net(torch.randn(4, 3, 32, 32)), torch.arange(4))
    plain = TaskLoss()(step)
    weighted = BoundMethod(method("joint", {"weights": [0, 1, 2, 3, 4, 5]}), net).losses_of(step)
    assert torch.equal(torch.stack(weighted), torch.arange(6) * torch.stack(plain))
    with pytest.raises(UserError, match="weights are 2, outputs 6"):
        BoundMethod(method("joint", {"weights": [1, 2]}), net)
    for bad in ([1, -1], "ab", [0, 0], 3, [float("nan")], [True, True]):
        with pytest.raises(UserError, match="weights are"):
            method("joint", {"weights": bad})


def test_separate_prepares_copies():
    net = vgg7(num_classes=5, width=4)
    assert isinstance(METHODS["separate"].prepare(net), Separate)
    assert METHODS["joint"].prepare(net) is net


def test_a_row_is_data():
    assert all(isinstance(row, Method) and dataclasses.is_dataclass(row) for row in METHODS.values())
    assert all(row.name == name and row.summary and row.paper for name, row in METHODS.items())


@pytest.mark.parametrize("name", ["byot+pcgrad", "byot+bdl-2", "byot+graddrop"])
def test_what_an_objective_learns_gets_the_gradient_of_the_sum(name):
    torch.manual_seed(0)
    net = vgg7(num_classes=5, width=4).double()
    images, targets = torch.randn(4, 3, 32, 32).double(), torch.arange(4)
    found = []
    for one in ("byot", name):
        torch.manual_seed(0)
        bound = BoundMethod(method(one), net).double()
        outputs, features, trunk = net(images, keep=True)
        step = exit_step(net, outputs, targets, features=features, trunk=trunk)
        bound.combine(bound.losses_of(step), step, Backward())
        found.append([p.grad for p in bound.parameters()])
        net.zero_grad()
    assert len(found[0]) > 0
    torch.testing.assert_close(found[1], found[0])


def test_no_option_is_also_a_setting_of_the_recipe():
    settings = {field.name for field in dataclasses.fields(Recipe)}
    for name, row in METHODS.items():
        assert not settings & row.options.keys(), name


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("joint", {}, "F + B"),
        ("separate", {}, "(K + 1) / 2 (F + B)"),
        ("pcgrad", {}, "F + (K + 1) / 2 B"),
        ("dfs+pcgrad", {"shared": "union", "lean": True}, "F + (K + 1) / 2 B + B"),
        ("cagrad", {"shared": "union", "every": 10}, "F + (K + 1) / 20 B + B"),
        ("cagrad", {"shared": "union", "part": 0.25}, "F + 0.25 (F + (K + 1) / 2 B) + B"),
        ("cagrad", {"shared": "union", "part": 0.25, "every": 4}, "F + 0.0625 (F + (K + 1) / 2 B) + B"),
        ("bdl-1", {"window": "local"}, "F + B"),
        ("bdl-2", {}, "F + 2 B"),
    ],
)
def test_passes_follow_the_options(name, options, passes):
    assert str(method(name, options).passes) == passes


def test_a_method_is_made_again_from_its_options():
    """As a run's record is read."""
    made = 0
    for pair in itertools.combinations(METHODS, 2):
        try:
            one = method("+".join(pair))
        except UserError:
            continue
        assert method(one.name, one.options) == one
        made += 1
    assert made > 100


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("options", [{}, {"lean": True}, {"every": 4}, {"part": 0.25, "every": 2}])
def test_passes_as_a_number_are_those_in_words(name, options):
    """Of nine exits; a forward pass is a third of both, a backward pass two thirds."""
    if options and "lean" not in METHODS[name].options:
        return
    one = method(name, {"shared": "union", **options} if options else {})
    words = re.sub(r"(?<=[\w)]) (?=[(FBK])", " * ", str(one.passes))  # what stands side by side is a product
    number = eval(words, {"K": 9, "F": 1 / 3, "B": 2 / 3})
    assert one.passes.joint(9) == pytest.approx(number, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "option"), [("cagrad", "c"), ("pcgrad", "part"), ("graddrop", "leak"), ("dfs", "own_to_shared"),
                         ("nash-mtl", "max_norm"), ("imtl", "max_weight"), ("kd", "temperature")],
)  # fmt: skip
def test_true_is_no_number(name, option):
    with pytest.raises(UserError, match=option):
        method(name, {option: True})


def test_an_aggregator_is_a_name():
    for value in (["UPGrad"], None, 1):
        with pytest.raises(UserError, match="name of a class of TorchJD"):
            method("aggregate", {"aggregator": value})
