"""`export` writes a folder that is whole, without pickles, and agrees with the net; or it writes nothing."""

import hashlib
import io
import json
import math
import pickletools
import zipfile

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_runs import tiny_data, tiny_net
from torch import nn
from torch.nn import functional as F

import offramp
from offramp import Recipe, UserError
from offramp.bundles import _agreement
from offramp.bundles._inputs import described_net, described_run
from offramp.bundles._int8 import _with_norms_as_convolutions, quantized
from offramp.bundles._parts import NetPart, Value, traced
from offramp.bundles.export import _costs
from offramp.data import Transform
from offramp.exits import PathCosts, Policy, Router
from offramp.exits.leaving import leaves, threshold_rows
from offramp.nets import MultiExitNet


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = Recipe(epochs=2, batch_size=8, lr=0.05, augment="none")
    return offramp.fit(tiny_net(), tiny_data(), "joint", recipe, out=tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    return offramp.export(run, Policy([0.4]), tmp_path_factory.mktemp("bundles") / "bundle")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_graph_of_the_folder_normalises_levels_and_lets_samples_leave(run, bundle):
    levels = run.open_data().test.images
    session = onnxruntime.InferenceSession(bundle / "model.onnx")
    probabilities, exits, confidence = session.run(
        None, {"images": levels.numpy(), "thresholds": np.float32([0.4])}
    )
    mean, std = (torch.tensor(run.record["normalisation"][key])[:, None, None] for key in ("mean", "std"))
    answer = Router(run.net, Policy([0.4]))((levels / 255 - mean) / std)
    assert exits.tolist() == answer.exit.tolist() and len({*exits}) == 2
    assert probabilities.argmax(1).tolist() == answer.prediction.tolist()
    np.testing.assert_allclose(confidence, answer.confidence, atol=1e-5)


def test_the_folder_is_whole(run, bundle):
    names = {path.name for path in bundle.iterdir()}
    sums = dict(reversed(line.split("  ")) for line in (bundle / "SHA256SUMS").read_text().splitlines())
    assert {*sums, "SHA256SUMS"} == names
    assert sums == {name: digest((bundle / name).read_bytes()) for name in sums}
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["inputs"] == [{"name": "images", "dtype": "uint8", "shape": [3, 8, 8]}]
    assert manifest["image"] == {"mode": "RGB", "size": [8, 8], "cut": False}
    assert manifest["classes"] == ["dark", "gray", "bright"] and manifest["thresholds"] == [1]
    flops = [exit.flops for exit in offramp.cost(run.net).exits]
    assert [each["exit"] for each in manifest["exits"]] == [1, 2]
    assert manifest["exits"][0]["cost"] == flops[0] and manifest["exits"][1]["cost"] >= flops[1]
    assert Policy.open(bundle / "policy.json") == Policy([0.4])
    assert "| exit 1 |" in (bundle / "README.md").read_text()
    for each in manifest["exits"]:
        inputs = onnxruntime.InferenceSession(bundle / each["graph"]).get_outputs()
        assert [each.name for each in inputs[2:]] == [value["name"] for value in each["carried"]]


def test_no_file_is_a_pickle(bundle):
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with zipfile.ZipFile(io.BytesIO(files.pop("program.pt2"))) as archive:
        files |= {name: archive.read(name) for name in archive.namelist()}
    for name, data in files.items():
        assert not zipfile.is_zipfile(io.BytesIO(data)), name
        with pytest.raises((ValueError, AttributeError, IndexError, UnicodeError)):
            opcodes = [opcode.name for opcode, *_ in pickletools.genops(data)]
            if opcodes == ["STOP"] or "STOP" not in opcodes:
                raise ValueError


def test_the_program_gives_the_logits_of_all_exits(run, bundle):
    x = torch.randn(5, 3, 8, 8)
    program = torch.export.load(bundle / "program.pt2").module()
    with torch.no_grad():
        for found, expected in zip(program(x), run.net.eval()(x), strict=True):
            torch.testing.assert_close(found, expected)


def test_weights_are_kept_once(bundle, run, tmp_path):
    """The graphs of the stages and that of the whole net hold the same weights."""
    alone = offramp.export(run, Policy([None]), tmp_path / "alone")
    head = sum(p.numel() for p in run.net.heads[0].parameters()) * 4
    size, fewer = ((folder / "weights.bin").stat().st_size for folder in (bundle, alone))
    assert fewer <= size <= fewer + head + 4096


def test_a_net_alone(tmp_path):
    net = tiny_net().double().eval()  # which is exported in float32
    folder = offramp.export(net, Policy([0.4]), tmp_path / "bundle", classes=["a", "b", "c"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"] == [{"name": "inputs", "dtype": "float32", "shape": [3, 8, 8]}]
    assert manifest["classes"] == ["a", "b", "c"] and manifest["image"] is None
    levels = Transform((0.5,) * 3, (0.25,) * 3)
    with torch.autocast("cpu", torch.bfloat16):  # which is not exported
        folder = offramp.export(net, Policy([0.4]), tmp_path / "levels", transform=levels)
    assert json.loads((folder / "manifest.json").read_text())["inputs"][0]["dtype"] == "uint8"


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_refused_and_nothing_written(tmp_path):
    stages = [nn.Sequential(nn.Conv2d(3, 4, 3), Branching()), nn.Identity()]
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(4 * 36, 3)) for _ in stages]
    net = MultiExitNet(stages, heads, input_size=(3, 8, 8)).eval()
    with pytest.raises(UserError, match=r"exit 1 cannot be exported: .*no Python branches"):
        offramp.export(net, Policy([0.4]), tmp_path / "bundle")
    assert not [*tmp_path.iterdir()]


class WithFirstToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x):
        return self.layer(torch.cat([self.token.expand(len(x), -1, -1), x.flatten(1, 2)], 1))


def test_the_line_names_what_is_wrong_and_not_an_operator_that_torch_has_chosen(tmp_path):
    """torch runs a whole transformer layer as one operator, if it may, which ONNX has not."""
    stages = [WithFirstToken(), nn.Identity()]
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(25 * 8, 3)) for _ in stages]
    net = MultiExitNet(stages, heads, input_size=(3, 8, 8)).eval()
    with pytest.raises(UserError, match=r"x.shape\[0\] in place of len\(x\)") as refused:
        offramp.export(net, Policy([0.4]), tmp_path / "bundle")
    assert "translating" not in str(refused.value)


def test_a_graph_that_disagrees_is_refused(tmp_path, monkeypatch):
    net = tiny_net().eval()
    readings = _agreement._readings

    def others(*args):
        return [each._replace(probabilities=each.probabilities[:, ::-1]) for each in readings(*args)]

    monkeypatch.setattr(_agreement, "_readings", others)
    with pytest.raises(UserError, match="something else than the net in torch: probabilities at exit"):
        offramp.export(net, Policy([0.4]), tmp_path / "bundle")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("policy", "options", "words"),
    [
        (Policy([0.4, 0.4]), {}, "the policy is for 3 exits, the net has 2"),
        ("policy.json", {}, "policy is 'policy.json'|policy is a str"),
        (Policy([0.4]), {"transform": Transform((0.5,), (0.2,))}, "for 1 channels, and the net reads inputs"),
        (Policy([0.4]), {"classes": ["a", "b"]}, "2 names of classes, and the net tells 3 apart"),
        (Policy([0.4]), {"classes": ["a", "", "c"]}, "class 1 has an empty name"),
        (Policy([0.4]), {"classes": ["\udcff", "b", "c"]}, "cannot be printed"),
        (Policy([(0.4, 0.5)]), {}, "the policy is for 2 classes, the net tells 3 apart"),
    ],
)
def test_bad_arguments(policy, options, words, tmp_path):
    with pytest.raises(UserError, match=words):
        offramp.export(tiny_net(), policy, tmp_path / "bundle", **options)
    assert not [*tmp_path.iterdir()]


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    net = tiny_net().eval()
    nn.init.constant_(net.heads[0][-1].weight, math.nan)
    with pytest.raises(UserError, match="exit 1 gives NaN whatever the net reads"):
        offramp.export(net, Policy([0.4]), tmp_path / "bundle")
    assert not [*tmp_path.iterdir()]


class OfColumns(nn.Module):
    """Reads two named inputs of four columns each."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x[self._names[0]] * x[self._names[1]])


def of_columns(*names: str) -> MultiExitNet:
    torch.manual_seed(0)
    example = {name: torch.randn(2, 4) for name in names}
    stages = [OfColumns(*names), nn.Linear(4, 4)]
    return MultiExitNet(stages, [nn.Linear(4, 3), nn.Linear(4, 3)], example=example).eval()


def test_named_inputs_of_a_length_that_the_net_needs_keep_it(tmp_path):
    folder = offramp.export(of_columns("seen", "weight"), Policy([0.4]), tmp_path / "bundle")
    inputs = json.loads((folder / "manifest.json").read_text())["inputs"]
    assert inputs == [{"name": name, "dtype": "float32", "shape": [4]} for name in ("seen", "weight")]


@pytest.mark.parametrize("name", ["thresholds", "exit", "exit1_0", ""])
def test_an_input_that_has_a_name_of_the_graph_s_is_refused(name):
    reads = [Value(f"x{place}", "float32", ("batch", 4)) for place in (0, 1)]
    with pytest.raises(UserError, match=f"called '{name}', a name that the graph has for itself"):
        described_net(of_columns("seen", name), reads)


def test_operations_of_texts_of_any_length_are_not_told():
    net, policy = of_columns("seen", "weight"), Policy([0.4])
    fixed, free = (
        [Value(f"x{place}", "float32", ("batch", size)) for place in (0, 1)] for size in (4, "size4")
    )
    assert _costs(net, policy, fixed) == PathCosts(net).of((1, 2))
    assert _costs(net, policy, free) == [None, None]


def test_a_normalisation_takes_the_place_of_the_run_s(run):
    reads = [Value("x0", "float32", ("batch", 3, 8, 8))]
    (levels,) = described_run(run, reads, Transform((0.5,) * 3, (0.25,) * 3)).inputs
    assert levels.dtype == "uint8" and levels.shift == (-2.0,) * 3
    as_in_torch = described_run(run, reads, Transform((), ()))
    assert as_in_torch.inputs[0].dtype == "float32" and as_in_torch.image is None


def test_a_run_names_its_classes(run, tmp_path):
    with pytest.raises(UserError, match="the run names its own; leave them out"):
        offramp.export(run, Policy([0.4]), tmp_path / "bundle", classes=["a", "b", "c"])


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(UserError, match="bundle is there already; give another"):
        offramp.export(tiny_net(), Policy([0.4]), tmp_path / "bundle")
    with pytest.raises(UserError, match=r"there is no folder .*none; make it first"):
        offramp.export(tiny_net(), Policy([0.4]), tmp_path / "none" / "bundle")


def test_thresholds_as_rows():
    assert threshold_rows({"thresholds": [0.5, None, 1]}).tolist() == [0.5, 1]
    assert threshold_rows({"thresholds": [None]}).shape == (0,)
    assert threshold_rows({"thresholds": [1e300, [0, -1e300]]}).tolist() == [[np.inf] * 2, [0, -np.inf]]
    rows = threshold_rows({"thresholds": [0.5, [0.25, 0.75], None]})
    assert rows.tolist() == [[0.5, 0.5], [0.25, 0.75]] and rows.dtype == np.float32
    confidence, prediction = np.float32([0.5, 0.5, np.nan]), np.array([0, 1, 0])
    for of in (np.asarray, torch.tensor):
        assert leaves(of(confidence), of(prediction), 0.5).tolist() == [True, True, False]
        assert leaves(of(confidence), of(prediction), of(rows[1])).tolist() == [True, False, False]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    recipe = Recipe(epochs=4, batch_size=8, lr=0.05, augment="none")
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    return offramp.fit(tiny_net(width=8, dropout=0.0), tiny_data(val=30), "joint", recipe, out=folder)


def test_in_8_bits(calibrated, tmp_path):
    """Kernels are of 8 bits; thresholds are fitted on what the exits say, which is what the graph gives."""
    policy = offramp.calibrate(calibrated, budget="80%")
    floats = offramp.export(calibrated, policy, tmp_path / "fp32")
    folder = offramp.export(calibrated, policy, tmp_path / "int8", precision="int8")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["precision"] == "int8"
    kinds = {
        each.data_type for each in onnx.load(folder / "model.onnx").graph.initializer if len(each.dims) == 4
    }
    assert onnx.TensorProto.INT8 in kinds and onnx.TensorProto.FLOAT not in kinds
    fitted = Policy.open(folder / "policy.json")
    target, before = (each.calibration["target"] for each in (fitted, policy))
    assert target == before and fitted.calibration["samples"] == 30

    labels = torch.cat([batch.targets["label"] for batch in calibrated.batches("val")])
    levels = calibrated.open_data().val.images.numpy()
    thresholds = threshold_rows({"thresholds": fitted.thresholds})
    feed = {"images": levels, "thresholds": thresholds}
    found, exits, _ = onnxruntime.InferenceSession(folder / "model.onnx").run(None, feed)
    right = found.argmax(1) == labels.numpy()
    assert right.mean() == fitted.calibration["achieved"]["accuracy"]
    shares = [(exits == exit).mean() for exit in (1, 2)]
    assert shares == pytest.approx(fitted.calibration["achieved"]["exits"])
    in_floats, *_ = onnxruntime.InferenceSession(floats / "model.onnx").run(
        None, feed | {"thresholds": threshold_rows({"thresholds": policy.thresholds})}
    )
    figures = manifest["int8"]
    assert figures["samples"] == 30 and min(figures["agreement"]) >= 80
    assert abs(found - in_floats).mean() < 0.1
    with torch.no_grad():
        inputs = torch.cat([batch.inputs for batch in calibrated.batches("val")])
        hits = [(z.argmax(1) == labels).double().mean().item() for z in calibrated.net.eval()(inputs)]
    assert figures["top1_fp32"] == pytest.approx([100 * each for each in hits])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({}, "nothing that it names"),
        ({"latency": 0.1}, "a latency of torch"),
        (None, "give the run in the net"),
    ],
)
def test_what_8_bits_cannot_be_fitted_to(target, words, run, tmp_path):
    net = run if target is not None else run.net
    with pytest.raises(UserError, match=words):
        policy = Policy([0.4], calibration={"target": target})
        offramp.export(net, policy, tmp_path / "bundle", precision="int8")
    with pytest.raises(UserError, match="no precision 'fp16'"):
        offramp.export(net, policy, tmp_path / "bundle", precision="fp16")


@pytest.mark.parametrize(("norm", "shape"), [(nn.BatchNorm2d, (3, 5, 5)), (nn.BatchNorm1d, (3, 7))])
def test_a_batch_norm_as_a_convolution(norm, shape):
    torch.manual_seed(0)
    norm = norm(3)
    for each in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(each)
    norm.running_var.uniform_(0.5, 2)
    x = torch.randn(3, *shape)
    model = traced(norm.eval(), [x], [Value("x", "float32", ("batch", *shape))], "a norm")
    assert [node.op_type for node in model.graph.node] == ["BatchNormalization"]
    copy = _with_norms_as_convolutions(model)
    assert [node.op_type for node in copy.graph.node] == ["Conv"] and len(copy.graph.initializer) == 2
    (found,) = onnxruntime.InferenceSession(copy.SerializeToString()).run(
        None, {model.graph.input[0].name: x.numpy()}
    )
    np.testing.assert_allclose(found, norm(x).detach(), atol=1e-5)


class Standardised(nn.Conv2d):
    """Its weights are computed, as those of nets without norms are (Qiao et al., arXiv 1903.10520)."""

    def forward(self, x):
        weight = F.batch_norm(self.weight[None].flatten(2), None, None, training=True).view_as(self.weight)
        return F.conv2d(x, weight, self.bias)


def test_computed_weights_and_norms_of_vectors_in_8_bits():
    torch.manual_seed(0)
    net = nn.Sequential(
        Standardised(3, 4, 3), nn.Hardswish(), nn.Flatten(), nn.BatchNorm1d(144), nn.ReLU(), nn.Linear(144, 3)
    )
    x = torch.rand(3, 3, 8, 8)
    reads = [Value("x", "float32", ("batch", 3, 8, 8))]
    part = NetPart(1, traced(net.eval(), [x], reads, "a net"), reads, [], net(x).detach())
    (found,) = quantized([part], [[x.numpy()]])
    names = [node.name for node in found.model.graph.node]
    assert all(names) and len({*names}) == len(names)
    kernels = [each for each in found.model.graph.initializer if each.dims[:] == [4, 3, 3, 3]]
    assert [each.data_type for each in kernels] == [onnx.TensorProto.INT8]
    session = onnxruntime.InferenceSession(found.model.SerializeToString())
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(logits, part.logits, atol=0.05)
    with pytest.raises(UserError, match=r"exit 1 cannot be put in 8 bits: .*export in fp32"):
        quantized([part], [[x.numpy()[:, :, 1:]]])
