import inspect

import pytest
import torch
from torch import fx, nn

from offramp import Recipe, Run, UserError, fit, nets
from offramp.nets import NETS, create
from offramp.nets.text import build as build_text
from offramp.nets.zoo.catalogue import build_named

SMALL = {
    "vgg7": {"width": 2},
    "vgg16": {"width": 2},
    "resnet18": {"width": 4},
    "msdnet_cifar": {"growth": 2, "channels": 2},
    "msdnet_imagenet": {"growth": 2, "channels": 2},
    "vgg_sdn": {"width": 2},
    "resnet_sdn": {"width": 2},
    "wideresnet_sdn": {"width": 1},
}
TASKS = {"segnet", "segnet_split", "segnet_mtan", "segnet_cross_stitch"}  # tests/nets/test_segnet.py
EXITS = {
    "vgg7": 6,
    "vgg16": 13,
    "resnet18": 4,
    "msdnet_cifar": 7,
    "msdnet_imagenet": 5,
    "vgg_sdn": 7,
    "resnet_sdn": 7,
    "wideresnet_sdn": 7,
}


@pytest.fixture(params=SMALL)
def net(request):
    torch.manual_seed(0)
    return create(request.param, num_classes=3, **SMALL[request.param])


@pytest.fixture
def images(net):
    """Smaller than the net's own where these are large and it takes others."""
    side = min(net.input_size[-1], 64)
    return torch.randn(2, 3, side, side)


def flat(feature):
    return list(feature) if isinstance(feature, tuple) else [feature]


def test_the_small_nets_are_all_nets_with_exits():
    assert SMALL.keys() == EXITS.keys() == NETS.keys() - TASKS


def test_logits_of_every_exit(net, images):
    side = net.input_size[-1]
    assert side == (224 if net.spec["net"] in ("vgg16", "msdnet_imagenet") else 32)
    logits = net(images)
    assert [tuple(z.shape) for z in logits] == [(2, 3)] * EXITS[net.spec["net"]]


def test_every_parameter_gets_a_gradient(net, images):
    sum(z.square().sum() for z in net(images)).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


def test_no_stage_and_no_head_writes_into_the_feature_it_reads(net, images):
    net.eval()
    read = images
    for stage, head in zip(net.stages, net.heads, strict=True):
        kept = [t.clone() for t in flat(read)]
        feature = stage(read)
        assert all(torch.equal(a, b) for a, b in zip(flat(read), kept, strict=True))
        kept = [t.clone() for t in flat(feature)]
        head(feature)
        assert all(torch.equal(a, b) for a, b in zip(flat(feature), kept, strict=True))
        read = feature


def test_every_stage_and_head_can_be_traced(net, images):
    net.eval()
    x = images
    for stage, head in zip(net.stages, net.heads, strict=True):
        graph = fx.symbolic_trace(stage)
        assert sum(node.op == "placeholder" for node in graph.graph.nodes) == 1
        feature = stage(x)
        for a, b in zip(flat(graph(x)), flat(feature), strict=True):
            assert torch.equal(a, b)
        assert torch.equal(fx.symbolic_trace(head)(feature), head(feature))
        x = feature


def test_every_head_ends_in_the_linear_layer_that_makes_the_logits(net):
    for head in net.heads:
        assert isinstance(head, nn.Sequential)
        assert isinstance(head[-1], nn.Linear)
        assert head[-1].out_features == 3


def test_a_net_knows_how_it_was_built(net):
    name = net.spec["net"]
    noted = {"head_reads": "sum"} if name == "resnet_sdn" else {}  # which older notes lack
    assert net.spec == {"net": name, "num_classes": 3, **SMALL[name], **noted}
    arguments = {k: v for k, v in net.spec.items() if k != "net"}
    create(name, **arguments).load_state_dict(net.state_dict())
    assert NETS[name](3, **SMALL[name]).spec == net.spec  # by its own function, with or without names


def test_an_argument_left_out_is_left_out_of_the_spec():
    assert nets.vgg7().spec == {"net": "vgg7"}
    assert nets.vgg7(10, 4, slice_beta=0.5).spec == {
        "net": "vgg7",
        "num_classes": 10,
        "width": 4,
        "slice_beta": 0.5,
    }


def test_a_net_built_by_its_own_function_is_reopened_with_its_run(tmp_path):
    net = nets.vgg7(num_classes=10, width=2)
    recipe = Recipe(epochs=1, batch_size=20, train_limit=60, test_limit=20)
    fit(net, "digits", recipe=recipe, out=tmp_path / "run", quiet=True)
    again = Run.open(tmp_path / "run").net.state_dict()
    assert all(torch.equal(again[key], value.cpu()) for key, value in net.state_dict().items())


def test_an_unknown_name_is_refused_with_the_close_match_and_the_list():
    with pytest.raises(UserError, match=r"'vgg77' \(did you mean 'vgg7'\?\); there are: .*msdnet_imagenet"):
        create("vgg77")


def test_an_unknown_argument_is_refused_with_the_close_match_and_the_list():
    with pytest.raises(
        UserError, match=r"vgg7 has no argument 'with' \(did you mean 'width'\?\); it has: num"
    ):
        create("vgg7", **{"with": 3})


@pytest.mark.parametrize("value", [0, -1, 2.5, "8", True])
def test_a_size_must_be_a_positive_whole_number(value):
    with pytest.raises(UserError, match="width"):
        create("vgg7", width=value)


def test_builders_keep_their_name_signature_and_docstring():
    for name, build in NETS.items():
        assert build is getattr(nets, name)
        assert build.__name__ == name
        assert next(iter(inspect.signature(build).parameters)) == "num_classes"
        assert build.__doc__ and "images" in build.__doc__


def test_a_net_is_told_the_shape_of_its_inputs_as_it_is_built():
    net = build_named("vgg7", {"width": 2}, [3, 16, 16])
    assert net.input_size == (3, 16, 16) and net.sample(2).shape == (2, 3, 16, 16)
    assert net.spec == {"net": "vgg7", "width": 2}  # a run notes the shape with its data
    assert build_text("vgg7:width=2", 5, (3, 16, 16)).input_size == (3, 16, 16)
    assert build_named("vgg7", {"width": 2}).input_size == (3, 32, 32)
    with pytest.raises(UserError, match="no argument 'input_size'"):
        build_text("vgg7:input_size=16")
