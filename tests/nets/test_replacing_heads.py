"""Heads that read what those before say: Zero Time Waste's cascade and ensembles, IMTA's collaboration."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from offramp import UserError, cost, nets
from offramp.exits import ExitLogits, PathCosts, Policy, Router
from offramp.exits.path_times import PathTimes
from offramp.nets import HandedOn, MultiExitNet
from offramp.nets.cascade_heads import CascadeHead
from offramp.nets.collaborative_heads import CollaborativeHead, LastCollaborativeHead
from offramp.nets.head_parts import head_parts

CLASSES, WIDTH = 5, 4


def plain(exits: int = 4) -> MultiExitNet:
    torch.manual_seed(0)
    stages = [
        nn.Sequential(nn.Conv2d(WIDTH if k else 3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.Tanh())
        for k in range(exits)
    ]
    heads = [
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES)) for _ in range(exits)
    ]
    return MultiExitNet(stages, heads, input_size=(3, 6, 6))


def cascade(ensemble: str = "geometric") -> MultiExitNet:
    net = plain()
    parts = head_parts([*net.heads][:-1], "ztw")
    heads = [CascadeHead(each, m, ensemble) for m, each in enumerate(parts, start=1)]
    net.heads = nn.ModuleList([*heads, net.heads[-1]])
    for head in heads:
        nn.init.normal_(head.ensemble.weights)
        nn.init.normal_(head.ensemble.bias)
    return strong(net)


def collaboration() -> MultiExitNet:
    net = plain()
    parts = head_parts(net.heads, "imta-2")
    kinds = [CollaborativeHead] * 3 + [LastCollaborativeHead]
    made = zip(kinds, parts, range(1, 5), strict=True)
    net.heads = nn.ModuleList(kind(each, m) for kind, each, m in made)
    return strong(net)


def strong(net: MultiExitNet) -> MultiExitNet:
    """Weights with which samples differ."""
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2)
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.double()


KINDS = {
    "geometric": lambda: cascade("geometric"),
    "additive": lambda: cascade("additive"),
    "collaboration": collaboration,
}


@pytest.fixture(params=KINDS)
def net(request):
    return KINDS[request.param]()


def images(n: int = 9) -> torch.Tensor:
    draws = torch.Generator().manual_seed(1)
    colours = 2 * torch.randn(n, 3, 1, 1, generator=draws, dtype=torch.float64)
    return colours + torch.randn(n, 3, 6, 6, generator=draws, dtype=torch.float64)


def features(net: MultiExitNet, x: torch.Tensor) -> list[torch.Tensor]:
    """The mean of each stage's feature over places, ``[N, WIDTH]``."""
    found = []
    for stage in net.stages:
        x = stage(x)
        found.append(x.mean((2, 3)))
    return found


def classifiers(net: MultiExitNet, x: torch.Tensor) -> list[torch.Tensor]:
    """Logits of the cascade's classifiers, head by head, by the formula."""
    found: list[torch.Tensor] = []
    for head, feature in zip([*net.heads][:-1], features(net, x), strict=False):
        if found:
            z = found[-1]
            spread = (z.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
            normal = (z - z.mean(1, keepdim=True)) / spread * head.norm.weight + head.norm.bias
            feature = torch.cat([feature, normal], 1)
        found.append(feature @ head.linear.weight.T + head.linear.bias)
    return found


def test_a_geometric_ensemble_is_the_formula():
    net = cascade("geometric").eval()
    own = classifiers(net, images())
    for m, logits in enumerate(net(images())[:-1], start=1):
        ensemble = net.heads[m - 1].ensemble
        terms = [ensemble.weights[j].exp() * own[j].softmax(1).log() for j in range(m)]
        torch.testing.assert_close(logits, sum(terms) / m + ensemble.bias)


def test_an_additive_ensemble_is_the_formula():
    net = cascade("additive").eval()
    own = classifiers(net, images())
    for m, logits in enumerate(net(images())[:-1], start=1):
        ensemble = net.heads[m - 1].ensemble
        mass = sum(ensemble.weights[j].exp() * own[j].softmax(1) for j in range(m)) + ensemble.bias.exp()
        torch.testing.assert_close(logits.softmax(1), mass / mass.sum(1, keepdim=True))


@pytest.mark.parametrize("ensemble", ["geometric", "additive"])
def test_weights_and_biases_of_zero(ensemble):
    """Geometric: the softmax of the mean log-probability. Additive: the sum of probabilities plus 1."""
    net = cascade(ensemble).eval()
    for head in [*net.heads][:-1]:
        nn.init.zeros_(head.ensemble.weights)
        nn.init.zeros_(head.ensemble.bias)
    own = torch.stack([logits.softmax(1) for logits in classifiers(net, images())])
    for m, logits in enumerate(net(images())[:-1], start=1):
        mass = own[:m].log().mean(0).exp() if ensemble == "geometric" else own[:m].sum(0) + 1
        torch.testing.assert_close(logits.softmax(1), mass / mass.sum(1, keepdim=True))


@pytest.mark.parametrize("ensemble", ["geometric", "additive"])
def test_ensembles_start_with_weights_around_0(ensemble):
    """Of a standard deviation of 0.01, to 5 %, which 4,000 draws tell; biases are 0."""
    torch.manual_seed(0)
    made = CascadeHead(head_parts([plain().heads[0]], "ztw")[0], 4000, ensemble).ensemble
    weights = made.weights.detach()
    assert weights.shape == (4000, 1) and not made.bias.any()
    assert abs(float(weights.mean())) < 6e-4
    assert float(weights.std()) == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize("ensembling", [True, False])
def test_no_loss_of_the_cascade_reaches_the_head_before(ensembling):
    net = cascade()
    for head in [*net.heads][:-1]:
        head.ensembling = ensembling
    if not ensembling:
        torch.testing.assert_close(net.eval()(images())[:-1], classifiers(net, images()))
    net(images())[2].logsumexp(1).sum().backward()
    for m, head in enumerate([*net.heads][:-1]):
        reached = [p.grad is not None and bool(p.grad.any()) for p in head.classifier[1].parameters()]
        assert any(reached) == (m == 2)
        assert all(p.grad is not None for p in head.ensemble.parameters()) == (ensembling and m == 2)


def test_collaboration_is_the_formula_and_each_loss_reaches_all_heads_so_far():
    net = collaboration().eval()
    previous, x = None, features(net, images())
    for head, feature, logits in zip(net.heads, x, net(images()), strict=True):
        if previous is not None:
            linear, norm = head.inline[0], head.inline[1]
            y = previous @ linear.weight.T + linear.bias
            y = (y - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
            feature = torch.cat([feature, y.clamp(min=0)], 1)
        previous = feature @ head.linear.weight.T + head.linear.bias
        torch.testing.assert_close(logits, previous)
    net(images())[2].square().sum().backward()
    assert [head.linear.weight.grad is not None for head in net.heads] == [True, True, True, False]


def test_without_the_inline_weights_heads_are_independent_linear_probes():
    net = collaboration().eval()
    for head in [*net.heads][1:]:
        nn.init.zeros_(head.linear.weight[:, WIDTH:])
    for head, feature, logits in zip(net.heads, features(net, images()), net(images()), strict=True):
        torch.testing.assert_close(logits, feature @ head.linear.weight[:, :WIDTH].T + head.linear.bias)


def test_the_last_head_keeps_its_old_self_as_teacher():
    old = plain()
    part = head_parts([old.heads[-1]], "imta-2")[0]
    head = LastCollaborativeHead(part, 4)
    x = torch.randn(3, 2 * WIDTH, requires_grad=True)
    found = head.teacher(x)
    torch.testing.assert_close(found, old.heads[-1][2](x[:, :WIDTH]).detach())
    assert not found.requires_grad
    again = LastCollaborativeHead(head.parts, 4)
    torch.testing.assert_close(again.teacher(x), found)
    assert sum(p.numel() for p in head.parameters()) == WIDTH * CLASSES + WIDTH + 2 * WIDTH + (
        2 * WIDTH * CLASSES + CLASSES
    )  # the teacher is none of them


def test_exits_one_at_a_time_are_the_forward_pass(net):
    net.eval()
    whole = net(images())
    assert all(map(torch.equal, [exit.logits for exit in net.exits(images())], whole))
    assert all(map(torch.equal, net(images(), keep=True).outputs, whole))
    assert len(net(images(), exits=2)) == 2
    assert all(map(torch.equal, nets.Separate(net).eval()(images()), whole))


@pytest.mark.parametrize("thresholds", [(0.6, 0.7, 0.5), (None, 0.6, None), (None, None, None)])
def test_the_router_gives_what_the_forward_pass_gives(net, thresholds):
    net.eval()
    policy = Policy(thresholds)
    answer = Router(net, policy)(images(33))
    sure = torch.stack(net(images(33))).softmax(-1).amax(-1)
    for n in range(33):
        leaves = [k for k in range(3) if thresholds[k] is not None and sure[k, n] >= thresholds[k]] + [3]
        assert answer.exit[n] == leaves[0] + 1
        torch.testing.assert_close(answer.confidence[n].double(), sure[leaves[0], n], rtol=1e-6, atol=1e-6)
    assert thresholds[1] is None or len(set(answer.exit.tolist())) > 1


def test_recorded_logits_and_costs_have_all_heads_on_the_way(net):
    net.eval()
    recorded = ExitLogits.of(net, [(images(), torch.zeros(9, dtype=torch.int64))])
    torch.testing.assert_close(recorded.logits, torch.stack(net(images())), check_dtype=False)
    counted = cost(net, convention="macs-own")
    last_is_plain = not hasattr(net.heads[-1], "reads_previous")
    for k in range(4):
        first = 3 if k == 3 and last_is_plain else 0
        expected = sum(counted.stages[: k + 1]) + sum(counted.heads[first : k + 1])
        assert counted.exits[k].flops == expected
    assert PathCosts(net).of([3, 4])[0] == sum(counted.stages[:3]) + sum(counted.heads[:3])

    def clock(parts):
        return [1.0 for part in parts if part() is None or True]

    assert PathTimes(net, Policy.full(4), clock=clock).of([3, 4])[0] == 6


def test_a_copy_and_a_state_dict_carry_them(net):
    twin = copy.deepcopy(net).eval()
    assert all(map(torch.equal, twin(images()), net.eval()(images())))
    other = KINDS["collaboration" if hasattr(net.heads[-1], "teacher") else "additive"]()
    other.load_state_dict(net.state_dict())


class Counting(nn.Module):
    """A head of a user's own that hands on how many heads there were."""

    reads_previous = True

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x, before):
        count = torch.ones(len(x), 1, dtype=x.dtype) if before is None else before + 1
        return HandedOn(self.fc(x.mean((2, 3))) * count, count)


def test_a_head_may_hand_on_what_it_likes():
    torch.manual_seed(0)
    net = MultiExitNet(plain(3).stages, [Counting() for _ in range(3)], input_size=(3, 6, 6)).double().eval()
    for k, (head, feature, logits) in enumerate(
        zip(net.heads, features(net, images()), net(images()), strict=True), start=1
    ):
        torch.testing.assert_close(logits, k * head.fc(feature))
    answer = Router(net, Policy((None, 2.0)))(images())
    assert answer.prediction.tolist() == net(images())[2].argmax(1).tolist()


def test_such_a_head_can_be_put_on_a_backbone():
    torch.manual_seed(0)
    stages = [nn.Conv2d(3, WIDTH, 3), nn.Conv2d(WIDTH, WIDTH, 1)]
    backbone = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, CLASSES))
    heads = [Counting(), Counting()]
    net = nets.attach(backbone, at=["0", "1"], heads=heads, input_size=(3, 6, 6)).eval()
    x = images().float()
    torch.testing.assert_close(net(x)[1], 2 * heads[1].fc(stages[1](stages[0](x)).mean((2, 3))))


@pytest.mark.parametrize(
    "head", [nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, CLASSES), nn.Softmax(1)), Counting(), nn.Flatten()]
)
def test_a_head_that_does_not_end_in_a_linear_layer_is_refused(head):
    with pytest.raises(UserError, match=r"ztw puts another classifier .* head 1, and .* does not end in one"):
        head_parts([head], "ztw")


def test_heads_of_the_zoo_and_of_attached_nets_can_be_cut():
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    made = [
        nets.vgg7(num_classes=5, width=4),
        nets.resnet18(num_classes=5, width=4),
        nets.msdnet_cifar(num_classes=5, growth=2, channels=4),
        nets.attach(backbone, at=["0"], input_size=(3, 8, 8)),
    ]
    for net in made:
        net.eval()
        features = net(net.sample(2), keep=True).features
        kept = [*net.exits(net.sample(2))]
        for exit, part, feature in zip(kept, head_parts(net.heads, "ztw"), features, strict=True):
            read = exit.trunk
            assert part.body(read).shape == feature.shape == (2, part.width)
