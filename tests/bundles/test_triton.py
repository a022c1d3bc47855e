"""A model repository for Triton: its configuration, against Triton's schema and the graphs' own words.

No Triton runs here: what it hands to a model of its ONNX backend is repeated from its documentation, in
`declared`.
"""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from tiny_runs import tiny_net

import offramp
from offramp.bundles.triton import config, write_repository
from offramp.exits import Policy

IMAGES = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


def parsed(text):
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.Parse(text, ModelConfig())


def declared(model, fields):
    """Name -> type and shape of what Triton hands to the backend, or takes from it."""
    from tritonclient.grpc.model_config_pb2 import DataType

    batch = [-1] if model.max_batch_size else []
    shapes = {
        each.name: [*batch, *(each.reshape.shape if each.HasField("reshape") else each.dims)]
        for each in fields
    }
    return {each.name: (DataType.Name(each.data_type), shapes[each.name]) for each in fields}


def of_session(values):
    free = [[size if isinstance(size, int) else -1 for size in each.shape] for each in values]
    return {each.name: (TYPES[each.type], shape) for each, shape in zip(values, free, strict=True)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A bundle whose policy lets half of IMAGES leave, by a threshold for each class; and its repository."""
    folder = tmp_path_factory.mktemp("triton")
    torch.manual_seed(0)
    net = tiny_net().eval()
    with torch.no_grad():
        confidences = net(torch.from_numpy(IMAGES))[0].softmax(1).amax(1)
    policy = Policy([[float(confidences.median())] * 3])
    bundle = offramp.export(net, policy, folder / "bundle", classes=["cat", "a  dog", "c"])
    names = write_repository(bundle, folder / "repository")
    return bundle, folder / "repository", names


def test_each_model_has_a_folder_of_its_name_and_a_first_version(exported):
    bundle, repository, names = exported
    assert sorted(path.name for path in repository.iterdir()) == sorted(names)
    for name in names:
        files = {str(path.relative_to(repository / name)) for path in (repository / name).rglob("*.*")}
        assert files == {"config.pbtxt", "labels.txt", "policy.json", "1/model.onnx", "1/weights.bin"}
        assert Policy.open(repository / name / "policy.json") == Policy.open(bundle / "policy.json")
        assert parsed((repository / name / "config.pbtxt").read_text()).name == name
        assert (repository / name / "labels.txt").read_text().split("\n") == ["cat", "a dog", "c"]


def test_the_configurations_declare_what_the_graphs_have(exported):
    _, repository, names = exported
    for name in names:
        model = parsed((repository / name / "config.pbtxt").read_text())
        session = onnxruntime.InferenceSession(repository / name / "1" / "model.onnx")
        assert model.backend == "onnxruntime"
        assert declared(model, model.input) == of_session(session.get_inputs())
        assert declared(model, model.output) == of_session(session.get_outputs())
        assert model.output[0].label_filename == "labels.txt"


def test_triton_forms_batches_only_where_each_input_and_output_has_the_batch_in_front(exported):
    bundle, repository, (batched, free) = exported
    models = {name: parsed((repository / name / "config.pbtxt").read_text()) for name in (batched, free)}
    assert models[batched].HasField("dynamic_batching")
    assert [each.name for each in models[batched].input] == ["inputs"]
    assert models[batched].max_batch_size == 64
    assert not models[free].HasField("dynamic_batching")
    assert models[free].max_batch_size == 0
    thresholds = json.loads((bundle / "manifest.json").read_text())["thresholds"]
    assert [*models[free].input[-1].dims] == thresholds
    assert all(each.dims and 0 not in each.dims for model in models.values() for each in model.output)


def test_both_models_answer_as_the_bundle_does(exported):
    bundle, repository, (batched, free) = exported
    policy = json.loads((bundle / "policy.json").read_text())
    thresholds = np.float32(policy["thresholds"])
    wanted = onnxruntime.InferenceSession(bundle / "model.onnx").run(
        None, {"inputs": IMAGES, "thresholds": thresholds}
    )
    assert 0 < (wanted[1] == 1).mean() < 1
    for name, inputs in ((batched, {}), (free, {"thresholds": thresholds})):
        answers = onnxruntime.InferenceSession(repository / name / "1" / "model.onnx").run(
            None, {"inputs": IMAGES, **inputs}
        )
        assert all(np.array_equal(*pair) for pair in zip(answers, wanted, strict=True))


MANIFEST = {
    "inputs": [
        {"name": "input_ids", "dtype": "int64", "shape": [None]},
        {"name": "flag", "dtype": "bool", "shape": []},
    ],
    "thresholds": [2],
    "classes": ["a", "b"],
}


def test_free_axes_and_inputs_without_axes_have_the_forms_of_the_schema():
    model = parsed(config("net", MANIFEST, batched=True))
    assert declared(model, model.input) == {
        "input_ids": ("TYPE_INT64", [-1, -1]),
        "flag": ("TYPE_BOOL", [-1]),
    }
    assert [*model.input[1].dims] == [1]  # no dims at all are refused
    model = parsed(config("net", MANIFEST, batched=False))
    assert declared(model, model.input) == {
        "input_ids": ("TYPE_INT64", [-1, -1]), "flag": ("TYPE_BOOL", [-1]), "thresholds": ("TYPE_FP32", [2]),
    }  # fmt: skip


def test_a_net_with_one_exit_to_leave_at_has_one_model(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    manifest = {**MANIFEST, "net": "my_net:width=2", "thresholds": [0]}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    (bundle / "policy.json").write_text('{"thresholds": [null]}')
    (bundle / "weights.bin").touch()
    free = [onnx.helper.make_tensor_value_info(name, 1, [None]) for name in ("flag", "thresholds", "exit")]
    node = onnx.helper.make_node("Identity", ["flag"], ["exit"])
    graph = onnx.helper.make_graph([node], "net", free[:2], free[2:])
    onnx.save(onnx.helper.make_model(graph, ir_version=10), bundle / "model.onnx")
    assert write_repository(bundle, tmp_path / "repository") == ["my_net-width-2"]
    written = onnx.load(tmp_path / "repository" / "my_net-width-2" / "1" / "model.onnx").graph
    assert ([each.name for each in written.input], [*written.initializer]) == (["flag"], [])
