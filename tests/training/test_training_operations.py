"""Operations of every method's training, on a net whose layers can be counted by hand."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from offramp import UserError
from offramp.counting import cost, training_macs
from offramp.methods import METHODS, method
from offramp.nets import MultiExitNet
from offramp.training import operations
from offramp.training.operations import training_operations

CHANNELS = (4, 8, 8, 12)
K = len(CHANNELS)
CONV = [36 * 9 * i * o for i, o in zip((3, *CHANNELS), CHANNELS, strict=False)]  # products on 6x6 maps
HEAD = [c * 5 for c in CHANNELS]
SHARED = range(K - 1)  # stages with several owners
FORWARD = sum(CONV) + sum(HEAD)


def by_hand() -> MultiExitNet:
    torch.manual_seed(0)
    reads = (3, *CHANNELS)
    stages = [
        nn.Sequential(nn.Conv2d(reads[k], c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())
        for k, c in enumerate(CHANNELS)
    ]
    heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 5)) for c in CHANNELS]
    return MultiExitNet(stages, heads, input_size=(3, 6, 6))


def stages(k, first=0):
    """Backward through stages first to k: weights of all, inputs of all but the first."""
    return 2 * sum(CONV[first : k + 1]) - CONV[first]


JOINT = FORWARD + 2 * sum(HEAD) + stages(K - 1)
ROWS = FORWARD + sum(2 * HEAD[k] + stages(k) for k in range(K))
SEPARATE = sum(sum(CONV[: k + 1]) + stages(k) + 3 * HEAD[k] for k in range(K))
# half of the channels at each fork: the next stage's input gradient, and the head's, are half
SAVED = sum(CONV[1:]) // 2 + sum(HEAD[:-1]) // 2
# windows start at blocks 0, 0, 0, 1; the first three losses go back together
BDL_1 = FORWARD + 2 * sum(HEAD) + stages(2) + stages(3, first=1)
# what nothing fuses (the last stage and the heads) needs no gradient of its weights
FUSION = JOINT - CONV[-1] - sum(HEAD)
STAGED = K * JOINT + FUSION
# each loss back to the weights of the first stage, and to no other weights
NORMS = sum(HEAD[k] + sum(CONV[1 : k + 1]) + CONV[0] for k in range(K))
# two forward passes; back from the losses for a virtual step, from those of a second batch, and for the step
# itself; and twice what a backward pass takes of the convolutions, once of the heads, for the weights
BACK = JOINT - FORWARD
WEIGHTS = 2 * stages(K - 1) + 2 * sum(HEAD)
# one exit's loss, through no other head
BACKBONE = sum(CONV) + HEAD[-1] + 2 * HEAD[-1] + stages(K - 1)
# heads on a frozen backbone need no gradient of their inputs, nor the last one any
HEADS = FORWARD + sum(HEAD[:-1])
# forward up to an exit, and back to the weights of its stage and head, and to the head's input
BRANCHES = sum(sum(CONV[: k + 1]) + CONV[k] + 3 * HEAD[k] for k in range(K))
# heads of a cascade: the first reads its feature, the others the logits before too, whose norm is trained
CASCADE = [(c + 5 * (k > 0)) * 5 for k, c in enumerate(CHANNELS[:-1])]
CASCADED = sum(CONV) + HEAD[-1] + sum(CASCADE)
ZTW = 5038 * (CASCADED + CASCADE[0] + 2 * sum(CASCADE[1:])) + 2 * CASCADED  # 2 epochs of the ensembles
# collaborating heads: twice as wide, behind a layer of C x D; back to all but the features; and the teacher
IMTA_2 = sum(CONV) + HEAD[-1] + 2 * HEAD[0] + 9 * sum(HEAD[1:])
EXPECTED = {
    "ztw": round(ZTW / 5040),
    "imta-2": IMTA_2,
    "mixed": (BACKBONE + JOINT) // 2,
    "backbone-then-kd": (BACKBONE + 3 * JOINT) // 4,
    "disjoint": (BACKBONE + HEADS) // 2,
    "branch-wise": BRANCHES // K,
    "dfs": JOINT - SAVED,
    "byot": JOINT + 3 * sum(c * CHANNELS[-1] for c in CHANNELS[:-1]),
    "byot-iccv": JOINT + 3 * sum(c * CHANNELS[-1] for c in CHANNELS[:-1]),
    "eed": JOINT + 3 * sum(c * CHANNELS[-1] for c in CHANNELS[:-1] if c != CHANNELS[-1]),
    "famo": JOINT + FORWARD,  # looks at each batch once more
    "gradnorm": JOINT + NORMS,
    "mgda-ub": JOINT + sum(HEAD[:-1]),  # heads once more, apart; single layers have no gradient twice
    **dict.fromkeys(("auto-lambda", "hdkd"), 2 * FORWARD + 3 * BACK + WEIGHTS),
    # its network twice forward and once back, of which the first layer needs no gradient of its input
    "wpn": 2 * FORWARD + 3 * BACK + WEIGHTS + 7 * K * 500,
    # every head's feature turned, its gradient turned back, and the gradient of the rotation
    "rotograd": JOINT + 3 * sum(36 * c * c for c in CHANNELS[:-1]),
    "separate": SEPARATE,
    "bdl-1": BDL_1,
    "bdl-2": FORWARD + 2 * sum(HEAD) + stages(3),  # of four blocks all windows start at the first
    "dr-avgf": K * JOINT + FORWARD,
    "dr-mgf-chained": 2 * JOINT + FUSION,
}


def expected(name):
    row = METHODS[name]
    if name in EXPECTED:
        return EXPECTED[name]
    if "loop" in row.axes:
        return STAGED
    return ROWS if "combiner" in row.axes else JOINT


@pytest.mark.parametrize("name", METHODS)
def test_every_method_counts_what_it_runs(name):
    assert training_operations(by_hand(), METHODS[name]).macs == expected(name)


def pass_of_part(k):
    """Of loss k, back to the shared stages and no further than they need."""
    return HEAD[k] + (CONV[-1] if k == K - 1 else 0) + stages(min(k, K - 2))


UNION = {"shared": "union"}
WEIGHTED = FORWARD + 2 * sum(HEAD) + 2 * CONV[-1] + stages(K - 2)  # known weights: one backward pass
GRAMIAN = sum(stages(min(k, K - 2)) for k in range(K))  # from the features, after what each has for itself
PART = FORWARD + sum(map(pass_of_part, range(K)))


@pytest.mark.parametrize(
    ("name", "options", "macs"),
    [
        ("dfs", {"beta": 0.25}, JOINT - (sum(CONV[1:]) * 3 // 4 + sum(HEAD[:-1]) // 4)),
        ("dfs", {"impl": "cat"}, JOINT),
        ("bdl-1", {"window": "local"}, JOINT - sum(CONV[1:])),
        ("pcgrad", UNION, ROWS),
        # the first heads keep too little memory to be done with before, and go back again for the weights
        ("pcgrad", UNION | {"lean": True}, WEIGHTED + GRAMIAN + sum(HEAD[:-1])),
        ("mgda", UNION | {"every": 4}, WEIGHTED + (PART - FORWARD) // 4),
        ("cagrad", UNION | {"part": 0.5}, WEIGHTED + PART // 2),
        ("cagrad", UNION | {"part": 0.5, "every": 2}, WEIGHTED + PART // 4),
        ("dr-mgf", {"stage_fraction": 0.5, "fusion_fraction": 0.25}, K * JOINT / 2 + FUSION / 4),
        # each stage runs its own exit only
        ("dr-mgf", {"auxiliary": 0.0}, FUSION + SEPARATE + sum(sum(HEAD[:k]) for k in range(K))),
        ("meta-gf", {"frozen": True}, K * JOINT + FORWARD),
        ("dfs+kd", {}, JOINT - SAVED),
        ("dfs+dr-mgf", {}, STAGED - (K + 1) * SAVED),
        ("auto-lambda", {"every": 2}, JOINT + (FORWARD + 2 * BACK + WEIGHTS) / 2),
        ("auto-lambda", {"outer": "halves"}, 2 * FORWARD + 3 * BACK + WEIGHTS),
        ("wpn", {"every": 2, "hidden": 10}, JOINT + 20 * K + (FORWARD + 2 * BACK + WEIGHTS + 50 * K) / 2),
        ("kd+meta-gf", {}, STAGED),
        ("dfs+pcgrad", {}, ROWS - sum(HEAD[:-1]) // 2 - sum(sum(CONV[1 : k + 1]) // 2 for k in range(K))),
    ],
)
def test_options_and_compositions_count(name, options, macs):
    assert training_operations(by_hand(), method(name, options)).macs == macs


def test_what_comes_once_an_epoch_stands_apart():
    counted = training_operations(by_hand(), method("dr-mgf", {"stage_weights": "equal-norms"}))
    assert counted.macs == STAGED
    norms = sum(FORWARD + pass_of_part(k) for k in range(K))
    assert counted.once == 4 * norms  # batches


@pytest.mark.parametrize(
    "row",
    [METHODS["joint"], METHODS["pcgrad"], METHODS["dr-mgf"], method("mgda", UNION | {"lean": True})],
    ids=lambda row: row.name,
)
def test_every_further_image_costs_the_same(row):
    few, more = (operations._mean_epoch(by_hand(), row, images).steps for images in (30, 70))
    assert (more - few) / 40 == training_operations(by_hand(), row).macs


def test_routed_stages_cost_what_raw_ones_do(monkeypatch):
    monkeypatch.setattr(operations, "PROGRESS", operations.PROGRESS._replace(epoch=0, fraction=0.0))
    assert training_operations(by_hand(), METHODS["dr-mgf"]).macs == STAGED


def test_frozen_stages_have_no_gradients():
    net = by_hand()
    net.stages[0].requires_grad_(False)
    assert (
        training_operations(net, METHODS["joint"]).macs == JOINT - CONV[0] - CONV[1] - HEAD[0]
    )  # nor do those who read them send any


@pytest.mark.parametrize("name", ["dfs", "nash-mtl", "dr-mgf"])
def test_counting_leaves_the_net_as_it_was(name):
    net = by_hand().eval()
    net.stages[1].train()
    seen = []
    net.register_forward_hook(lambda *_: seen.append(1))
    modes = [module.training for module in net.modules()]
    before = {key: value.clone() for key, value in net.state_dict().items()}
    kinds = [type(module) for module in net.modules()]
    states = torch.get_rng_state(), random.getstate()
    training_operations(net, METHODS[name])
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
    assert [module.training for module in net.modules()] == modes
    assert [type(module) for module in net.modules()] == kinds
    assert all(p.grad is None for p in net.parameters()) and not seen
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


class InBackward(torch.autograd.Function):
    """Products that only the backward pass has, under an operator without a formula."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.fft.fft2(grad).real


class Opaque(nn.Module):
    def forward(self, x):
        return InBackward.apply(x)


def test_what_cannot_be_counted_is_unknown_and_says_so():
    net = by_hand()
    net.stages[1].append(Opaque())
    assert not cost(net).unknown
    counted = training_operations(net, METHODS["pcgrad"])
    assert counted.macs is None
    assert counted.unknown[0].startswith(
        "a training step: torch's FlopCounterMode has no formula for aten._fft"
    )
    with pytest.raises(UserError, match=r"unknown: torch's FlopCounterMode .*_fft"):
        training_macs(net)
    found = training_operations(by_hand(), method("dr-mgf", {"landscape": True}))
    assert found.macs is None and found.unknown[0].startswith("landscape=True: the losses decide")


class Skipped(nn.Module):
    """A convolution that some batches skip."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x if self.training and len(x) % 2 else self.layer(x)


def test_what_differs_from_batch_to_batch_is_unknown():
    net = by_hand()
    net.stages[1].append(Skipped())
    counted = training_operations(net, METHODS["joint"])
    assert counted.macs is None and "do not grow evenly" in counted.unknown[0]


class Attention(nn.Module):
    """Attention without weights over 36 places."""

    def forward(self, x):
        places = x.flatten(2).mT
        return nn.functional.scaled_dot_product_attention(places, places, places).mT.unflatten(2, (6, 6))


class Recurrent(nn.Module):
    """An LSTM along the places."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x):
        with torch.profiler.record_function("lstm"):
            return self.lstm(x.flatten(2).mT)[0].mT.unflatten(2, (6, 6))


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (Attention(), 3 * 2 * 36 * 36 * 8),  # two products forward, four backward
        (Recurrent(), 3 * 36 * 4 * 8 * (8 + 8)),  # at each place four gates, from input and state
    ],
    ids=["attention", "lstm"],
)
def test_layers_of_other_kinds(layer, macs):
    net = by_hand()
    net.stages[1].append(layer)
    assert training_operations(net, METHODS["joint"]).macs == training_macs(net) == JOINT + macs


class Words(nn.Module):
    """Reads inputs by name."""

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def forward(self, inputs):
        return self.stage(inputs["images"])


@pytest.mark.parametrize(
    ("name", "options", "macs"),
    [("dr-mgf", {}, STAGED), ("cagrad", UNION | {"part": 0.5}, WEIGHTED + PART // 2)],
)
def test_inputs_may_be_named(name, options, macs):
    plain = by_hand()
    example = {"images": torch.randn(1, 3, 6, 6)}
    net = MultiExitNet([Words(plain.stages[0]), *plain.stages[1:]], plain.heads, example=example)
    assert training_operations(net, method(name, options)).macs == macs
