"""AdaTask against one torch Adam for each task on a net of its own, and against numbers known beforehand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from offramp import Recipe, UserError
from offramp.data import Batch
from offramp.methods import METHODS, method
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.combiners._adam_per_task import AdamPerTask
from offramp.nets import MultiTaskNet
from offramp.restoring import load_optimizer
from offramp.tasks import Classification
from offramp.training._method_checks import check_method

LR = 0.01


def tasks_net(tasks=3):
    torch.manual_seed(0)
    names = [f"task {k}" for k in range(tasks)]
    trunk = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh())
    outputs = {name: Classification(target=name) for name in names}
    return MultiTaskNet([trunk], [nn.Linear(6, 4) for _ in names], outputs, input_size=(5,)).double()


def batches(count, names, lacking=(), size=6):
    """Batches, the step of each of which has the targets of all tasks but those that it lacks."""
    draws = torch.Generator().manual_seed(1)
    for number in range(count):
        inputs = torch.randn(size, 5, generator=draws, dtype=torch.float64)
        targets = {name: torch.randint(4, (size,), generator=draws) for name in names}
        missing = lacking[number] if number < len(lacking) else ()
        yield Batch(inputs, {name: t for name, t in targets.items() if name not in missing})


def train(net, steps, optimizer=torch.optim.Adam, name="adatask", clip=0.0, options=None, **settings):
    bound = BoundMethod(method(name, options or {}), net)
    taking = bound.optimizer(optimizer([*net.parameters(), *bound.parameters()], lr=LR, **settings), clip)
    for batch in steps:
        taking.zero_grad()
        step = bound.step(batch, net, [*net.outputs.values()], reach=set())
        bound.combine(bound.losses_of(step), step, Backward())
        taking.step()
    return taking, bound


def slowly(net, steps, optimizer=torch.optim.Adam, clip=0.0, weights=None, mean=False, decay=0.0):
    """Each task's Adam on a clone of the net, whose trunk is put back to the common one before each step."""
    names = list(net.outputs)
    clones = [copy.deepcopy(net) for _ in names]
    own = [
        optimizer(
            [{"params": c.stages.parameters()}, {"params": c.decoders[k].parameters()}], lr=LR, weight_decay=0
        )
        for k, c in enumerate(clones)
    ]
    for made in own:
        made.param_groups[1]["weight_decay"] = decay
        if optimizer is torch.optim.Adam:
            made.param_groups[0]["weight_decay"] = decay / len(names)
    for batch in steps:
        before = [p.detach().clone() for p in net.stages.parameters()]
        moved = [torch.zeros_like(p) for p in before]
        any_there = False
        for k, (name, clone, made) in enumerate(zip(names, clones, own, strict=True)):
            if name not in batch.targets:
                continue
            any_there = True
            with torch.no_grad():
                for p, value in zip(clone.stages.parameters(), before, strict=True):
                    p.copy_(value)
            made.zero_grad()
            F.cross_entropy(clone(batch.inputs)[k], batch.targets[name]).backward()
            if clip:
                nn.utils.clip_grad_norm_(clone.parameters(), clip)
            made.step()
            factor = (1 if weights is None else weights[k]) / (len(names) if mean else 1)
            for change, p, value in zip(moved, clone.stages.parameters(), before, strict=True):
                change += factor * (p.detach() - value)
        with torch.no_grad():
            shrink = 1 - LR * decay if any_there and optimizer is torch.optim.AdamW else 1
            for p, value, change in zip(net.stages.parameters(), before, moved, strict=True):
                p.copy_(shrink * value + change)
            for k, clone in enumerate(clones):
                for p, q in zip(net.decoders[k].parameters(), clone.decoders[k].parameters(), strict=True):
                    p.copy_(q)
    return net


def assert_same(found, wanted, **tolerance):
    torch.testing.assert_close(dict(found.named_parameters()), dict(wanted.named_parameters()), **tolerance)


@pytest.mark.parametrize("lacking", [[], [("task 1",), (), ("task 0", "task 2"), (), ("task 1",)]])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize(
    "how", [{}, {"clip": 0.05}, {"mean": True}, {"weights": [1.0, 20.0, 0.5]}, {"decay": 0.3}], ids=str
)
def test_it_is_an_adam_for_each_task(how, optimizer, lacking):
    net = tasks_net()
    wanted = slowly(copy.deepcopy(net), batches(6, net.outputs, lacking), optimizer, **how)
    options = {"scaling": "mean"} if "mean" in how else {}
    options |= {"weights": how["weights"]} if "weights" in how else {}
    decay = {"weight_decay": how.get("decay", 0.0)}
    train(
        net, batches(6, net.outputs, lacking), optimizer, clip=how.get("clip", 0.0), options=options, **decay
    )
    assert_same(net, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_with_one_task_it_is_torchs_to_the_bit(optimizer):
    net = tasks_net(1).float()
    plain = copy.deepcopy(net)
    steps = [Batch(b.inputs.float(), b.targets) for b in batches(5, net.outputs)]
    train(net, steps, optimizer, weight_decay=0.1)
    made = optimizer(plain.parameters(), lr=LR, weight_decay=0.1)
    for batch in steps:
        made.zero_grad()
        F.cross_entropy(plain(batch.inputs)[0], batch.targets["task 0"]).backward()
        made.step()
    assert_same(net, plain, rtol=0, atol=0)


def take(rows, steps, mean=False, factors=None):
    """How far rows that stay the same move a parameter."""
    parameter = nn.Parameter(torch.zeros(len(rows[0]), dtype=torch.float64))
    made = AdamPerTask(torch.optim.Adam([parameter], lr=LR), {parameter: len(rows)}, len(rows), mean=mean)
    for _ in range(steps):
        made.zero_grad()
        parameter.grad = sum(rows)
        made.hear(
            {k: {parameter: row} for k, row in enumerate(rows)},
            {},
            factors or dict.fromkeys(range(len(rows)), 1.0),
        )
        made.step()
    return parameter.detach()


def test_the_decay_of_an_adam_that_maximises_shrinks_too():
    """As of torch's on each row with half of the decay; here it is stronger than the rows."""
    start, row = torch.tensor([3.0, -2.0]).double(), torch.tensor([0.2, -0.1]).double()
    alone, shared = (nn.Parameter(start.clone()) for _ in range(2))
    made = [
        torch.optim.Adam([p], lr=LR, weight_decay=decay, maximize=True)
        for p, decay in ((alone, 0.15), (shared, 0.3))
    ]
    alone.grad, shared.grad = row.clone(), 2 * row
    taking = AdamPerTask(made[1], {shared: 2}, 2)
    taking.hear({k: {shared: row} for k in range(2)}, {}, {0: 1.0, 1: 1.0})
    made[0].step()
    taking.step()
    torch.testing.assert_close(shared - start, 2 * (alone - start))
    assert ((shared - start) * start < 0).all()


def test_two_equal_unit_rows_give_twice_adam():
    row = F.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), dim=0)
    alone = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    made = torch.optim.Adam([alone], lr=LR)
    for _ in range(4):
        alone.grad = row.clone()
        made.step()
    torch.testing.assert_close(take([row, row], 4), 2 * alone.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(take([row, row], 4, mean=True), alone.detach(), rtol=1e-12, atol=0)


def test_opposite_rows_of_any_size_cancel():
    """Adam's step has no size of its own: 1 and -5 move as far, each its way."""
    rows = [torch.tensor([size], dtype=torch.float64) for size in (1.0, -5.0)]
    assert take(rows, 10).abs() < 1e-7
    assert take([rows[0], -rows[1]], 10) < -1.9 * 10 * LR


def test_a_weight_multiplies_the_steps_and_not_the_loss():
    rows = [torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 3.0]).double()]
    weighted = take([rows[0], 100 * rows[1]], 5, factors={0: 1.0, 1: 100.0})
    torch.testing.assert_close(weighted, take(rows, 5) * torch.tensor([1.0, 100.0]).double())


def test_a_weight_of_zero_takes_no_step():
    rows = [torch.tensor([1.0, 0.0]).double(), torch.zeros(2).double()]  # as 0 times a loss leaves it
    torch.testing.assert_close(take(rows, 5, factors={0: 1.0, 1: 0.0}), take(rows[:1], 5))


def test_a_balancers_weights_multiply_the_steps_too():
    """uncertainty: at first the weights are 1/2, whatever the moments do."""
    net = tasks_net()
    halved, bound = copy.deepcopy(net), None
    train(net, batches(1, net.outputs))
    _, bound = train(halved, batches(1, net.outputs), name="uncertainty+adatask")
    before = tasks_net()
    for name, parameter in before.named_parameters():
        moved, half = (dict(n.named_parameters())[name] - parameter for n in (net, halved))
        torch.testing.assert_close(half, moved / 2 if name.startswith("stages") else moved)
    assert bound.balancer.log_variances.abs().max() > 0.9 * LR  # which learn by the same optimiser


@pytest.mark.parametrize("name", [n for n, row in METHODS.items() if [*row.axes] == ["balancer"]])
def test_steps_have_the_factors_that_a_balancer_gave_the_losses(name):
    net = tasks_net()
    bound = BoundMethod(method(f"{name}+adatask", {"weights": [1.0, 3.0, 0.0]}), net)
    heard = []
    bound.combiner.forward = lambda losses, step, backward, factors: heard.append((factors, losses))
    for batch in batches(2, net.outputs):
        step = bound.step(batch, net, [*net.outputs.values()], reach=set())
        losses = bound.losses_of(step)
        bound.combine(losses, step, Backward())
    factors, weighted = heard[-1]
    for k in range(2):  # what goes back to the head is its loss's gradient, multiplied
        weight = net.decoders[k].weight
        plain = torch.autograd.grad(losses[k] / (1.0, 3.0)[k], weight, retain_graph=True)[0]
        found = torch.autograd.grad(weighted[k], weight, retain_graph=True)[0]
        torch.testing.assert_close(found, factors[k] * plain, rtol=1e-6, atol=1e-12)
    assert factors[2] == 0


def test_grad_is_the_sum_of_the_gradients():
    net = tasks_net()
    (batch,) = batches(1, net.outputs)
    bound = BoundMethod(METHODS["adatask"], net)
    bound.optimizer(torch.optim.Adam(net.parameters()))
    step = bound.step(batch, net, [*net.outputs.values()], reach=set())
    losses = bound.losses_of(step)
    wanted = torch.autograd.grad(sum(losses), [*net.parameters()], retain_graph=True)
    bound.combine(losses, step, Backward())
    for parameter, gradient in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_groups_rule_while_it_trains():
    """A scheduler of torch, groups with a decay of their own, and betas that change."""
    net = tasks_net()
    taking, _ = train(net, [])
    assert isinstance(taking, torch.optim.Optimizer)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(taking, max_lr=1.0, total_steps=10, cycle_momentum=True)
    before = [group["lr"] for group in taking.param_groups]
    taking.step()
    scheduler.step()
    assert [group["lr"] for group in taking.param_groups] != before
    taking.step()
    for part in taking.parts:
        for group in part.param_groups:
            assert group["lr"] == taking.param_groups[0]["lr"]
            assert group["betas"] == taking.param_groups[0]["betas"] != (0.9, 0.999)


def test_a_loop_of_ones_own(tmp_path):
    """Half of the steps, saved, loaded into new objects, and the other half: the same to the bit."""

    def begin():
        net = tasks_net()
        bound = METHODS["adatask"].bind(net)
        return net, bound, bound.optimizer(torch.optim.AdamW(net.parameters(), lr=LR))

    def go_on(bound, taking, steps):
        for batch in steps:
            taking.zero_grad()
            bound.backward(batch)
            taking.step()

    steps = [*batches(6, tasks_net().outputs, [("task 1",)])]
    net, bound, taking = begin()
    go_on(bound, taking, steps)
    first, bound, taking = begin()
    go_on(bound, taking, steps[:3])
    torch.save({"net": first.state_dict(), "optimizer": taking.state_dict()}, tmp_path / "half.pt")
    second, bound, taking = begin()
    saved = torch.load(tmp_path / "half.pt", weights_only=True)
    second.load_state_dict(saved["net"])
    taking.load_state_dict(saved["optimizer"])
    go_on(bound, taking, steps[3:])
    assert_same(second, net, rtol=0, atol=0)


def test_a_state_of_another_training_is_told_apart():
    net = tasks_net()
    taking, _ = train(net, batches(2, net.outputs))
    state = taking.state_dict()
    fresh, _ = train(tasks_net(), [])
    for spoilt in (state["parts"][:-1], None, [*state["parts"][1:], {}]):
        with pytest.raises(ValueError, match=r"the optimiser has 4 parts|must be a mapping"):
            load_optimizer(fresh, {**state, "parts": spoilt})
    load_optimizer(fresh, state)
    assert str(fresh.state_dict()) == str(state)


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_beside_a_loss_without_weight_the_other_keeps_its_adam(clip):
    """Its clipping spans trunk and head, and its weight multiplies the trunk's steps."""
    net, steps = tasks_net(2), list(batches(6, ["task 0", "task 1"]))
    alone = [Batch(batch.inputs, {"task 1": batch.targets["task 1"]}) for batch in steps]
    wanted = slowly(copy.deepcopy(net), alone, weights=[0.0, 3.0], clip=clip)
    train(net, steps, clip=clip, options={"weights": [0.0, 3.0]})
    assert_same(net, wanted, rtol=1e-9, atol=1e-12)


def test_a_grad_scaler_scales_nothing_that_stays():
    net, scaled = tasks_net(), tasks_net()
    steps = [*batches(4, net.outputs)]
    train(net, steps)
    bound = METHODS["adatask"].bind(scaled)
    taking = bound.optimizer(torch.optim.Adam(scaled.parameters(), lr=LR))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for number, batch in enumerate(steps):
        taking.zero_grad()
        bound.backward(batch, scaler=scaler)
        scaler.step(taking)
        scaler.update()
        if number == 1:  # an overflow skips a step, and leaves the moments alone
            taking.zero_grad()
            before = [p.detach().clone() for p in scaled.parameters()]
            bound.backward(Batch(batch.inputs * torch.inf, batch.targets), scaler=scaler)
            scaler.step(taking)
            scaler.update()
            assert all(torch.equal(p, q) for p, q in zip(before, scaled.parameters(), strict=True))
    assert_same(scaled, net, rtol=1e-9, atol=1e-12)


def test_what_it_refuses():
    net = tasks_net()
    (batch,) = batches(1, net.outputs)
    bound = METHODS["adatask"].bind(net)
    with pytest.raises(UserError, match=r"optimizer = method.optimizer\(torch.optim.Adam\(...\)\)"):
        bound.backward(batch)
    with pytest.raises(UserError, match=r"got SGD; give a new torch.optim.Adam or AdamW"):
        bound.optimizer(torch.optim.SGD(net.parameters(), lr=LR))
    used = torch.optim.Adam(net.parameters(), lr=LR)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    used.step()
    with pytest.raises(UserError, match="got Adam that has taken steps"):
        bound.optimizer(used)
    taking = bound.optimizer(torch.optim.Adam(net.parameters(), lr=LR))
    bound.backward(batch)
    with pytest.raises(UserError, match=r"call optimizer.zero_grad\(\) before each"):
        bound.backward(batch)
    with pytest.raises(UserError, match="no state of adatask's optimiser"):
        taking.load_state_dict(torch.optim.Adam(net.parameters()).state_dict())
    for clip in (-1.0, float("nan"), True):
        with pytest.raises(UserError, match="must be a number of 0 or more"):
            METHODS["adatask"].bind(tasks_net()).optimizer(torch.optim.Adam(net.parameters()), clip=clip)
    with pytest.raises(UserError, match="takes no more groups"):
        taking.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    with pytest.raises(UserError, match="scaling is 'native'"):
        method("adatask", {"scaling": "native"})
    with pytest.raises(UserError, match=r"recipe's optimizer is sgd; give `optimizer='adam', lr=0.001`"):
        check_method(Recipe(), METHODS["adatask"])
    check_method(Recipe(optimizer="adamw"), METHODS["adatask"])


def test_other_methods_keep_the_optimiser():
    net = tasks_net()
    made = torch.optim.SGD(net.parameters(), lr=LR)
    assert METHODS["cagrad"].bind(net).optimizer(made) is made


def test_the_row():
    assert METHODS["adatask"].axes == {"combiner": "AdaTask"}
    assert str(METHODS["adatask"].passes) == "F + (K + 1) / 2 B"
