"""Multi-task nets: what they compute, own and cost, alone and with exits; parts that do not fit are named."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import offramp
from offramp import Recipe, UserError, multi_task
from offramp.nets import MultiExitNet, MultiTaskNet, Separate
from offramp.tasks import Boxes, Classification

SIZE = (3, 8, 8)
CLASS, BOX = Classification(), Boxes()
TRUNK, STAGE = 3 * 6 * 9 + 6, 6 * 6 * 9 + 6  # parameters of the first and of a further stage


def stage(reads: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(reads, 6, 3, padding=1), nn.ReLU())


def decoder(size: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, size))


def parted() -> MultiTaskNet:
    """One trunk, two tasks."""
    torch.manual_seed(0)
    return multi_task(stage(), {"class": (decoder(10), CLASS), "box": (decoder(4), BOX)}, input_size=SIZE)


def with_exits() -> MultiTaskNet:
    """Two stages, two tasks behind each."""
    torch.manual_seed(0)
    decoders = {"class": ([decoder(10), decoder(10)], CLASS), "box": ([decoder(4), decoder(4)], BOX)}
    return multi_task([stage(), stage(6)], decoders, input_size=SIZE)


def test_each_decoder_reads_the_feature_of_the_trunk():
    net = parted()
    x = torch.randn(5, *SIZE)
    feature = net.stages[0](x)
    one, two = net(x)
    assert torch.equal(one, net.decoders[0](feature)) and torch.equal(two, net.decoders[1](feature))
    assert net.outputs == {"class": CLASS, "box": BOX} and net.num_tasks == 2
    assert [fork.consumers for fork in net.forks] == [2]
    assert net.sample(4).shape == (4, *SIZE)


def test_with_exits_every_task_is_decoded_behind_every_stage():
    net = with_exits()
    assert list(net.outputs) == ["exit 1 class", "exit 1 box", "exit 2 class", "exit 2 box"]
    x = torch.randn(5, *SIZE)
    first = net.stages[0](x)
    second = net.stages[1](first)
    expected = [d(f) for d, f in zip(net.decoders, [first, first, second, second], strict=True)]
    assert all(map(torch.equal, net(x), expected))
    assert [fork.consumers for fork in net.forks] == [3, 2]


def test_owners_are_the_outputs_above():
    owned = with_exits().owners()
    assert {owners for name, owners in owned.items() if name.startswith("stages.0")} == {frozenset(range(4))}
    assert {owners for name, owners in owned.items() if name.startswith("stages.1")} == {frozenset({2, 3})}
    for k in range(4):
        assert {owners for name, owners in owned.items() if name.startswith(f"decoders.{k}.")} == {
            frozenset({k})
        }


@pytest.mark.parametrize("convention", ["macs", "macs-own", "thop", "op-counter"])
def test_an_output_costs_its_stages_and_its_decoder(convention):
    net = with_exits()
    counted = offramp.cost(net, convention=convention)
    heads = [6 * 10 + 10, 6 * 4 + 4]
    assert [each.params for each in counted.exits] == [
        *(TRUNK + head for head in heads),
        *(TRUNK + STAGE + head for head in heads),
    ]
    alone = offramp.cost(Separate(net), convention=convention)
    assert [each.flops for each in counted.exits] == [each.flops for each in alone.exits]
    if convention.startswith("macs"):
        macs = [64 * 3 * 6 * 9, 64 * 6 * 6 * 9]
        assert [each.flops for each in counted.exits] == [
            *(macs[0] + 6 * size for size in (10, 4)),
            *(sum(macs) + 6 * size for size in (10, 4)),
        ]
        assert counted.flops == sum(macs) + 2 * 6 * (10 + 4)


@pytest.mark.parametrize("make", [parted, with_exits])
def test_separate_networks_are_single_task_nets_of_the_same_parts(make):
    net = make()
    alone = Separate(net)
    x = torch.randn(5, *SIZE)
    outputs = alone(x)
    assert all(map(torch.equal, outputs, net(x)))
    for k, output in enumerate(outputs):
        grads = torch.autograd.grad(output.sum(), list(alone.parameters()), allow_unused=True)
        reached = {
            name for (name, _), g in zip(alone.named_parameters(), grads, strict=True) if g is not None
        }
        assert reached == {name for name, owners in alone.owners().items() if owners == {k}}
    with torch.no_grad():
        alone.nets[0][0][0].weight.zero_()
    assert net.stages[0][0].weight.any()


def test_copies_and_states():
    net = with_exits()
    twin = copy.deepcopy(net)
    x = torch.randn(5, *SIZE)
    assert all(map(torch.equal, twin(x), net(x)))
    with torch.no_grad():
        twin.stages[0][0].weight.zero_()
    assert net.stages[0][0].weight.any()
    twin.load_state_dict(net.state_dict())
    assert all(map(torch.equal, twin(x), net(x)))


class Pooling(nn.Module):
    """Hands on a map and the places of its maxima."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 6, 3, padding=1), kind

    def forward(self, x):
        pooled = nn.functional.max_pool2d(self.conv(x), 2, return_indices=True)
        return dict(zip(("map", "indices"), pooled, strict=True)) if self.kind is dict else self.kind(pooled)


class Unpooling(nn.Module):
    """Reads both."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.head = decoder(size)

    def forward(self, feature):
        x, indices = feature.values() if isinstance(feature, dict) else feature
        return self.head(nn.functional.max_unpool2d(x, indices, 2))


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_a_feature_may_be_several_tensors(kind):
    decoders = {"class": (Unpooling(10), CLASS), "box": (Unpooling(4), BOX)}
    net = multi_task(Pooling(kind), decoders, input_size=SIZE)
    assert [z.shape for z in net(torch.randn(2, *SIZE))] == [(2, 10), (2, 4)]
    assert net.owners()["stages.0.conv.weight"] == {0, 1}
    assert offramp.cost(net).exits == offramp.cost(Separate(net)).exits


def test_named_inputs_are_checked_against_the_example():
    class Named(nn.Module):
        def forward(self, x):
            return x["image"]

    decoders = {"class": (nn.Flatten(1), CLASS)}
    net = multi_task(Named(), decoders, example={"image": torch.randn(2, 5)})
    assert net({"image": torch.randn(3, 5)})[0].shape == (3, 5)
    with pytest.raises(UserError, match="input 'image' is missing"):
        Separate(net)({})


@pytest.mark.parametrize("method", ["joint", "cagrad", "separate"])
@pytest.mark.parametrize("exits", [False, True])
def test_it_is_trained(method, exits, tmp_path):
    make = lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))  # noqa: E731
    torch.manual_seed(0)
    stages = [stage(), stage(6)] if exits else stage()
    heads = [[make(), make()] if exits else make() for _ in range(2)]
    smooth = Classification(label_smoothing=0.1)
    net = multi_task(
        stages, {"plain": (heads[0], CLASS), "smooth": (heads[1], smooth)}, input_size=(3, 32, 32)
    )
    recipe = Recipe(epochs=1, batch_size=16, train_limit=48, test_limit=16)
    run = offramp.fit(net, "digits", method, recipe, tmp_path / "run", quiet=True)
    assert list(run.result.outputs) == list(net.outputs)
    again = offramp.Run.open(tmp_path / "run", copy.deepcopy(net))
    assert again.evaluate().outputs == run.result.outputs


BOTH = {"class": (decoder(10), CLASS), "box": (decoder(4), BOX)}


class InPlace(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Tanh(), nn.ReLU(inplace=True), decoder(4))

    def forward(self, x):
        return super().forward(x.neg_())


@pytest.mark.parametrize(
    ("trunk", "decoders", "message"),
    [
        ("resnet18", BOTH, "the trunk is a str; give an nn.Module"),
        ([], BOTH, "the trunk has no modules"),
        (stage(), {}, "decoders are none; give a dict"),
        (stage(), [decoder(4)], "decoders is a list; give a dict"),
        (stage(), {"": BOTH["box"]}, "an output's name must be text"),
        (stage(), {"exit 1": BOTH["box"]}, "'exit 1' is the name of an exit; give the task another"),
        (stage(), {"box": decoder(4)}, "the decoder 'box' has no task; give 'box': "),
        (stage(), {"box": (decoder(4), None)}, "the decoder 'box' has no task"),
        (stage(), {"box": (decoder(4), Boxes)}, "the decoder 'box' has no task"),
        (stage(), {"box": BOX}, "the task 'box' has no decoder"),
        (stage(), {"box": (None, BOX)}, "the task 'box' has no decoder"),
        (stage(), {"box": ("linear", BOX)}, "the decoder 'box' is a str"),
        (stage(), {"box": (decoder(4), BOX, 1)}, "the decoder 'box' has no task"),
        ([stage(), stage(6)], BOTH, "the trunk has 2 stages and 'class' 1 decoder; "),
        (stage(), {"box": ([decoder(4)] * 2, BOX)}, "the trunk has 1 stage and 'box' 2 decoders; "),
        (stage(4), BOTH, r"the trunk \(Sequential\) cannot run on \[2, 3, 8, 8\] in training mode: "),
        ([stage(), stage(5)], {"box": ([decoder(4)] * 2, BOX)}, "stage 2 of the trunk .* cannot run on "),
        (stage(), {"box": (nn.Linear(7, 4), BOX)}, r"'box' \(Linear\) cannot run on \[2, 6, 8, 8\]"),
        (Pooling(list), {"box": (decoder(4), BOX)}, r"on a list of \[2, 6, 4, 4\], \[2, 6, 4, 4\] in"),
        (stage(), {"box": (decoder(5), BOX)}, r"the decoder 'box' gives \[2, 5\] for 2 samples, .* Boxes"),
        (stage(), {"class": (nn.Identity(), CLASS)}, r"'class' gives \[2, 6, 8, 8\] for 2 samples, .* Class"),
        (stage(), {"class": (Pooling(list), CLASS)}, r"the decoder 'class' \(Pooling\) cannot run"),
        (nn.Identity(), {"class": (Pooling(list), CLASS)}, "wrap it in a module that gives one Tensor"),
        (stage(), {"class": (nn.Flatten(0), CLASS)}, "wrap it in a module that gives one Tensor"),
        (stage(), {"box": (InPlace(), BOX)}, "'box' writes over the feature that others"),
        (nn.LazyLinear(4), BOTH, "'weight' of LazyLinear has no shape yet; run a batch through it first"),
        (offramp.nets.vgg7(width=2), BOTH, r"the trunk is a MultiExitNet, .* nn.Sequential\(\*net.stages\)"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_named(trunk, decoders, message):
    with pytest.raises(UserError, match=message) as caught:
        multi_task(trunk, decoders, input_size=SIZE)
    assert "\n" not in str(caught.value)


def test_inputs_are_asked_for():
    with pytest.raises(UserError, match=r"say what its inputs are like: .*input_size"):
        multi_task(stage(), BOTH)


def test_the_look_at_the_parts_leaves_them_as_they_were():
    trunk = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).eval()
    state = copy.deepcopy(trunk.state_dict())
    random = torch.get_rng_state()
    net = multi_task(trunk, BOTH, input_size=SIZE)
    assert all(torch.equal(state[key], value) for key, value in trunk.state_dict().items())
    assert torch.equal(random, torch.get_rng_state()) and not trunk[1].training
    assert net.stages[0] is trunk and net.decoders[0] is BOTH["class"][0]


def test_numbers_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="2 stages, 3 decoders and 3 outputs"):
        MultiTaskNet([stage(), stage(6)], [decoder(4)] * 3, dict.fromkeys("abc", BOX))


def test_it_has_no_exits_to_leave_early():
    net = with_exits()
    assert not isinstance(net, MultiExitNet)
    with pytest.raises(UserError, match="samples leave a MultiExitNet early"):
        offramp.calibrate(net, [(torch.randn(4, *SIZE), torch.zeros(4).long())], budget="1M")
