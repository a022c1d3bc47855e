"""Exported graphs give what the net gives in torch, exit after exit, whoever leaves."""

import io
import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import transformers
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from torch import nn
from torch.nn import functional as F

from offramp import attach
from offramp.bundles._compaction import OPERATIONS, compacted_exits
from offramp.bundles._graph import drop_unread, graphs_within
from offramp.bundles._joined import JoinedNet, ModelInput
from offramp.bundles._parts import NetPart, Value, parts_of, traced
from offramp.bundles._program import program
from offramp.bundles._whole import whole_graph
from offramp.exits import Ensemble, Policy, Router
from offramp.exits.leaving import threshold_rows
from offramp.nets import MultiExitNet

CLASSES, SIDE = 4, 8


def _head(width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


def plain() -> MultiExitNet:
    """Four exits; convolutions with batch norm before and behind the ReLU."""
    stages = []
    for reads, width in ((3, 4), (4, 6), (6, 6), (6, 8)):
        stages.append(nn.Sequential(nn.Conv2d(reads, width, 3, 1, 1), nn.ReLU(), nn.BatchNorm2d(width)))
    net = MultiExitNet(stages, [_head(stage[0].out_channels) for stage in stages], input_size=(3, SIDE, SIDE))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net


class Scales(nn.Module):
    """A feature of two Tensors and of what is none."""

    def __init__(self, reads: int) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(reads, 4, 3, 1, 1), nn.Conv2d(reads, 4, 3, 2, 1)

    def forward(self, x):
        x = x if isinstance(x, torch.Tensor) else x["fine"]
        return {"fine": self.fine(x).relu(), "coarse": self.coarse(x).relu(), "scale": 2.0}


class OfScales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.last(x["coarse"].mean((2, 3)) * x["scale"])


class ReadsPrevious(nn.Module):
    """Its logits are those of the exit before and its own."""

    reads_previous = True

    def __init__(self) -> None:
        super().__init__()
        self.own = OfScales()

    def forward(self, x, previous):
        own = self.own(x)
        return own if previous is None else own + 0.5 * previous


def cascade() -> MultiExitNet:
    heads = [ReadsPrevious() for _ in range(3)]
    return MultiExitNet([Scales(3), Scales(4), Scales(4)], heads, input_size=(3, SIDE, SIDE))


def spread(net: MultiExitNet) -> MultiExitNet:
    """Logits that tell samples apart, as those of a trained net do."""
    for head in net.heads:
        for module in head.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=2.0)
    return net.eval()


@pytest.fixture(scope="module", params=[plain, cascade])
def exported(request):
    torch.manual_seed(0)
    net = spread(request.param())
    return net, parts_of(net)


@torch.no_grad()
def halving(net: MultiExitNet, x: torch.Tensor, **reading: object) -> list[float]:
    """Of each exit but the last, a threshold between the confidences of all samples, near none of them."""
    policy, state, found = Policy([0.5] * (net.num_exits - 1), **reading), None, []
    for exit, logits in enumerate(net(x)[:-1], start=1):
        sure, _, state = policy.rule.read(exit, logits / policy.temperatures[exit - 1], state)
        ordered = sure.sort().values
        found.append(ordered[len(x) // 2 - 1 : len(x) // 2 + 1].mean().item())
    return found


def policies(net: MultiExitNet, x: torch.Tensor) -> dict[str, Policy]:
    """One of each kind."""
    size = net.num_exits
    weights = [[0.1 + 0.02 * k * j for j in range(size)] for k in range(size)]
    bias = [[0.1 * label * k for label in range(CLASSES)] for k in range(size)]
    ensemble = {"confidence": "ensemble", "ensemble": Ensemble(weights, bias)}
    temperatures = {"temperatures": [1 + 0.5 * k for k in range(size)]}
    sure = halving(net, x)
    found = {
        "max-softmax": Policy(sure),
        "an exit is not evaluated": Policy([sure[0], None, *sure[2:]]),
        "per class": Policy([[each + 0.02 * (label - 2) for label in range(CLASSES)] for each in sure]),
        "patience": Policy([2] * (size - 1), "patience"),
        "ensemble": Policy(halving(net, x, **ensemble), **ensemble),
    }
    if size > 3:  # these have nothing to do with features
        found |= {
            "no exit is evaluated": Policy.full(size),
            "temperatures": Policy(halving(net, x, **temperatures), **temperatures),
            "margin": Policy(halving(net, x, confidence="margin"), "margin"),
            "entropy": Policy(halving(net, x, confidence="entropy"), "entropy"),
        }
    return found


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    onnx.checker.check_model(model, full_check=True)
    return onnxruntime.InferenceSession(model.SerializeToString())


def by_stages(joined: JoinedNet, images: np.ndarray, thresholds: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Exit and probabilities of each sample, sent alone from graph to graph."""
    graphs = [session(joined.stage(place)) for place in range(len(joined.steps))]
    found = []
    for image in images[:, None]:
        feed = {"inputs": image}
        for place, (step, graph) in enumerate(zip(joined.steps, graphs, strict=True)):
            (probabilities, confidence, *carried) = graph.run(None, feed)
            feed = dict(zip((each.name for each in graph.get_outputs()[2:]), carried, strict=True))
            last = place == len(graphs) - 1
            threshold = None if last else thresholds[place]
            threshold = threshold[probabilities[0].argmax()] if np.ndim(threshold) else threshold
            if last or confidence[0] >= threshold:
                found.append((step.exit, probabilities[0]))
                break
    return found


@pytest.mark.slow
@torch.no_grad()
def test_all_policies_on_all_kinds_of_features(exported):
    net, parts = exported
    x = torch.randn(24, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    for kind, policy in policies(net, x).items():
        joined = JoinedNet([ModelInput("inputs", "float32", (3, SIDE, SIDE))], parts, policy)
        graph, rows = session(whole_graph(joined)), threshold_rows({"thresholds": policy.thresholds})
        answer = Router(net, policy)(x)
        probabilities, exits, confidence = graph.run(None, {"inputs": x.numpy(), "thresholds": rows})
        assert exits.tolist() == answer.exit.tolist(), kind
        assert probabilities.argmax(1).tolist() == answer.prediction.tolist(), kind
        np.testing.assert_allclose(confidence, answer.confidence, atol=1e-5, err_msg=kind)
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5, err_msg=kind)
        if kind not in ("no exit is evaluated", "patience"):
            assert len({*exits}) > 1, kind
        for sample, (exit, alone) in enumerate(by_stages(joined, x[:4].numpy(), rows)):
            assert exit == exits[sample], kind
            np.testing.assert_allclose(alone, probabilities[sample], atol=1e-5, err_msg=kind)
        # all leave at the first evaluated exit, or none before the last; also of one sample
        for thresholds, exit in ((-1, policy.evaluated[0]), (9, policy.num_exits)):
            for images in (x, x[:1]):
                feed = {"inputs": images.numpy(), "thresholds": np.full_like(rows, thresholds)}
                assert {*graph.run(["exit"], feed)[0]} == {exit if rows.size else policy.num_exits}, kind


def branches(graph: onnx.GraphProto) -> int:
    """How many branches a graph has, those within branches too."""
    within = [each.g for node in graph.node for each in node.attribute if each.name == "then_branch"]
    return len(within) + sum(map(branches, within))


@torch.no_grad()
@pytest.mark.parametrize("compacted", [*itertools.product([False, True], repeat=3)])
def test_samples_that_run_along_keep_their_answers(parts, compacted):
    """Whether they are taken out or not changes no answer: neither within a batch, nor at its ends."""
    joined = JoinedNet([ModelInput("inputs", "float32", (3, SIDE, SIDE))], parts, Policy([0.5] * 3))
    models = [whole_graph(joined, each) for each in ((), compacted)]
    assert [branches(model.graph) for model in models] == [3, sum(compacted)]
    out, along = map(session, models)
    x = torch.randn(24, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).numpy()
    taken = set()
    for thresholds in ([0.3, 0.35, 0.4], [0.4, 0.3, 0.5], [9, 0.3, 9], [-1, 9, 9], [9, 9, -1], [9, 9, 9]):
        for images in (x, x[:1], x[:0]):
            feed = {"inputs": images, "thresholds": np.float32(thresholds)}
            expected, found = (graph.run(None, feed) for graph in (out, along))
            assert found[1].tolist() == expected[1].tolist()
            np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
            np.testing.assert_allclose(found[2], expected[2], atol=1e-6)
            taken |= {*found[1]}
    assert taken == {1, 2, 3, 4}


class Turning(nn.Module):
    """A stage and its head: vectors turn, and are the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = torch.linalg.qr(
            torch.randn(CLASSES, CLASSES, generator=torch.Generator().manual_seed(3))
        ).Q

    def forward(self, x):
        x = x @ self.turn
        return x, x


@torch.no_grad()
def test_more_exits_than_branches_fit_within_one_another():
    """Readers of ONNX files take about 32; samples leave at every exit all the same."""
    size, x = 40, 2 * torch.randn(99, CLASSES, generator=torch.Generator().manual_seed(4))
    feature = Value("x0", "float32", ("batch", CLASSES))
    model = traced(Turning().eval(), [x[:3]], [feature], "a stage")
    parts = [NetPart(exit, model, [feature], [feature], x[:3]) for exit in range(1, size + 1)]
    policy = Policy([0.9] * (size - 1))
    graph = session(whole_graph(JoinedNet([ModelInput("x", "float32", (CLASSES,))], parts, policy)))
    feature, expected = x, torch.zeros(len(x), dtype=torch.int64)
    for exit in range(1, size + 1):
        feature, _ = Turning()(feature)
        sure = feature.softmax(-1).amax(-1) >= (0.9 if exit < size else 0)
        expected = torch.where((expected == 0) & sure, exit, expected)
    feed = {"x": x.numpy(), "thresholds": np.full(size - 1, 0.9, np.float32)}
    assert graph.run(["exit"], feed)[0].tolist() == expected.tolist()
    assert len({*expected.tolist()}) > 10


def test_samples_are_taken_out_where_that_costs_less_than_they_would():
    numbers = 10
    carries = [[Value("x", "float32", ("batch", 2, 5))]] * 4
    moved = numbers * OPERATIONS
    costs = [0, 4 * moved, 5 * moved, 9 * moved]

    def places(exits, **changed):
        policy = Policy([0.5] * 3, calibration={"achieved": {"exits": exits}})
        return compacted_exits(policy, **({"costs": costs, "carries": carries} | changed))

    assert places([0.25, 0, 0, 0.75]) == [True, False, False]  # saves 0.25 * 4 moves of all; then nothing
    assert places([0.24, 0.1, 0, 0.66]) == [False, False, True]  # 0.34 * 1; then still 0.34 * 4
    assert places([0.5, 0.1, 0.3, 0.1]) == [True, False, True]  # 0.1 / 0.5 * 1, then 0.4 / 0.5 * 4
    assert places([0.24, 0.1, 0, 0.66], costs=[None] * 4) == [True] * 3
    assert places([0.24, 0.1, 0, 0.66], carries=[[Value("x", "int64", ("batch", "size6"))]] * 4) == [True] * 3
    for broken in (None, [], [0.5], ["a"] * 4, {"a": 1}):
        assert places(broken) == [True] * 3
    assert compacted_exits(Policy([0.5] * 3), costs, carries) == [True] * 3


class Pools(torch.nn.Module):
    def forward(self, x):
        flat = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        other = x.double().mean((2, 3))  # which ONNX Runtime has no pool of
        return (
            flat,
            x.mean((2, 3)),
            x.mean(1),
            F.adaptive_avg_pool2d(x, 2),
            x.mean((-1, -2), keepdim=True),
            other,
        )


def test_means_over_maps_are_pools():
    x = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    model = traced(Pools().eval(), [x], [Value("x", "float32", ("batch", 4, 6, 6))], "pools")
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("GlobalAveragePool") == 3 and kinds.count("ReduceMean") == 2
    read = {name for node in model.graph.node for name in node.input}
    assert {each.name for each in model.graph.initializer} <= read  # or ONNX Runtime warns of them
    graph = session(model)
    feed = {each.name: x.numpy() for each in graph.get_inputs()}
    for found, expected in zip(graph.run(None, feed), Pools()(x), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_that_a_branch_reads_are_kept():
    branch = "b () => (float z) { z = Identity (inner) }"
    graph = onnx.parser.parse_graph(
        "g (bool c) => (float y, float out) <float inner = {1.0}, float none = {2.0}, float out = {3.0}>"
        f"{{ y = If (c) <then_branch = {branch}, else_branch = {branch}> }}"
    )
    drop_unread(graph)
    assert [each.name for each in graph.initializer] == ["inner", "out"]


def test_probabilities_are_the_softmax_of_the_exit(exported):
    net, parts = exported
    x = torch.randn(9, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    policy = policies(net, x)["max-softmax"]
    joined = JoinedNet([ModelInput("inputs", "float32", (3, SIDE, SIDE))], parts, policy)
    thresholds = threshold_rows({"thresholds": policy.thresholds})
    found, exits, _ = session(whole_graph(joined)).run(None, {"inputs": x.numpy(), "thresholds": thresholds})
    with torch.no_grad():
        expected = torch.stack(net(x)).softmax(-1)[exits - 1, torch.arange(len(x))]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    return parts_of(spread(plain()))


def test_nan_never_leaves_early(parts):
    joined = JoinedNet([ModelInput("inputs", "float32", (3, SIDE, SIDE))], parts, Policy([0.0] * 3))
    x = np.zeros((2, 3, SIDE, SIDE), np.float32)
    x[1] = np.nan
    feed = {"inputs": x, "thresholds": np.zeros(3, np.float32)}
    _, exits, confidence = session(whole_graph(joined)).run(None, feed)
    assert exits.tolist() == [1, 4] and np.isnan(confidence).tolist() == [False, True]


def test_an_exit_that_is_not_evaluated_leaves_no_weights(parts):
    inputs = [ModelInput("inputs", "float32", (3, SIDE, SIDE))]
    every, fewer = (
        sum({
            each.name: len(each.raw_data)
            for graph in graphs_within(whole_graph(JoinedNet(inputs, parts, policy)).graph)
            for each in graph.initializer
        }.values())
        for policy in (Policy([0.5] * 3), Policy([0.5, None, 0.5]))
    )  # fmt: skip
    assert every - fewer == 4 * (6 * CLASSES + CLASSES) + 8  # the head, and the number of a place or exit


def bert() -> MultiExitNet:
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        num_labels=CLASSES,
    )  # fmt: skip
    mask = torch.ones(2, 6, dtype=torch.int64)
    example = {"input_ids": torch.randint(1, 20, (2, 6)), "attention_mask": mask}
    backbone = transformers.BertForSequenceClassification(config)
    return attach(backbone, at=["bert.encoder.layer.0"], example=example)


def gpt() -> MultiExitNet:
    config = transformers.GPT2Config(
        vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=16, num_labels=CLASSES, pad_token_id=0
    )
    mask = torch.ones(2, 6, dtype=torch.int64)
    example = {"input_ids": torch.randint(1, 20, (2, 6)), "attention_mask": mask}
    return attach(transformers.GPT2ForSequenceClassification(config), at=["transformer.h.0"], example=example)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("build", [bert, gpt])
def test_texts_of_any_length(build):
    torch.manual_seed(0)
    net = spread(build())
    policy = Policy([0.6])
    inputs = [ModelInput(name, "int64", ("tokens",)) for name in ("input_ids", "attention_mask")]
    parts = parts_of(net)
    graph = session(whole_graph(JoinedNet(inputs, parts, policy)))
    in_torch = torch.export.load(io.BytesIO(program(net, parts[0].reads))).module()
    for count, length in ((5, 6), (1, 3), (7, 11)):
        draws = torch.Generator().manual_seed(length)
        ids = torch.randint(1, 20, (count, length), generator=draws)
        mask = torch.ones_like(ids)
        ids[-1, 2:] = mask[-1, 2:] = 0
        x = {"input_ids": ids, "attention_mask": mask}
        answer = Router(net, policy)(x)
        feed = {name: value.numpy() for name, value in x.items()}
        _, exits, confidence = graph.run(None, {**feed, "thresholds": np.float32([0.6])})
        assert exits.tolist() == answer.exit.tolist()
        np.testing.assert_allclose(confidence, answer.confidence, atol=1e-5)
        for found, expected in zip(in_torch(x), net(x), strict=True):
            torch.testing.assert_close(found, expected)
        feed["input_ids"][0, 0] = -1  # which ONNX counts from the end
        with pytest.raises(InvalidArgument, match="out of data bounds"):
            graph.run(None, {**feed, "thresholds": np.float32([0.6])})


@torch.no_grad()
def test_a_vision_transformer():
    torch.manual_seed(0)
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=16, num_heads=2, num_classes=CLASSES
    )
    net = spread(attach(backbone, at=["blocks.0"], input_size=(3, 32, 32)))
    x = torch.randn(8, 3, 32, 32)
    threshold = net(x)[0].softmax(-1).amax(-1).median().item() + 1e-3
    policy = Policy([threshold])
    graph = session(
        whole_graph(JoinedNet([ModelInput("inputs", "float32", (3, 32, 32))], parts_of(net), policy))
    )
    _, exits, confidence = graph.run(None, {"inputs": x.numpy(), "thresholds": np.float32([threshold])})
    answer = Router(net, policy)(x)
    assert exits.tolist() == answer.exit.tolist() and len({*exits}) == 2
    np.testing.assert_allclose(confidence, answer.confidence, atol=1e-5)
