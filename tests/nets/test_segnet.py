"""The SegNets: sizes, costs, initial weights, and outputs beside a walk through the published wiring."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import offramp
from offramp import UserError, nets
from offramp.nets import Separate, create
from offramp.nets.text import sketch

ALL = ["segnet", "segnet_split", "segnet_mtan", "segnet_cross_stitch"]
THREE = ALL[1:]
TASKS = ["segmentation", "depth", "normals"]
PUBLISHED = {  # parameters, and multiply-accumulates for a 288x384 image
    "segnet": (24_981_069, 60.4e9),
    "segnet:task=depth": (24_980_289, None),
    "segnet:task=normals": (24_980_419, None),
    "segnet_split": (25_055_188, None),
    "segnet_mtan": (44_229_076, 216.0e9),
    "segnet_cross_stitch": (74_941_807, 181e9),
}


def tiny(name: str) -> nets.Net:
    """A narrow net in float64, in which no two parameters or statistics are equal."""
    net = create(name, width=2, num_classes=4).double()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=random, dtype=torch.float64)
                tensor += noise if name.endswith("running_var") else 0.3 * (noise - 0.5)
    return net


def images(count: int = 2, height: int = 32, width: int = 64) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, height, width, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_sizes_and_operations(text):
    """Operations grow with the pixels, there being nothing but convolutions: a 64x96 image shows them."""
    params, macs = PUBLISHED[text]
    counted = offramp.cost(sketch(text, input_size=(3, 64, 96)))
    assert counted.params == params and not counted.unknown
    if macs is not None:
        assert counted.flops * (288 * 384) / (64 * 96) == pytest.approx(macs, rel=1e-3)


def test_a_task_of_the_split_net_costs_what_a_net_of_its_own_does():
    counted = offramp.cost(sketch("segnet_split", input_size=(3, 32, 32)))
    alone = [offramp.cost(sketch(f"segnet:task={task}", input_size=(3, 32, 32))) for task in TASKS]
    assert counted.exits == tuple(net.exits[0] for net in alone)
    separate = Separate(nets.segnet_split(width=2))
    single = [nets.segnet(width=2, task=task) for task in TASKS]
    assert offramp.cost(separate, (3, 32, 32)).params == sum(
        offramp.cost(n, (3, 32, 32)).params for n in single
    )


def block(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Convolution, norm and ReLU, one after the other."""
    layer, norm, _ = module
    return F.relu(norm(layer(x)))


def stage(module: nn.Module, x: torch.Tensor, further: int) -> list[torch.Tensor]:
    """What each convolution of a stage gives."""
    maps = [block(module.first, x)]
    assert len(module.rest) == further
    for each in module.rest:
        maps.append(block(each, maps[-1]))
    return maps


def unpool(x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """A map of the size of the one that was pooled, with values where its 2x2 windows have their maxima."""
    found = torch.zeros(*x.shape[:2], *before.shape[2:], dtype=x.dtype)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for i in range(x.shape[2]):
                for j in range(x.shape[3]):
                    window = before[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                    at = int(window.argmax())
                    found[n, c, 2 * i + at // 2, 2 * j + at % 2] = x[n, c, i, j]
    return found


def end(task: str, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    z = module[1](module[0](x))
    if task == "segmentation":
        return z - z.exp().sum(1, keepdim=True).log()
    return z if task == "depth" else z / z.square().sum(1, keepdim=True).sqrt()


def trunk_maps(trunk, x):
    down, up = [], []
    for module, further in zip(trunk.encoder, [1, 1, 2, 2, 2], strict=True):
        down.append(stage(module, x, further))
        x = F.max_pool2d(down[-1][-1], 2)
    for module, further, below in zip(trunk.decoder, [2, 2, 2, 1, 1], reversed(down), strict=True):
        up.append([unpool(x, below[-1]), *stage(module, unpool(x, below[-1]), further)])
        x = up[-1][-1]
    return down, up


def gate(module, x):
    one, norm_one, _, two, norm_two, _ = module
    z = norm_two(two(F.relu(norm_one(one(x)))))
    return 1 / (1 + (-z).exp())


def walk_single(net, x):
    _, up = trunk_maps(net.stages[0], x)
    return [end(task, head, up[-1][-1]) for task, head in zip(net.outputs, net.decoders, strict=True)]


def walk_mtan(net, x):
    down, up = trunk_maps(net.trunk, x)
    outputs = []
    for t, task in enumerate(TASKS):
        gates = net.attention[t]
        read = None
        for j in range(5):
            reads = down[j][0] if j == 0 else torch.cat([down[j][0], read], 1)
            attended = gate(gates.encoder[j], reads) * down[j][-1]
            read = F.max_pool2d(block(net.between.encoder[j], attended), 2)
        for j in range(5):
            grown = F.interpolate(read, scale_factor=2, mode="bilinear", align_corners=True)
            grown = block(net.between.decoder[j], grown)
            read = gate(gates.decoder[j], torch.cat([up[j][0], grown], 1)) * up[j][-1]
        outputs.append(end(task, net.heads[t], read))
    return outputs


def walk_cross_stitch(net, x):
    inputs = [x, x, x]
    downs = [[], [], []]
    for j, further in enumerate([1, 1, 2, 2, 2]):
        pools = []
        for t in range(3):
            downs[t].append(stage(net.trunks[t].encoder[j], inputs[t], further)[-1])
            pools.append(F.max_pool2d(downs[t][-1], 2))
        factor = net.encoder_factors[j] if j < 4 else net.decoder_factors[0]
        inputs = [factor[0] * pools[0] + factor[1] * pools[1] + factor[2] * pools[2]] * 3
    for j, further in enumerate([2, 2, 2, 1, 1]):
        maps = [
            stage(net.trunks[t].decoder[j], unpool(inputs[t], downs[t][4 - j]), further)[-1] for t in range(3)
        ]
        if j < 4:
            factor = net.decoder_factors[j + 1]
            inputs = [factor[0] * maps[0] + factor[1] * maps[1] + factor[2] * maps[2]] * 3
    return [end(task, net.heads[t], maps[t]) for t, task in enumerate(TASKS)]


WALKS = {
    "segnet": walk_single,
    "segnet_split": walk_single,
    "segnet_mtan": walk_mtan,
    "segnet_cross_stitch": walk_cross_stitch,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ALL)
def test_outputs_are_those_of_the_published_wiring(name, training):
    """With no two branches alike, so that none is mistaken for another."""
    net = tiny(name).train(training)
    with torch.no_grad():
        expected = WALKS[name](net, images())
        found = net(images())
    assert list(net.outputs) == (TASKS if name in THREE else TASKS[:1])
    for output, walked, channels in zip(found, expected, [4, 1, 3], strict=False):
        assert output.shape == (2, channels, 32, 64)
        torch.testing.assert_close(output, walked, rtol=1e-9, atol=1e-9)


def test_what_mtan_leads_from_scale_to_scale_runs_once_for_each_task():
    net = tiny("segnet_mtan").train()
    net(images())
    runs = {name.partition(".")[0]: set() for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            runs[name.partition(".")[0]].add(int(module.num_batches_tracked))
    assert runs == {"trunk": {1}, "between": {3}, "attention": {1}}


OWNERS = {
    "segnet_split": {"stages": {0, 1, 2}, "decoders": None},
    "segnet_mtan": {"trunk": {0, 1, 2}, "between": {0, 1, 2}, "attention": None, "heads": None},
    "segnet_cross_stitch": {
        "trunks": {0, 1, 2}, "encoder_factors": {0, 1, 2}, "decoder_factors": {0, 1, 2}, "heads": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", THREE)
def test_owners(name):
    """The trunk is everybody's, and what stands for one task is its own; nobody reads the log variances."""
    net = create(name, width=2)
    net.input_size = (3, 32, 32)
    for parameter, owners in net.owners().items():
        part, *place = parameter.split(".")
        if part == "log_variances":
            assert owners == set()
        elif parameter.startswith("trunks.") and place[1] == "decoder" and place[2] == "4":
            assert owners == {int(place[0])}  # behind the last stitch
        else:
            assert owners == (OWNERS[name][part] or {int(place[0])}), parameter


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_initial_weights_are_the_published_ones(name):
    torch.manual_seed(0)
    net = create(name, width=16)
    for module in net.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        assert not module.bias.any()
        area = module.kernel_size[0] ** 2
        deviation = math.sqrt(2 / (area * (module.in_channels + module.out_channels)))
        count = module.weight.numel()
        if count > 10_000:  # the relative error of a deviation is 1 / sqrt(2 count), or less
            assert module.weight.std() == pytest.approx(deviation, rel=4 / math.sqrt(2 * count))
        bounded = module.weight.abs().max() <= math.sqrt(3) * deviation
        assert bounded == (name == "segnet_cross_stitch") or count < 1000
    if name == "segnet_cross_stitch":
        assert net.encoder_factors.eq(1).all() and net.encoder_factors.shape == (4, 3)
        assert net.decoder_factors.eq(1).all() and net.decoder_factors.shape == (5, 3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(33, 64), (32, 80), (16, 32)])
def test_images_of_other_sides_are_refused_in_a_line(name, size):
    fits = [max(32, side // 32 * 32) for side in size]
    line = f"the images are {size[0]}x{size[1]}, .* multiples of 32, e.g. {fits[0]}x{fits[1]}"
    with pytest.raises(UserError, match=line):
        tiny(name)(images(2, *size))


def test_a_segnet_has_one_of_three_tasks():
    with pytest.raises(UserError, match=r"segnet has no task 'depths' \(did you mean 'depth'\?\); there are"):
        nets.segnet(task="depths")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_moves_every_parameter_that_an_output_reads(name, dtype):
    torch.manual_seed(0)
    net = create(name, width=2, num_classes=4)
    bound = offramp.method("joint").bind(net)
    targets = {
        "segmentation": torch.randint(-1, 4, (2, 32, 32)),
        "depth": torch.rand(2, 1, 32, 32),
        "normals": F.normalize(torch.randn(2, 3, 32, 32), dim=1),
    }
    with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
        losses = bound.backward(images(2, 32, 32).float(), targets)
    assert len(losses) == len(net.outputs) and all(loss.isfinite() for loss in losses)
    without = [name for name, p in net.named_parameters() if p.grad is None]
    assert without == (["log_variances"] if name in THREE else [])
