"""The bilevel loop against autograd through a step that is written out."""

import copy
import itertools
from types import SimpleNamespace

import pytest
import tiny_runs
import torch
import torch.nn.functional as F
from context_cases import RECIPE, batches, bench, tiny_net
from torch.func import functional_call

from offramp import Recipe, fit, remove
from offramp.methods.balancers.auto_lambda import AutoLambda
from offramp.methods.loops import Progress, bilevel
from offramp.methods.loops._weight_gradient import weight_gradient
from offramp.methods.loops.loop import Losses
from offramp.modes import buffers_kept

LR = 0.05
RECIPES = {
    "sgd": RECIPE,
    "nesterov": RECIPE.replace(nesterov=True),
    "no momentum": RECIPE.replace(momentum=0.0, nesterov=False),
    "adam": RECIPE.replace(optimizer="adam", nesterov=False),
    "adamw": RECIPE.replace(optimizer="adamw", nesterov=False),
    "clip": RECIPE.replace(clip=0.5),
    "loose clip": RECIPE.replace(clip=1e4),
}


def losses(net, parameters, batch):
    outputs = functional_call(net, parameters, (batch.inputs,))
    return [F.cross_entropy(output, batch.targets["label"]) for output in outputs]


def written_out(work, weights, first, second, recipe):
    """Slope of the outer loss in the weights of three losses: autograd through a whole step."""
    net, optimizer = work.context.net, work.optimizer.optimizer
    parameters = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    weights = weights.clone().requires_grad_()
    total = (weights / 0.1 * torch.stack(losses(net, parameters, first))).sum()
    gradients = torch.autograd.grad(total, [*parameters.values()], create_graph=True)
    if recipe.clip:
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        gradients = [g * torch.clamp(recipe.clip / (norm + 1e-6), max=1) for g in gradients]
    moved = {}
    for (name, p), g, own in zip(parameters.items(), gradients, net.parameters(), strict=True):
        state = optimizer.state[own]
        if recipe.optimizer == "sgd":
            g = g + recipe.weight_decay * p
            step = g
            if recipe.momentum:
                buffer = recipe.momentum * state["momentum_buffer"] + g
                step = g + recipe.momentum * buffer if recipe.nesterov else buffer
            moved[name] = p - LR * step
        else:
            start = p
            if recipe.optimizer == "adamw":
                start = p - LR * recipe.weight_decay * p
            else:
                g = g + recipe.weight_decay * p
            count = float(state["step"]) + 1
            mean = (0.9 * state["exp_avg"] + 0.1 * g) / (1 - 0.9**count)
            square = (0.999 * state["exp_avg_sq"] + 0.001 * g * g) / (1 - 0.999**count)
            moved[name] = start - LR * mean / (square.sqrt() + 1e-8)
    (slope,) = torch.autograd.grad(sum(losses(net, moved, second)), weights)
    return slope


def after_steps(name, recipe=RECIPE, count=2, **options):
    """A loop at work that has taken a few steps, so that momenta are there."""
    work = bench(tiny_net(), name, recipe, **options)
    work.context.net.train()
    for batch in batches(0, 0, count):
        work.step(0, batch, Progress(0, 0.0, LR))
    return work


def slope(work, first, second, number=0):
    """The loop's own slope, at a step on the first batch with the outer loss of the second."""
    progress = Progress(0, 0.0, LR)
    step = work.context.forward(first, progress)
    return weight_gradient(work.context, work.optimizer.optimizer, step, second, progress, number)


PAIR = next(batches(1, 0, 1)), next(batches(1, 1, 1))


@pytest.mark.parametrize("name", RECIPES)
def test_the_slope_is_that_of_autograd_through_the_step(name):
    recipe = RECIPES[name]
    work = after_steps("auto-lambda", recipe)
    weights = work.context.bound.learner.learned.values
    torch.testing.assert_close(
        slope(work, *PAIR), written_out(work, weights, *PAIR, recipe), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("name", ["dfs+auto-lambda", "ge+auto-lambda", "kd+auto-lambda"])
def test_with_forks_and_objectives_it_is_the_inner_product_of_the_gradients_that_train(name):
    """Row by row: backward from each loss, through what the forks cut, and times the momentum's step.

    What the step does to the other samples' loss is that loss's own gradient, of which forks cut nothing.
    """
    work = after_steps(name, beta=0.5) if "dfs" in name else after_steps(name)
    found = slope(work, *PAIR)
    context, first = work.context, PAIR[0]
    net, bound = context.net, context.bound
    with buffers_kept(bound):
        step = context.forward(first, Progress(0, 0.0, LR))
        rows = bound.losses_of(step)
    gradients = [
        torch.autograd.grad(loss, [*net.parameters()], retain_graph=True, allow_unused=True) for loss in rows
    ]
    weights = bound.learner.learned.values / 0.1
    moved = {}
    for (key, p), *row in zip(net.named_parameters(), *gradients, strict=True):
        total = sum(w * g for w, g in zip(weights, row, strict=True) if g is not None)
        buffer = work.optimizer.optimizer.state[p]["momentum_buffer"]
        moved[key] = (p - LR * (0.9 * buffer + total + RECIPE.weight_decay * p)).detach().requires_grad_()
    plain = remove(copy.deepcopy(net))
    directions = torch.autograd.grad(sum(losses(plain, moved, PAIR[1])), [*moved.values()])
    expected = [
        -LR / 0.1 * sum((g * q).sum() for g, q in zip(row, directions, strict=True) if g is not None)
        for row in gradients
    ]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-15)


def test_it_is_the_slope_of_the_loss_along_the_weights():
    """Central differences: each weight a little up and down, a whole step, and the outer loss after it."""
    work = after_steps("auto-lambda")
    first, second = PAIR
    net, optimizer = work.context.net, work.optimizer.optimizer

    def outer(weights):
        parameters = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
        total = (weights / 0.1 * torch.stack(losses(net, parameters, first))).sum()
        moved = {}
        for (name, p), g, own in zip(
            parameters.items(),
            torch.autograd.grad(total, [*parameters.values()]),
            net.parameters(),
            strict=True,
        ):
            buffer = 0.9 * optimizer.state[own]["momentum_buffer"] + g + RECIPE.weight_decay * p
            moved[name] = p - LR * buffer
        return sum(losses(net, moved, second)).detach()

    found, weights, width = slope(work, first, second), work.context.bound.learner.learned.values, 1e-5
    for k in range(3):
        tilt = width * torch.eye(3, dtype=torch.float64)[k]
        difference = (outer(weights + tilt) - outer(weights - tilt)) / (2 * width)
        torch.testing.assert_close(found[k], difference, rtol=1e-5, atol=1e-9)


def test_a_primary_output_is_the_only_one_that_counts():
    work = after_steps("auto-lambda", primary="exit 1")
    net = work.context.net
    found = slope(work, *PAIR)
    assert found.abs().min() > 0  # the others' gradients meet exit 1's in the first stage
    weights = work.context.bound.learner.learned.values
    for parameter in net.stages[0].parameters():
        parameter.requires_grad_(False)
    alone = bench(net, "auto-lambda", primary="exit 1")
    alone.step(0, PAIR[0], Progress(0, 0.0, LR))
    assert alone.context.bound.learner.learned.values.shape == weights.shape
    assert torch.equal(slope(alone, *PAIR)[1:], torch.zeros(2, dtype=torch.float64))  # and nowhere else


def test_with_weights_that_stand_still_it_is_joint_training_bit_for_bit():
    """Running statistics, dropout's draws and what an objective remembers move once a step."""
    recipe = Recipe(epochs=2, batch_size=8, lr=0.05, augment="crop-flip")
    for plain, name in (("joint", "auto-lambda"), ("kd", "kd+auto-lambda"), ("dfs", "dfs+auto-lambda")):
        nets = [
            fit(tiny_runs.tiny_net(), tiny_runs.tiny_data(), *how, quiet=True).net
            for how in ((plain, recipe), (name, recipe.replace(options={"start": 1.0, "weight_lr": 1e-30})))
        ]
        for (key, one), other in zip(
            nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True
        ):
            assert torch.equal(one, other), (name, key)


def walk(start, given, **options):
    """A loop's weights after each batch, and the loop; from a state of another loop if there is one."""
    work, seen = bench(tiny_net(), "auto-lambda", weight_lr=0.01, **options), []
    if start is not None:
        net, state = start
        work.context.net.load_state_dict(net)
        work.load(state)
    work.context.net.train()
    for batch in given:
        work.step(0, batch, Progress(0, 0.0, LR))
        seen.append(work.context.bound.learner.learned.values.clone())
    return work, seen


@pytest.mark.parametrize("every", [2, 3])
def test_weights_move_in_the_first_of_every_few_steps_wherever_a_run_was_stopped(every):
    given = [*batches(0, 0, 7)]
    start = bench(tiny_net(), "auto-lambda").context.bound.learner.learned.values
    _, whole = walk(None, given, every=every)
    moves = [not torch.equal(one, other) for one, other in itertools.pairwise([start, *whole])]
    assert moves == [n % every == 0 for n in range(7)]
    for stop in (1, 2, 3, 4):
        cut, _ = walk(None, given[:stop], every=every)
        state = copy.deepcopy((cut.context.net.state_dict(), cut.state()))
        _, rest = walk(state, given[stop:], every=every)
        assert all(map(torch.equal, rest, whole[stop:]))


def test_each_look_at_other_samples_draws_anew(monkeypatch):
    """Dropout of the outer loss follows from the number of the step."""
    numbers = []
    with monkeypatch.context() as patch:
        patch.setattr(bilevel, "weight_gradient", lambda *given, number: numbers.append(number))
        walk(None, batches(0, 0, 5), every=2)
    assert numbers == [0, 2, 4]
    net = tiny_net().train()
    net.heads[0].insert(2, torch.nn.Dropout(0.5))
    work = bench(net, "auto-lambda")
    state = torch.get_rng_state()
    slopes = []
    for number in (0, 0, 1):
        torch.set_rng_state(state)
        slopes.append(slope(work, *PAIR, number))
    assert torch.equal(slopes[0], slopes[1]) and not torch.equal(slopes[0], slopes[2])


def test_the_mean_loss_of_an_output_is_that_of_the_halves_that_have_it():
    halves = [Losses(torch.tensor([1.0, 4.0]), [0, 2]), Losses(torch.tensor([3.0, 5.0]), [0, 1])]
    found = bilevel._mean(halves, 4)
    assert (found.outputs, found.values.tolist()) == ([0, 1, 2], [2.0, 5.0, 4.0])


def test_losses_have_their_own_weights_where_another_output_is_absent():
    bound = AutoLambda(start=0.5).bind(tiny_net())
    bound.learned.values.copy_(torch.tensor([1.0, 2.0, 4.0]))
    step = SimpleNamespace(present=[0, 2])
    assert [float(loss) for loss in bound([torch.tensor(3.0), torch.tensor(1.0)], step)] == [6.0, 8.0]
    assert [*bound.reached(step)] == [0, 2]


def test_no_weight_goes_below_its_bound():
    for least, end in ((None, -0.1), (0.05, 0.05)):
        bound = AutoLambda(weight_lr=0.2, least=least).bind(tiny_net())
        bound.learned.descend(torch.ones(3), [0, 1, 2])
        assert bound.learned.values.tolist() == pytest.approx([end] * 3, rel=1e-4)  # in float32
