"""Every method on nets of several tasks: batches that lack one, the scale of a step, and who refuses them."""

from __future__ import annotations

import copy

import pytest
import torch
from attentive import CLASSES, Attentive
from torch import nn

from offramp.data import Batch
from offramp.errors import UserError
from offramp.methods import METHODS, method
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.combiners._scale import EXCEPTIONS
from offramp.methods.combiners._torchjd_adapter import MEAN, SUM, UNIT_FREE
from offramp.methods.loops import Minibatch
from offramp.nets import MultiTaskNet, Net
from offramp.tasks import Classification

# what compares exits with each other, goes by their depth, puts gains on forks, or works at them
FOR_EXITS = [
    "kd", "kd-msdnet", "byot", "byot-iccv", "distill-later", "eed", "elf", "survivors", "sdn-ramp",
    "bdl-1", "bdl-2", "dfs", "dfs-no-reference", "ge", "shallow-kd", "backbone-then-kd", "mgda-ub", "ztw",
    "imta-2",
]  # fmt: skip
STEPS = [name for name, row in METHODS.items() if isinstance(row.loop, Minibatch) and not row.separate]
ARGUMENTS = {"FairGrad": {"alpha": 1.0}}
TORCHJD = {
    f"aggregate: {name}": ("aggregate", {"aggregator": name, "arguments": ARGUMENTS.get(name, {})})
    for name in (*SUM, *MEAN, *UNIT_FREE)
}
CASES = {
    **{name: (name, {}) for name in STEPS if name not in (*FOR_EXITS, "aggregate")},
    **TORCHJD,
    "uncertainty+cagrad": ("uncertainty+cagrad", {}),
    "nash-mtl, lean": ("nash-mtl", {"shared": "union", "lean": True}),
    "nash-mtl, every": ("nash-mtl", {"shared": "union", "every": 8}),
    "uncertainty+mgda, every": ("uncertainty+mgda", {"shared": "union", "every": 2}),
    "cagrad, part": ("cagrad", {"shared": "union", "part": 0.5}),
    "joint, weights": ("joint", {"weights": {"color": 3, "box": 10, "shape": 0.5}}),
}


class Fewer(Net):
    """A net of several tasks without some of them: the others, with the same parameters."""

    input_size = (3, 6, 6)

    def __init__(self, net: Net, kept: list[int]) -> None:
        super().__init__()
        self.net, self.kept = net, kept
        names = list(net.outputs)
        self.outputs = {names[k]: net.outputs[names[k]] for k in kept}

    def forward(self, x):
        outputs = self.net(x)
        return [outputs[k] for k in self.kept]


def attentive(**options) -> Attentive:
    torch.manual_seed(0)
    return Attentive(**options).double()


def batch(lacking: tuple[int, ...] = (), number: int = 0, size: int = 8) -> Batch:
    draws = torch.Generator().manual_seed(number)
    images = torch.randn(size, 3, 6, 6, generator=draws, dtype=torch.float64)
    targets = {
        "color": torch.randint(CLASSES, (size,), generator=draws),
        "box": torch.rand(size, 4, generator=draws, dtype=torch.float64).sort().values,
        "shape": torch.randint(CLASSES, (size,), generator=draws),
    }
    return Batch(images, {key: t for k, (key, t) in enumerate(targets.items()) if k not in lacking})


def take_steps(name: str, options: dict, net: Net, batches: list[Batch]) -> BoundMethod:
    """The gradients of the last of some steps of a method; no step moves anything but what it remembers."""
    if isinstance(weights := options.get("weights"), dict):
        options = {"weights": {k: factor for k, factor in weights.items() if k in net.outputs}}
    bound = BoundMethod(method(name, options), net, seed=1).double()
    for number, some in enumerate(batches):
        net.zero_grad()
        bound.zero_grad()
        step = bound.step(some, net, [*net.outputs.values()], reach={"trunk"}, progress=number / 10, epochs=2)
        bound.combine(bound.losses_of(step), step, Backward())
    return bound


def gradients(net: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in net.named_parameters()}


def assert_same(found, wanted):
    for name, gradient in wanted.items():
        assert (found[name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("lacking", [(1,), (2,), (0, 2)])
@pytest.mark.parametrize("name", CASES)
def test_a_task_without_target_is_as_if_the_net_lacked_it(name, lacking):
    """No row, no loss, no weight: of this step as of the next; what only the task owns has no gradient.

    The groups stay those of the whole net, so that without task 0 trunk and pair are still two.
    """
    net = attentive()
    batches = [batch(lacking, number) for number in range(2)]
    bound = take_steps(*CASES[name], net, batches)
    found = gradients(net)
    kept = [k for k in range(3) if k not in lacking]
    other = attentive()
    fewer = take_steps(*CASES[name], Fewer(other, kept), batches)
    wanted = gradients(other)
    assert_same(found, wanted)
    for k in lacking:
        assert all(p.grad is None for p in net.decoders[k].parameters())
    if "uncertainty" in name:
        mine, theirs = (b.balancer.log_variances.grad for b in (bound, fewer))
        torch.testing.assert_close(mine[kept], theirs)
        assert not mine[list(lacking)].any()


def keeps_the_scale(case: str) -> bool:
    name, options = CASES[case]
    parts = {*name.split("+"), options.get("aggregator")}
    return not parts & EXCEPTIONS.keys() and "weights" not in options


@pytest.mark.parametrize("name", [*filter(keeps_the_scale, CASES)])
def test_equal_rows_give_their_sum(name):
    """Three decoders alike: the trunk gets three times one's gradient, as from the plain sum."""
    key, options = CASES[name]
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh())
    decoder = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    tasks = {f"copy {k}": Classification(target="color") for k in range(3)}
    net = MultiTaskNet([trunk], [copy.deepcopy(decoder) for _ in tasks], tasks, input_size=(3, 6, 6)).double()
    take_steps("joint", {}, net, [batch()])
    wanted = gradients(net)
    take_steps(key, options, net, [batch()])
    for parameter, (n, gradient) in zip(net.parameters(), wanted.items(), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9, msg=n)


@pytest.mark.parametrize("name", FOR_EXITS)
def test_what_is_for_exits_is_refused_in_one_line(name):
    net = attentive()
    before = {key: t.clone() for key, t in net.state_dict().items()}
    with pytest.raises(UserError) as error:
        method(name).bind(net)
    assert "\n" not in str(error.value) and len(str(error.value)) < 240
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["bdl-1", "byot", "kd", "sdn-ramp"])
def test_also_where_there_is_a_trunk_of_stages(name):
    tasks = {"color": Classification(target="color"), "shape": Classification(target="shape")}
    decoders = [nn.Sequential(nn.Flatten(), nn.Linear(4 * 16, size)) for size in (5, 3)]
    net = MultiTaskNet([nn.Conv2d(3, 4, 3)], decoders, tasks, input_size=(3, 6, 6))
    with pytest.raises(UserError) as error:
        method(name).bind(net)
    assert "\n" not in str(error.value)


# --- fixed factors


def test_weights_by_name_are_those_in_order():
    net, some = attentive(), batch()
    take_steps("joint", {"weights": {"box": 10}}, net, [some])
    named = gradients(net)
    take_steps("joint", {"weights": [1, 10, 1]}, net, [some])
    assert_same(named, gradients(net))
    take_steps("joint", {}, net, [some])
    plain = net.decoders[1]["head"].weight.grad
    torch.testing.assert_close(named["decoders.1.head.weight"], 10 * plain)


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        (
            "joint",
            {"weights": {"boxes": 2}},
            r"weights: the net has no output 'boxes' \(did you mean 'box'\?\)",
        ),
        ("joint", {"weights": {}}, "weights are {}, must be a factor of 0 or more per output"),
        ("joint", {"weights": {"box": -1}}, "must be a factor of 0 or more"),
        ("joint", {"weights": {"box": "ten"}}, "must be a factor of 0 or more"),
        ("joint", {"weights": {2: 1}}, "must be a factor of 0 or more"),
        ("joint", {"weights": {"color": 0, "box": 0, "shape": 0}}, "weights are 0 for every output"),
        ("joint", {"weights": [1, 2]}, "weights are 2, outputs 3; give one weight per output"),
        ("dr-mgf", {"stage_weights": {"box": 0}}, "a number above 0 per output, in order or by name"),
    ],
)
def test_wrong_factors_are_one_line(name, options, line):
    with pytest.raises(UserError, match=line) as error:
        BoundMethod(method(name, options), attentive())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pcgrad", "graddrop", "aggregate: GradVac", "aggregate: Random"])
def test_draws_for_three_tasks_are_those_of_a_net_without_a_fourth(name):
    """Three rows, of which PCGrad and GradVac draw an order."""
    tasks = {f"task {k}": Classification(target=f"task {k}") for k in range(4)}
    draws = torch.Generator().manual_seed(1)
    targets = {task: torch.randint(CLASSES, (8,), generator=draws) for task in tasks if task != "task 1"}
    some = Batch(batch().inputs, targets)
    found = []
    for kept in ([0, 1, 2, 3], [0, 2, 3]):
        torch.manual_seed(0)
        trunk, decoders = nn.Conv2d(3, 2, 3), [nn.Linear(2 * 16, CLASSES) for _ in tasks]
        outputs = {f"task {k}": tasks[f"task {k}"] for k in kept}
        parts = [nn.Sequential(nn.Flatten(), decoders[k]) for k in kept]
        net = MultiTaskNet([trunk], parts, outputs, input_size=(3, 6, 6)).double()
        take_steps(*CASES[name], net, [some, some])
        found.append(trunk.weight.grad)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)
