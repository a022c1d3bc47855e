"""What is frozen or in evaluation mode stays as it is; what is trained is trained alike, however it comes."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tiny_runs import CLASSES, for_method, tiny_data, tiny_net
from torch import nn

from offramp import Recipe, UserError, attach, fit
from offramp.methods import METHODS
from offramp.nets import MultiExitNet, vgg7

RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none")
STAGED = ["meta-gf", "dr-avgf", "dr-mgf"]


def frozen_backbone():
    """A pretrained classifier, frozen and in evaluation mode, with two exits more."""
    torch.manual_seed(0)

    def block(reads, writes):
        return nn.Sequential(
            nn.Conv2d(reads, writes, 3, 2, 1), nn.BatchNorm2d(writes), nn.ReLU(), nn.Dropout(0.5)
        )

    backbone = nn.Sequential(
        block(3, 4), block(4, 6), block(6, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)
    )
    backbone.eval().requires_grad_(False)
    return backbone, attach(backbone, at=["0", "1"], input_size=(3, 8, 8))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("method", ["joint", "dfs", "kd", "separate"])
def test_a_frozen_backbone_stays_bit_for_bit(method, capsys):
    backbone, net = frozen_backbone()
    before, heads = copy.deepcopy(backbone.state_dict()), copy.deepcopy(net.heads.state_dict())
    trained = fit(net, tiny_data(), method, RECIPE.replace(precision="fp16", momentum=0.9)).net
    assert "in evaluation mode throughout" in capsys.readouterr().err
    assert_equal(backbone.state_dict(), before)
    heads_after = trained.heads.state_dict() if method != "separate" else {}
    assert method == "separate" or any(not torch.equal(t, heads[n]) for n, t in heads_after.items())


@pytest.mark.parametrize("method", [*STAGED, "cagrad", "pcgrad", "graddrop", "bdl-1"])
def test_a_frozen_first_stage_stays_bit_for_bit(method):
    net = vgg7(num_classes=CLASSES, width=2)
    net.input_size = (3, 8, 8)
    for stage in net.stages[:2]:
        stage.eval().requires_grad_(False)
    for layer in net.modules():  # statistics that a mean of copies would round
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    before = copy.deepcopy(net.stages[:2].state_dict())
    recipe = RECIPE.replace(epochs=1, **({"fusion_fraction": 0.5} if method in STAGED else {}))
    fit(net, tiny_data(), method, recipe, quiet=True)
    assert_equal(net.stages[:2].state_dict(), before)


def test_a_part_put_into_evaluation_mode_by_hand_stays_there(capsys):
    net = tiny_net()
    norm = net.stages[0][1].eval()
    statistics = norm.running_mean.clone(), norm.running_var.clone()
    weight = norm.weight.clone()
    fit(net, tiny_data(), "joint", RECIPE)
    assert capsys.readouterr().err.split("\n")[0].endswith("['stages.0.1']")
    assert torch.equal(norm.running_mean, statistics[0])
    assert torch.equal(norm.running_var, statistics[1])
    assert not torch.equal(norm.weight, weight)  # it is trained all the same
    assert net.stages[1][1].num_batches_tracked == 10


def test_nothing_is_said_where_all_is_trained(capsys):
    fit(tiny_net().eval(), tiny_data(), "joint", RECIPE)
    assert "evaluation" not in capsys.readouterr().err


@pytest.mark.parametrize("method", ["joint", "dfs", "dr-mgf"])
def test_after_a_training_all_is_in_evaluation_mode(method):
    net = fit(tiny_net(), tiny_data(), method, RECIPE, quiet=True).net
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("by_hand", [False, True])
def test_fitting_twice_or_after_eval_equals_fitting_fresh(by_hand):
    def fresh(weights=None):
        net = tiny_net()
        if weights is not None:
            net.load_state_dict(weights)
        if by_hand:
            net.stages[0][1].eval()
        return net

    net = fresh()
    fit(net, tiny_data(), "joint", RECIPE, quiet=True)
    again = fresh(copy.deepcopy(net.state_dict()))
    for one in (net, again):
        fit(one, tiny_data(), "joint", RECIPE, quiet=True)
    assert_equal(net.state_dict(), again.state_dict())
    if not by_hand:
        first, evaluated = fresh(), fresh().eval()
        for one in (first, evaluated):
            fit(one, tiny_data(), "joint", RECIPE, quiet=True)
        assert_equal(evaluated.state_dict(), first.state_dict())


def test_a_training_that_fails_leaves_the_modes_as_they_came():
    net = tiny_net()
    net.stages[1].eval()
    modes = [module.training for module in net.modules()]
    with pytest.raises(UserError, match="not finite"):
        fit(net, tiny_data(), "joint", RECIPE.replace(lr=1e30), quiet=True)
    assert [module.training for module in net.modules()] == modes


OPTIMISERS = {
    "sgd": {"momentum": 0.0, "nesterov": False},
    "momentum": {"momentum": 0.9, "nesterov": False},
    "nesterov": {},
    "adamw": {"optimizer": "adamw", "lr": 1e-3},
}


@pytest.mark.parametrize("settings", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_head_that_no_loss_reaches_stays_bit_for_bit(settings, precision):
    net = tiny_net()
    before = copy.deepcopy(net.heads[0].state_dict())
    recipe = RECIPE.replace(weights=[0, 1], precision=precision, **settings)
    fit(net, tiny_data(), "joint", recipe, quiet=True)
    assert_equal(net.heads[0].state_dict(), before)
    assert not torch.equal(net.heads[1][-1].weight, tiny_net().heads[1][-1].weight)


ONE_PERIOD = [name for name, row in METHODS.items() if name != "aggregate" and "regime" not in row.axes]


@pytest.mark.parametrize("method", ONE_PERIOD)
def test_an_exit_without_weight_stays_bit_for_bit_under_every_method(method):
    net = tiny_net()
    before = copy.deepcopy(net.heads[0].state_dict())
    options = {"weights": [0, 1]} | ({"auxiliary": 0.0} if method in STAGED else {})
    recipe = for_method(RECIPE.replace(epochs=1, **options), method)
    trained = fit(net, tiny_data(), method, recipe, quiet=True).net
    head = trained.nets[0][-1] if method == "separate" else trained.heads[0]
    assert_equal(head.state_dict(), before)


def test_frozen_parameters_get_no_decay():
    net = tiny_net()
    net.heads[1].requires_grad_(False)
    before = net.heads[1][-1].weight.clone()
    fit(net, tiny_data(), "joint", RECIPE.replace(weight_decay=0.1), quiet=True)
    assert torch.equal(net.heads[1][-1].weight, before)


def test_nothing_to_train_is_refused_before_the_folder_appears(tmp_path):
    net = tiny_net().requires_grad_(False)
    with pytest.raises(UserError, match=r"frozen.*requires_grad_\(True\)"):
        fit(net, tiny_data(), "joint", RECIPE, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def own_head(width, norm):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), norm, nn.Linear(width, CLASSES))


@pytest.mark.parametrize("method", ["joint", "dr-mgf", "cagrad"])
def test_a_batch_of_one_that_norm_layers_cannot_take_is_one_line(tmp_path, method):
    stages = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)]
    net = MultiExitNet(stages, [own_head(4, nn.BatchNorm1d(4)) for _ in stages], input_size=(3, 8, 8))
    with pytest.raises(UserError, match=r"heads\.0\.2 \(BatchNorm1d\).*two or more .*: take `batch_size=2`"):
        fit(net, tiny_data(), method, RECIPE.replace(batch_size=1), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    net.heads.eval()  # statistics that do not move ask for no batch
    fit(net, tiny_data(train=4), "joint", RECIPE.replace(batch_size=1, epochs=1), quiet=True)


def test_a_norm_over_the_pixels_of_one_pixel_is_one_line():
    shrinking = nn.Sequential(nn.Conv2d(4, 4, 8), nn.InstanceNorm2d(4, track_running_stats=True))
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)) for _ in range(2)]
    net = MultiExitNet([nn.Conv2d(3, 4, 3, 1, 1), shrinking], heads, input_size=(3, 8, 8))
    for norm, batch_size in itertools.product(
        (nn.InstanceNorm2d(4, track_running_stats=True), nn.InstanceNorm2d(4), nn.GroupNorm(4, 4)), (1, 4)
    ):
        shrinking[1] = norm
        line = rf"^stages\.1\.1 \({type(norm).__name__}\).*1x1.*larger images"
        with pytest.raises(UserError, match=line):
            fit(net, tiny_data(), "joint", RECIPE.replace(batch_size=batch_size), quiet=True)
        assert not any(module._forward_pre_hooks for module in net.modules())
