"""Nets of the zoo with a head for each target of the data, and nets built for the data by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import offramp
from offramp import UserError, nets
from offramp.data.targets import Target
from offramp.nets import MultiExitNet, MultiTaskNet, create, with_tasks
from offramp.nets.text import build, build_noted, word
from offramp.tasks import Boxes, Classification, MultiLabel, Regression

CLASS, BOX = Target("class", tuple("abcdefg")), Target("box")
BOTH = {"kind": CLASS, "place": BOX}
SMALL = {
    "vgg7": "width=2",
    "vgg16": "width=2",
    "resnet18": "width=4",
    "msdnet_cifar": "growth=2,channels=2",
    "msdnet_imagenet": "growth=2,channels=2",
    "vgg_sdn": "width=2",
    "resnet_sdn": "width=2",
    "wideresnet_sdn": "width=1",
}


@pytest.mark.parametrize("name", SMALL)
def test_every_net_with_exits_is_a_trunk_for_the_targets_of_the_data(name):
    torch.manual_seed(0)
    net = build(f"{name}:{SMALL[name]}", targets=BOTH)
    assert isinstance(net, MultiTaskNet)
    assert net.outputs == {"kind": Classification(target="kind"), "place": Boxes(target="place")}
    plain = create(name, **{key: value for key, value in net.spec.items() if key not in ("net", "tasks")})
    assert [len(stage) for stage in net.stages] == [len(plain.stages)]
    assert [p.shape for p in net.stages.parameters()] == [p.shape for p in plain.stages.parameters()]
    side = min(plain.input_size[-1], 64)
    x = torch.randn(2, 3, side, side)
    outputs = net.eval()(x)
    assert [z.shape for z in outputs] == [(2, 7), (2, 4)]
    feature = x
    for stage in net.stages[0]:
        feature = stage(feature)
    assert all(torch.equal(z, head(feature)) for z, head in zip(outputs, net.decoders, strict=True))
    again = build_noted(net.spec)
    again.load_state_dict(net.state_dict())
    assert again.outputs == net.outputs and all(map(torch.equal, again.eval()(x), outputs))
    assert word(net.spec) == f"{name}:{SMALL[name]}"  # the targets follow from the data


def test_heads_start_apart_and_like_those_of_the_zoo():
    torch.manual_seed(0)
    net = with_tasks(nets.vgg_sdn(width=2), {"one": CLASS, "two": CLASS})
    one, two = ([p for p in head.parameters() if p.dim() > 1] for head in net.decoders)
    assert not any(map(torch.equal, one, two))
    last = create("vgg_sdn", width=2, num_classes=7).heads[-1]
    assert [p.shape for p in net.decoders[0].parameters()] == [p.shape for p in last.parameters()]
    for made, known in zip(net.decoders[0].parameters(), last.parameters(), strict=True):
        assert float(made.detach().std()) == pytest.approx(float(known.detach().std()), rel=0.5)


def test_the_trunk_is_the_net_that_was_given():
    net = nets.resnet18(width=4).double()
    made = with_tasks(net, {"marks": Target("labels", ("red", "round")), "size": Target("values", size=3)})
    assert made.outputs == {"marks": MultiLabel(target="marks"), "size": Regression(target="size")}
    assert {p.dtype for p in made.parameters()} == {torch.float64}
    assert all(a is b for a, b in zip(made.stages[0], net.stages, strict=True))
    assert [z.shape for z in made(made.sample(2))] == [(2, 2), (2, 3)]
    assert made.convention == net.convention and made.input_size == net.input_size


def test_an_own_head_costs_what_it_alone_needs():
    net = build("vgg7:width=2", targets=BOTH)
    trunk = sum(p.numel() for p in net.stages.parameters())
    assert [e.params for e in offramp.cost(net).exits] == [trunk + 8 * 7, trunk + 8 * 4]
    assert all(owners == {0, 1} for name, owners in net.owners().items() if name.startswith("stages."))


def without_note(net):
    net.spec = None
    return net


@pytest.mark.parametrize(
    ("net", "targets", "message"),
    [
        (lambda: nets.vgg7(width=2), BOTH | {"far": Target("depth")}, r"one vector .* 'far' \(depth\) wants"),
        (lambda: nets.vgg7(width=2, slice_beta=0.5), BOTH, "vgg7 has forks that are not plain"),
        (lambda: offramp.partition(nets.vgg7(width=2)), BOTH, "vgg7 has forks that are not plain"),
        (lambda: nets.segnet_split(width=2), BOTH, "segnet_split has tasks of its own and no exits"),
        (lambda: nets.segnet_mtan(width=2), BOTH, "segnet_mtan has tasks of its own and no exits"),
        (lambda: without_note(nets.vgg7(width=2)), BOTH, "MultiExitNet is no net of the zoo"),
        (
            lambda: offramp.attach(nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 9)), ["0"], input_size=(5,)),
            BOTH, r"MultiExitNet is no net of the zoo, .* offramp.multi_task\(nn.Sequential",
        ),
    ],
)  # fmt: skip
def test_what_is_no_trunk_is_refused_in_a_line(net, targets, message):
    with pytest.raises(UserError, match=message) as caught:
        with_tasks(net(), targets)
    assert "\n" not in str(caught.value)


def test_data_of_classes_alone_keep_the_exits():
    net = build("vgg7:width=2", targets={"label": CLASS})
    assert isinstance(net, MultiExitNet) and {z.shape[1] for z in net(net.sample(2))} == {7}
    assert net.spec == {"net": "vgg7", "width": 2, "num_classes": 7}
    own_number = build("vgg7:width=2,num_classes=9", targets={"label": CLASS})  # runs refuse it
    assert own_number.spec["num_classes"] == 9


def test_the_number_of_classes_is_that_of_the_one_target_that_has_them():
    rooms = {"segmentation": Target("segmentation", tuple("abcde")), "depth": Target("depth")}
    net = build("segnet_split:width=2", targets=rooms | {"normals": Target("normals")})
    assert net.spec == {"net": "segnet_split", "num_classes": 5, "width": 2}
    assert build_noted(net.spec, (3, 32, 32)).input_size == (3, 32, 32)
    assert net.decoders[0][1].out_channels == 5
    assert build("segnet:width=2,task=depth", targets={"depth": Target("depth")}).spec == {
        "net": "segnet",
        "width": 2,
        "task": "depth",
    }
    two = build("vgg7:width=2", targets={"coarse": Target("class", ("a", "b")), "fine": CLASS})
    assert [z.shape[1] for z in two(two.sample(2))] == [2, 7]


def test_a_number_of_classes_beside_heads_of_all_targets_is_refused():
    with pytest.raises(UserError, match=r"gets a head for each of kind, place, .* leave num_classes out"):
        build("vgg7:width=2,num_classes=9", targets=BOTH)


def test_a_function_of_ones_own_is_told_the_number_of_classes(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import offramp\ndef build(num_classes):\n    return offramp.nets.vgg7(num_classes, width=2)\n"
    )
    net = build(f"{tmp_path / 'mine.py'}:build", targets=BOTH)
    assert {z.shape[1] for z in net(net.sample(2))} == {7}


def test_copies_are_apart():
    net = build("vgg7:width=2", targets=BOTH)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert next(net.parameters()).any() and twin.spec == net.spec
