"""ztw and imta-2: heads on a trained, frozen backbone, which is as it was afterwards, to the bit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from steps import exit_step
from tiny_runs import STEPS, Tripwire, assert_resumes_to, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, Router, Run, UserError, attach, cost, fit, partition
from offramp.data.batch import Batch
from offramp.exits import Policy
from offramp.methods import METHODS, Method, method
from offramp.methods.bound import BoundMethod
from offramp.methods.combiners import Backward
from offramp.methods.objectives import TaskLoss
from offramp.nets import MultiExitNet, multi_task
from offramp.tasks import Classification
from offramp.training._last_epochs import EndOfTraining

RECIPE = Recipe(epochs=4, batch_size=8, lr=0.05, augment="crop-flip")
NAMES = ["ztw", "imta-2"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run of the net whose heads are replaced."""
    folder = tmp_path_factory.mktemp("first") / "run"
    fit(tiny_net(), tiny_data(), "joint", RECIPE, folder, quiet=True)
    return folder


def trained(first):
    return Run.open(first, tiny_net()).net


def state(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


@pytest.fixture
def epochs(monkeypatch):
    """The net's state after each epoch."""
    seen, keep = [], EndOfTraining.keep

    def kept(self, epoch, net):
        seen.append(state(net))
        keep(self, epoch, net)

    monkeypatch.setattr(EndOfTraining, "keep", kept)
    return seen


def changed(before, after):
    return {key for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize("name", NAMES)
def test_the_backbone_has_no_gradient_and_keeps_its_bits(first, name):
    net = trained(first)
    before, stages = state(net), net.stages
    fit(net, tiny_data(), name, RECIPE, quiet=True)
    after = state(net)
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("stages"))
    assert all(p.grad is None for p in stages.parameters())
    assert all(p.requires_grad for p in net.parameters())
    if name == "ztw":
        assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("heads.1"))
    else:
        assert torch.equal(after["heads.1.teacher_weight"], before["heads.1.3.weight"])


def test_the_ensembles_are_trained_after_the_cascade_and_nothing_else_then(first, epochs):
    fit(trained(first), tiny_data(), "ztw", RECIPE, quiet=True)
    cascade = changed(epochs[0], epochs[1])
    assert cascade == {"heads.0.linear.weight", "heads.0.linear.bias"}
    for before, after in pairwise(epochs[1:]):
        assert changed(before, after) == {"heads.0.ensemble.weights", "heads.0.ensemble.bias"}


def test_ensembles_have_no_weight_decay_and_the_cascade_has_the_recipes(first, monkeypatch):
    """By what the optimiser holds at its steps: 3 epochs of the cascade, then 1 of the ensembles."""
    decays, step = [], torch.optim.SGD.step

    def noted(self, closure=None):
        trained = sum(len(group["params"]) for group in self.param_groups)
        decays.append((trained, {group["weight_decay"] for group in self.param_groups}))
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    recipe = RECIPE.replace(weight_decay=0.5, options={"ensemble_epochs": 1})
    fit(trained(first), tiny_data(), "ztw", recipe, quiet=True)
    assert decays == [(2, {0.5})] * 3 * STEPS + [(2, {0.0})] * STEPS


@pytest.mark.parametrize(
    ("method", "idle"),
    [("cagrad", "cagrad"), ("dfs+cagrad", "cagrad and dfs"), ("kd", ""), ("rotograd", "")],
)
def test_what_finds_nothing_shared_is_told_by_name(method, idle, capsys):
    net, line = tiny_net(), "nothing to do, since all that several losses reach is frozen"
    fit(net, tiny_data(), method, RECIPE)
    assert line not in capsys.readouterr().err
    net.stages.requires_grad_(False)
    fit(net, tiny_data(), method, RECIPE)
    assert (f"{idle}: {line}\n" if idle else "") in (err := capsys.readouterr().err)
    assert (line in err) == bool(idle)


def test_without_distillation_imta_is_deep_supervision_of_its_heads(first):
    net = trained(first)
    fit(net, tiny_data(), "imta-2", RECIPE.replace(alpha=0), quiet=True)
    other = trained(first)
    METHODS["imta-2"].prepare(other, RECIPE.seed)
    other.train()
    for part in (*other.stages, *(head.body for head in other.heads)):
        part.requires_grad_(False)
        part.eval()
    fit(other, tiny_data(), "joint", RECIPE, quiet=True)
    assert_equal(state(net), state(other))


@pytest.mark.parametrize("reduction", ["batchmean", "official"])
def test_the_frozen_nets_own_last_exit_teaches_all_new_ones_but_the_last(reduction):
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Conv2d(width, 4, 3, 2, 1), nn.Tanh()) for width in (3, 4, 4)]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)) for _ in stages]
    net = MultiExitNet(stages, heads, input_size=(3, 8, 8))
    x, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 3
    teacher = (net(x)[-1].detach() / 2).softmax(1)
    row = method("imta-2", {"alpha": 0.4, "temperature": 2.0, "kd_reduction": reduction})
    row.prepare(net)
    bound = BoundMethod(row, net)
    step = bound.step(Batch(x, {"label": labels}), net, [*net.outputs.values()], reach={"features"})
    expected = [nn.functional.cross_entropy(z, labels) for z in step.outputs]
    for k, own in enumerate(step.outputs[:-1]):
        kl = (teacher * (teacher.log() - (own / 2).log_softmax(1))).sum(1).mean()
        kl = kl / 3 if reduction == "official" else kl
        expected[k] = 0.6 * expected[k] + 0.4 * 4 * kl
    torch.testing.assert_close(bound.losses_of(step), expected)


def test_rows_cover_what_several_losses_of_collaborating_heads_reach(first):
    """The gradient of aggregated rows is that of torch.autograd, row by row."""
    net = trained(first)
    row = method("imta-2+pcgrad")
    row.prepare(net)
    net.eval()
    for part in (*net.stages, *(head.body for head in net.heads)):
        part.requires_grad_(False)
    bound = BoundMethod(row, net)
    batch = Batch(torch.rand(6, 3, 8, 8), {"label": torch.arange(6) % 3})
    step = bound.step(batch, net, [*net.outputs.values()], reach={"features", "trunk"})
    losses = bound.losses_of(step)
    shared = [*net.heads[0].linear.parameters()]
    rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
    bound.combine(losses, step, Backward())
    a, b = (torch.cat([g.flatten() for g in row]) for row in rows)
    cut = a + b
    if a @ b < 0:  # each without what is against the other
        cut = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in shared]), cut)


def test_a_mean_of_heads():
    """Of three heads; the last exit, which is frozen, is none of them."""
    logits = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0)).unbind()
    step = exit_step(None, logits, torch.arange(6) % 3)
    for k, (found, own) in enumerate(zip(method("ztw").objective(step), TaskLoss()(step), strict=True)):
        torch.testing.assert_close(found, own / 3 if k < 3 else own)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [STEPS + 3, 2 * STEPS, 3 * STEPS + 2])
def test_a_stopped_run_goes_on_within_and_between_periods(first, tmp_path, name, step):
    recipe = RECIPE.replace(checkpoint_every=2)
    run = fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "alone", quiet=True, init=first)
    data, net = tiny_data(split=Tripwire), tiny_net()
    heads, data.train.at = net.heads, step
    data.train.act = lambda: (_ for _ in ()).throw(KeyError("stop"))
    with pytest.raises(KeyError):
        fit(net, data, name, recipe, tmp_path / "stopped", quiet=True, init=first)
    assert net.heads is heads  # as they were
    assert_resumes_to((recipe, tmp_path / "alone", run), tmp_path / "stopped", name)


@pytest.mark.parametrize(
    ("name", "options"), [("ztw", {}), ("ztw", {"ensemble": "additive"}), ("imta-2", {})]
)
def test_the_trained_net_is_opened_evaluated_and_leaves_early(first, tmp_path, name, options):
    recipe = RECIPE.replace(options=options, average=0.9)
    run = fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "run", quiet=True, init=first)
    again = Run.open(tmp_path / "run", tiny_net(seed=9))
    assert_equal(state(again.net), state(run.net))
    assert again.evaluate(tiny_data()) == run.result.__class__(**{**vars(run.result), "averaged": None})
    averaged = Run.open(tmp_path / "run", tiny_net(seed=9), averaged=True)
    assert averaged.net.state_dict().keys() == run.net.state_dict().keys()
    x = torch.rand(9, 3, 8, 8)
    sure = run.net(x)[0].softmax(1).amax(1).detach()
    answer = Router(again.net, Policy((float(sure.median()),)))(x)
    assert (answer.exit == 1).tolist() == (sure >= sure.median()).tolist()
    torch.testing.assert_close(answer.confidence[answer.exit == 1], sure[sure >= sure.median()])
    assert cost(again.net).exits[0].flops == run.result.outputs["exit 1"].flops
    # the same object goes on too
    assert fit(run.net, tiny_data(), name, recipe, tmp_path / "again", quiet=True).result.outputs
    finished = fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "run", quiet=True, resume=True)
    assert finished.result == run.result


def test_the_seed_decides_the_new_heads_and_nothing_else_does(first):
    found = []
    for seed, drawn in ((0, 1), (0, 2), (1, 1)):
        net = trained(first)
        torch.manual_seed(drawn)
        before = torch.get_rng_state()
        METHODS["ztw"].prepare(net, seed)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(net.heads[0].linear.weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("name", [*NAMES, "disjoint"])
def test_a_last_exit_that_would_stay_random_is_refused_with_a_way_out(first, tmp_path, name):
    torch.save(tiny_net(classes=5).state_dict(), tmp_path / "five.pt")
    recipe = RECIPE.replace(options={"backbone_share": 0} if name == "disjoint" else {})
    with pytest.raises(UserError, match=rf"'{name}' leaves the last exit .* no heads.1 that fits"):
        fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "run", quiet=True, init=tmp_path / "five.pt")
    assert not (tmp_path / "run").exists()
    fit(tiny_net(), tiny_data(), "mixed", RECIPE, tmp_path / "mixed", quiet=True, init=tmp_path / "five.pt")
    fit(tiny_net(), tiny_data(), name, recipe, tmp_path / "run", quiet=True, init=tmp_path / "mixed")


def test_layers_of_heads_that_would_rest_at_random_are_refused_with_a_way_out(tmp_path):
    """imta-2 trains classifiers alone; ztw trains what is below them too."""

    def net(*below):
        made = tiny_net()
        made.heads[0] = nn.Sequential(*made.heads[0][:2], *below, nn.Linear(4, 3))
        return made

    weights, recipe = tmp_path / "w.pt", RECIPE.replace(epochs=2)
    torch.save({k: v for k, v in tiny_net().state_dict().items() if "heads.0" not in k}, weights)
    hidden = (nn.Linear(4, 4), nn.ReLU())
    with pytest.raises(UserError, match=r"'imta-2' leaves the layers of heads.0 .* by the method mixed"):
        fit(net(*hidden), tiny_data(), "imta-2", recipe, tmp_path / "run", quiet=True, init=weights)
    assert not (tmp_path / "run").exists()
    fit(net(*hidden), tiny_data(), "ztw", recipe, quiet=True, init=weights)
    fit(net(nn.LayerNorm(4)), tiny_data(), "imta-2", recipe, quiet=True, init=weights)
    fit(net(*hidden), tiny_data(), "mixed", recipe, tmp_path / "mixed", quiet=True, init=weights)
    fit(net(*hidden), tiny_data(), "imta-2", recipe, tmp_path / "run", quiet=True, init=tmp_path / "mixed")


class Backbone(nn.Sequential):
    """A network of one's own."""

    def __init__(self):
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()),
            nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU()),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("freeze", [True, False])
def test_on_a_backbone_that_was_given_exits(name, freeze):
    backbone = Backbone()
    net = attach(backbone, at=["0"], input_size=(3, 8, 8), freeze_backbone=freeze)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    fit(net, tiny_data(), name, RECIPE.replace(epochs=2), quiet=True)
    assert_equal(dict(backbone.state_dict()), before)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ztw+dfs", "'ztw' trains each exit with its own loss alone, so that 'dfs' would have nothing to do"),
        ("ztw+pcgrad", "'pcgrad' would have nothing to do"),
        ("ztw+kd", "each bring their own objective"),
        ("imta-2+ge", "'imta-2' trains classifiers alone, on stages that are frozen, so that 'ge' would"),
        ("imta-2+dr-mgf", "'dr-mgf' would have nothing to do"),
        ("mixed+imta-2", "each bring their own regime"),
    ],
)
def test_what_leaves_nothing_to_do_is_refused(name, words):
    with pytest.raises(UserError) as refused:
        method(name)
    assert words in str(refused.value)


def test_nets_and_epochs_that_do_not_fit_are_refused_and_left_as_they_were(first, tmp_path):
    tasks = {"label": (nn.Linear(4, 3), Classification())}
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match="is no MultiExitNet"):
        fit(multi_task(trunk, tasks, input_size=(3, 8, 8)), tiny_data(), "ztw", RECIPE, quiet=True)
    net = tiny_net()
    net.heads[0].append(nn.Softmax(1))
    for name in NAMES:
        with pytest.raises(UserError, match=f"'{name}' puts another classifier in .* of head 1"):
            fit(net, tiny_data(), name, RECIPE, quiet=True)
    net = tiny_net()
    heads = [*net.heads]
    with pytest.raises(UserError, match=r"epochs is 1, and the last 1 train ensembles .*; give 2 or more"):
        fit(net, tiny_data(), "ztw", RECIPE.replace(epochs=1), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"the last 4 train ensembles .*; give 5 or more"):
        fit(net, tiny_data(), "ztw", RECIPE.replace(ensemble_epochs=4), tmp_path / "run", quiet=True)
    assert [*net.heads] == heads
    assert not (tmp_path / "run").exists()
    partition(net)
    with pytest.raises(UserError, match="trains plain forks, and this net's are not"):
        fit(net, tiny_data(), "ztw", RECIPE, quiet=True)
    assert [*net.heads] == heads
    parts = {"objective": METHODS["imta-2"].objective}
    with pytest.raises(UserError, match="OneForAll teaches heads of InlineCollaboration"):
        fit(tiny_net(), tiny_data(), Method("own", "", "", parts), RECIPE, quiet=True)
