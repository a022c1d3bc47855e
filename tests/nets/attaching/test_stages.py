"""Stages of a user's own, for backbones that cannot be cut at a name."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from offramp import UserError, attach, cost
from offramp.forks import partition
from offramp.nets import MultiExitNet

SIZE = (3, 8, 8)


class Pyramid(nn.Module):
    """Its inside branches on values and hands a set from module to module, which nobody can cut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.body = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.drop = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.rand(4))
        self.fc = nn.Linear(4, 5)
        self.packing = Packing()

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        for block in self.body:
            x = x + next(iter(self.packing({block(x)})))
            if not bool(x.isfinite().all()):
                raise ValueError("it diverges")
        x = self.drop(x.mean((2, 3)) * self.scale)
        return self.fc(x)


class Packing(nn.Module):
    def forward(self, x: set[Tensor]) -> set[Tensor]:
        return x


class Residual(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class Tail(nn.Module):
    def __init__(self, net: Pyramid) -> None:
        super().__init__()
        self.scale, self.drop, self.fc = net.scale, net.drop, net.fc

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(x.mean((2, 3)) * self.scale))


def stages(net: Pyramid) -> list:
    return [
        ["stem", net.bn, torch.relu, Residual(net.body[0])],
        Residual(net.body[1]),
        [Residual(net.body[2]), Tail(net)],
    ]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("training", [True, False])
def test_the_last_exit_is_the_backbone_bit_for_bit(training):
    backbone = Pyramid().train(training)
    whole = copy.deepcopy(backbone)
    net = attach(backbone, stages=stages(backbone), input_size=SIZE)
    assert net.num_exits == 3 and net.training is training
    assert {*map(id, net.parameters())} >= {*map(id, backbone.parameters())}
    x = torch.randn(5, *SIZE)
    outputs = []
    for model in (net, whole):
        torch.manual_seed(1)
        outputs.append(model(x))
    assert torch.equal(outputs[0][-1], outputs[1])
    outputs[0][-1].square().sum().backward()
    outputs[1].square().sum().backward()
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(backbone.get_parameter(name).grad, parameter.grad, msg=name)


def test_a_net_of_own_stages_is_partitioned_trained_counted_copied_and_saved():
    backbone = Pyramid()
    net = attach(backbone, stages=stages(backbone), input_size=SIZE)
    x = torch.randn(4, *SIZE)
    net.eval()
    plain = net(x)
    assert all(map(torch.equal, partition(net)(x), plain))
    owned = net.owners()
    assert owned["stages.0.0.weight"] == {0, 1, 2} and owned["stages.2.1.scale"] == {2}
    pixels, kernel = 64, 9
    first, second, third = (exit.flops for exit in cost(net).exits)
    assert first == pixels * kernel * (3 * 4 + 4 * 4) + 4 * 5
    assert second - first == third - second == pixels * kernel * 4 * 4 + 4 * 5
    other = copy.deepcopy(net)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    saved = torch.load(file, weights_only=False)
    before = [logits.clone() for logits in plain]
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    sum(F.cross_entropy(z, torch.arange(4)) for z in net(x)).backward()
    assert all(
        p.grad is not None and p.grad.any() for name, p in net.named_parameters() if "bias" not in name
    )
    optimizer.step()
    assert not torch.equal(net.eval()(x)[-1], before[-1])
    for twin in (other, saved):
        assert all(map(torch.equal, twin.eval()(x), before))


def test_the_refusal_of_a_name_points_to_stages():
    with pytest.raises(UserError, match=r"'packing' returns a set.*stages=\[\.\.\.\]"):
        attach(Pyramid(), ["body.0"], input_size=SIZE)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(9, 4), nn.Linear(4, 4)
        self.fc = nn.Linear(4, 5)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x = self.mix(self.embed(ids)) * mask[..., None]
        return {"logits": self.fc(x.sum(1))}


class First(nn.Module):
    def __init__(self, net: Named) -> None:
        super().__init__()
        self.embed = net.embed

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return mask, self.embed(ids)


class Second(nn.Module):
    def __init__(self, net: Named) -> None:
        super().__init__()
        self.mix, self.fc = net.mix, net.fc

    def forward(self, feature: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        mask, x = feature
        return {"logits": self.fc((self.mix(x) * mask[..., None]).sum(1))}


@pytest.mark.parametrize("named", [True, False])
def test_several_inputs_tuples_between_stages_and_logits_in_a_dict(named):
    backbone = Named()
    ids, mask = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    example = {"ids": ids, "mask": mask} if named else (ids, mask)
    net = attach(backbone, stages=[First(backbone), Second(backbone)], example=example, pool="mean")
    logits = net(example)
    assert torch.equal(logits[1], backbone(ids, mask)["logits"])
    torch.testing.assert_close(logits[0], net.heads[0][-1](backbone.embed(ids).mean(1)))


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 5), nn.Dropout(0.5)
    )


def test_the_last_linear_layer_is_the_last_head():
    backbone = chain()[:-1]
    net = attach(backbone, stages=["0", ["1", "2", "3", "4"]], input_size=SIZE)
    assert net.heads[-1] is backbone[4]
    net = attach(
        backbone,
        stages=[["0", "1"], ["2", "3"], "4"],
        input_size=SIZE,
        heads=[nn.Sequential(nn.Flatten(), nn.Linear(144, 5)), nn.Linear(144, 5)],
    )
    assert isinstance(net, MultiExitNet) and net(torch.randn(2, *SIZE))[1].shape == (2, 5)


class Hidden(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def twice(x: Tensor) -> Tensor:
    return 2 * x


FAULTS = {
    "a layer left out": (
        lambda b: ["0", ["2", "3", "4", "5"]],
        r"stage 1 is the first that differs: it returns another Tensor than '2' reads in Seq",
    ),
    "a layer twice": (
        lambda b: ["0", "1", ["2", "2", "3", "4", "5"]],
        r"stage 3 is the first that differs: '2' reads another",
    ),
    "a function too many": (
        lambda b: ["0", ["1", twice], ["2", "3", "4", "5"]],
        r"stage 2 is the first.*it returns another Tensor than '2' reads",
    ),
    "a function in the middle": (
        lambda b: ["0", ["1", twice, "2", twice], ["3", "4", "5"]],
        r"stage 2 is the first.*'2' reads another",
    ),
    "the end": (
        lambda b: ["0", ["1", "2", "3", "4", "5", twice]],
        r"stage 2 is the first.*it returns other logits than are made in Seq.* in train mode",
    ),
    "in training only": (
        lambda b: ["0", ["1", "2", "3", "4"]],
        r"stage 2 is the first.*other logits.* in train mode",
    ),
    "parameters in a function": (
        lambda b: ["0", lambda x: b[2](x), ["3", "4", "5"]],
        r"stage 2 uses '2' of the backbone but does not hold it.*nn.Module that has",
    ),
    "parameters in a hidden list": (
        lambda b: [Hidden(b[0], b[1]), ["2", "3", "4", "5"]],
        r"stage 1 uses '0' of the backbone",
    ),
    "a parameter by itself": (
        lambda b: ["0", ["1", lambda x: F.conv2d(x, b[2].weight, b[2].bias)], ["3", "4", "5"]],
        r"stage 2 uses '2.weight' of the backbone",
    ),
    "a module without parameters": (
        lambda b: ["0", ["1", "2", "3", "4", lambda x: b[5](x)]],
        r"stage 2 uses '5' of the backbone",
    ),
    "the whole": (
        lambda b: [b, "5"],
        r"stage 1 is the first that differs: it returns another Tensor than '5' reads",
    ),
    "a mode that nobody sets": (
        lambda b: ["0", ["1", "2", "3", "4", lambda x: F.dropout(x, 0.5, b.training)]],
        r"stage 2 is the first that differs.*in train mode",
    ),
    "a wrong order": (
        lambda b: ["1", "0", ["4", "3", "2", "5"]],
        r"stage 3 cannot run on what stage 2 returns: .*all that the backbone's forward runs, in its order",
    ),
    "a wrong start": (lambda b: ["4", "0"], r"stage 1 cannot run on the input: "),
    "no such name": (lambda b: ["0", ["1", "22"]], r"Sequential has no module '22'"),
    "one stage": (
        lambda b: [["0", "1"]],
        r"stages=\[\['0', '1'\]\] has no place for an exit; give two stages or more",
    ),
    "a word": (lambda b: "01", r"stages='01' has no place for an exit"),
    "a number": (
        lambda b: ["0", ["1", 2]],
        r"stage 2 has 2 in it; give names of submodules, modules, or functions",
    ),
    "no Tensor": (
        lambda b: [["0", lambda x: {"x": x}], [lambda x: x["x"], "1", "2", "3", "4", "5"]],
        r"stage 1 returns a dict, not a float Tensor",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_stage_is_refused_in_one_line(fault):
    build, line = FAULTS[fault]
    backbone = chain()
    state = copy.deepcopy(backbone.state_dict())
    with pytest.raises(UserError, match=line) as caught:
        attach(backbone, stages=build(backbone), input_size=SIZE)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())
    assert all(module.training for module in backbone.modules())


def test_at_or_stages():
    with pytest.raises(UserError, match="give one of them"):
        attach(chain(), ["0"], stages=["0", "1"], input_size=SIZE)
    with pytest.raises(UserError, match="at=None names no place"):
        attach(chain(), input_size=SIZE)
    listed = nn.ModuleDict({"parts": nn.ModuleList(chain())})
    listed.forward = lambda x: nn.Sequential(*listed["parts"])(x)
    with pytest.raises(
        UserError, match="stage 1 has a ModuleList, which runs nothing itself; name the modules in"
    ):
        attach(listed, stages=["parts", []], input_size=SIZE)


class Wide(nn.Module):
    """A head that is no nn.Sequential, with statistics and draws of its own."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.norm(x).mean((2, 3)), training=self.training))


@pytest.mark.parametrize("training", [True, False])
def test_modules_of_a_users_own_keep_their_modes_in_a_net_that_trains(training):
    backbone, head = Pyramid().train(training), Wide()
    own = stages(backbone)
    head.norm.eval()
    own[2][1].eval()
    net = attach(backbone, stages=own, input_size=SIZE, heads=[head, Wide()])
    assert [net.training, head.training, head.norm.training] == [training, training, False]
    assert [own[1].training, own[2][1].training, net.heads[1].norm.training] == [training, False, training]
    assert backbone.drop.training is False and backbone.bn.training is training


def test_own_heads_are_left_as_they_were_and_draw_without_harm():
    head, backbone = Wide(), chain()
    state = copy.deepcopy(head.state_dict())
    net = attach(backbone, ["0"], input_size=SIZE, heads=[head])
    assert net.heads[0] is head and head.training
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (nn.Linear(3, 5), r"head 1 cannot run on what its stage returns, \[2, 4, 6, 6\]: "),
        (Wide(7), r"head 1 returns \[2, 7\], not logits \[N, 5\]"),
        (nn.LazyLinear(5), "'weight' of LazyLinear has no shape yet; run a batch through it first"),
        (torch.relu, "head 1 is a builtin_function_or_method; give an nn.Module"),
    ],
)
def test_heads_that_do_not_fit(head, line):
    with pytest.raises(UserError, match=line):
        attach(chain(), ["0"], input_size=SIZE, heads=[head])
