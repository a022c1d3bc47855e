"""A bundle that came to harm, by chance or by somebody, is refused in one line that names the culprit."""

import json
import os
import random
import shutil

import numpy as np
import offramp_runtime
import onnx
import pytest
from offramp_runtime import BundleError, InputError
from onnx import TensorProto, helper
from tiny_bundles import SIZE, ImageNet, WordNet, write_bundle, write_json, write_sums


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("written") / "bundle", ImageNet())


@pytest.fixture
def bundle(written, tmp_path):
    return shutil.copytree(written, tmp_path / "bundle")


def refused(bundle, *says):
    with pytest.raises(BundleError) as error:
        offramp_runtime.load(bundle)
    line = str(error.value)
    assert "\n" not in line
    assert len(line) <= 2000
    for part in says:
        assert part in line
    return line


def test_any_changed_byte_is_found(bundle):
    draws = random.Random(0)
    for path in sorted(bundle.iterdir()):
        content = path.read_bytes()
        place = draws.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= 1 << draws.randrange(8)
        path.write_bytes(changed)
        refused(bundle, "" if path.name == "SHA256SUMS" else path.name)
        path.write_bytes(content[:-2])
        refused(bundle)
        path.write_bytes(content)
    offramp_runtime.load(bundle)


@pytest.mark.parametrize("ask", ["predict", "stream"])
def test_files_that_were_changed_after_they_were_checked_are_found_when_they_are_used(bundle, ask):
    def use(model):
        return (
            model.predict(np.zeros((1, 3, SIZE, SIZE), np.uint8))
            if ask == "predict"
            else model.stream().close()
        )

    model, weights = offramp_runtime.load(bundle), bundle / "weights.bin"
    content = weights.read_bytes()
    weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(BundleError, match=r"weights\.bin was changed"):
        use(model)
    write_sums(bundle)
    with pytest.raises(BundleError, match="holds another bundle than when it was loaded; load it again"):
        use(model)
    weights.write_bytes(content)
    write_sums(bundle)
    use(model)


@pytest.mark.parametrize("folder", [None, 5, ["bundle"]])
def test_what_is_no_path_is_refused(folder):
    with pytest.raises(InputError, match="must be the path of a bundle"):
        offramp_runtime.load(folder)


@pytest.mark.parametrize("name", ["stage2.onnx", "model.onnx", "weights.bin", "manifest.json", "policy.json"])
@pytest.mark.parametrize("summed", [False, True])
def test_any_missing_file_is_named(bundle, name, summed):
    (bundle / name).unlink()
    if summed:
        write_sums(bundle)
    refused(bundle, "" if name == "weights.bin" or (name.startswith("stage") and summed) else name)


def test_no_folder_and_no_bundle(tmp_path, bundle):
    refused(tmp_path / "none", "No such file")
    refused(tmp_path, "is no bundle")
    refused(bundle / "model.onnx", "cannot read the bundle")
    refused("bundle\0", "null")
    (bundle / "SHA256SUMS").unlink()
    refused(bundle, "is no bundle: it has no SHA256SUMS")


def test_what_is_no_plain_file_of_the_bundle_is_refused(bundle, tmp_path):
    (bundle / "extra.bin").write_bytes(b"x")
    refused(bundle, "'extra.bin' has no checksum")
    (bundle / "extra.bin").unlink()
    (bundle / "folder").mkdir()
    refused(bundle, "'folder' is a folder, a link or a device")
    (bundle / "folder").rmdir()
    os.mkfifo(bundle / "pipe")
    refused(bundle, "'pipe' is a folder, a link or a device")
    (bundle / "pipe").unlink()
    elsewhere = tmp_path / "weights.bin"
    shutil.move(bundle / "weights.bin", elsewhere)
    (bundle / "weights.bin").symlink_to(elsewhere)
    refused(bundle, "'weights.bin' is a folder, a link or a device")
    (bundle / "weights.bin").unlink()
    shutil.move(elsewhere, bundle / "weights.bin")
    offramp_runtime.load(bundle)


DIGEST = "0" * 64


@pytest.mark.parametrize(
    "line",
    [f"{DIGEST}  ../weights.bin", f"{DIGEST}  /etc/passwd", f"{DIGEST}  a\\b", f"{DIGEST}  ..",
     f"{DIGEST}  .x", f"{DIGEST}  SHA256SUMS", f"{DIGEST}  a\0b", f"{DIGEST[1:]}  a", "weights.bin", "",
     f"{DIGEST}  é", f"{DIGEST}  weights.bin", f"{DIGEST}  gone.bin", f"{DIGEST}  {'n' * 300}"],
)  # fmt: skip
def test_checksums_name_files_of_the_folder_once(bundle, line):
    with open(bundle / "SHA256SUMS", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    refused(bundle)


def changed(document, path, value):
    *way, last = path
    for key in way:
        document = document[key]
    if value is ...:
        del document[last]
    else:
        document[last] = value


def _twice(document):
    document["inputs"] *= 2


def _not_square(document):
    height, width = document["image"]["size"]
    document["image"] |= {"cut": True, "size": [height + 1, width]}
    document["inputs"][0]["shape"][1] += 1


def _backwards(document):
    document["exits"][1]["exit"] = document["exits"][0]["exit"]


def _cheaper(document):
    document["exits"][1]["cost"] = document["exits"][0]["cost"] - 1


def _carried_on(document):
    document["exits"][-1]["carried"] = document["exits"][0]["carried"]


def _carried_twice(document):
    document["exits"][0]["carried"] *= 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_twice, "inputs must be one or more, of different names"),
        (_not_square, "must be that of a square, since images are cut"),
        (_backwards, "exits[1]: exit is 1, must be a whole number of at least 2"),
        (_cheaper, "exits[1]: cost is"),
        (_carried_on, "the last of the exits must have nothing carried"),
        (_carried_twice, "what an exit has carried must be of different names"),
    ],
)
def test_values_that_do_not_go_together_are_refused(bundle, change, says):
    document = json.loads((bundle / "manifest.json").read_text())
    change(document)
    write_json(bundle / "manifest.json", document)
    write_sums(bundle)
    refused(bundle, says)


OTHERS = [None, True, "x", "", 1.5, -1, 10**30, [], {}, [[]], ..., "../model.onnx", "\ud800"]


@pytest.mark.parametrize(
    "path",
    [("offramp_bundle",), ("net",), ("precision",), ("inputs",), ("inputs", 0), ("inputs", 0, "name"),
     ("inputs", 0, "dtype"), ("inputs", 0, "shape"), ("inputs", 0, "shape", 1), ("image",), ("image", "mode"),
     ("image", "size"), ("image", "size", 0), ("image", "cut"), ("classes",), ("classes", 1), ("confidence",),
     ("exits",), ("exits", 1), ("exits", 1, "exit"), ("exits", 1, "cost"), ("exits", 1, "graph"),
     ("exits", 1, "carried"), ("exits", 2, "carried"), ("exits", 0, "carried", 0),
     ("exits", 0, "carried", 0, "name"),
     ("exits", 0, "carried", 0, "dtype"), ("exits", 0, "carried", 0, "shape"),
     ("exits", 0, "carried", 0, "batched"), ("thresholds",), ("thresholds", 0)],
    ids=str,
)  # fmt: skip
def test_values_of_other_kinds_are_refused_unless_they_are_free(bundle, path):
    text = (bundle / "manifest.json").read_text()
    for value in OTHERS:
        document = json.loads(text)
        changed(document, path, value)
        if document == json.loads(text):
            continue
        write_json(bundle / "manifest.json", document)
        write_sums(bundle)
        try:
            offramp_runtime.load(bundle)
        except BundleError as error:
            assert "\n" not in str(error)
        else:
            assert value is not ...
            assert path[-1] in ("net", "precision", "cost", "image", "cut", "shape") or path[0] == "classes"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "manifest.json is no JSON"),
        ("[" * 10**6, "manifest.json"),
        ('{"a":' * 10**5, "manifest.json is nested too deep"),
        ('{"offramp_bundle": NaN}', "NaN is no number"),
        ('{"offramp_bundle": 1, "offramp_bundle": 1}', "a key stands twice"),
        ('{"offramp_bundle": %s}' % ("9" * 5000), "manifest.json is no JSON"),
        ('{"offramp_bundle": 2}', "of format 2, and this offramp-runtime reads format 1"),
        ('{"offramp_bundle": true}', "of format True"),
        ("{}", "manifest.json has no 'offramp_bundle'"),
        ('{"offramp_bundle": 1}', "manifest.json has no"),
        ("[]", "manifest.json is [], must be an object"),
        ("\udcff", "manifest.json is no JSON"),
        (" " * (2**25 + 1), "more than 33554432 bytes"),
    ],
    ids=range(13),
)
def test_a_manifest_that_is_none(bundle, text, says):
    (bundle / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    write_sums(bundle)
    refused(bundle, says)


@pytest.mark.parametrize(
    "thresholds",
    [
        [],
        [0.5],
        [0.5, 0.5, 0.5],
        [None, 0.5],
        [0.5, "a"],
        [0.5, [0.5, 0.5]],
        0.5,
        None,
        [True, 0.5],
        [0.5, []],
        {},
    ],
    ids=str,
)
def test_a_policy_for_another_net(bundle, thresholds):
    policy = {"offramp_policy": 1, "thresholds": thresholds, "confidence": "max-softmax"}
    write_json(bundle / "policy.json", policy)
    write_sums(bundle)
    refused(bundle)


def test_a_policy_by_another_measure_and_with_numbers_too_large(bundle):
    policy = {"thresholds": [0.5, 0.5], "confidence": "margin"}
    write_json(bundle / "policy.json", policy)
    write_sums(bundle)
    refused(bundle, "confidence is 'margin'")
    for text in ("1e999", "9" * 400):
        (bundle / "policy.json").write_text(f'{{"thresholds": [0.5, {text}], "confidence": "max-softmax"}}')
        write_sums(bundle)
        refused(bundle, "policy.json: thresholds")
    policy = {"thresholds": [0.5, 1e300], "confidence": "max-softmax"}  # which no confidence reaches
    write_json(bundle / "policy.json", policy)
    write_sums(bundle)
    answer = offramp_runtime.load(bundle).predict(np.zeros((1, 3, SIZE, SIZE), np.uint8))
    assert answer.exit.tolist() in ([1], [3])


def test_a_graph_that_disagrees_with_the_manifest(bundle, tmp_path):
    other = write_bundle(tmp_path / "words", WordNet())
    for name in ("model.onnx", "stage1.onnx", "stage2.onnx", "stage3.onnx"):
        kept = (bundle / name).read_bytes()
        shutil.copy(other / name, bundle / name)
        write_sums(bundle)
        refused(bundle, name)
        (bundle / name).write_bytes(b"no graph")
        write_sums(bundle)
        refused(bundle, f"ONNX Runtime cannot load {name}")
        (bundle / name).write_bytes(kept)


@pytest.mark.parametrize("of", ["axis", "input"])
def test_a_graph_with_a_name_that_is_no_text(bundle, of):
    graph = onnx.load(bundle / "stage2.onnx", load_external_data=False)
    if of == "axis":
        graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "QQQQ"
    else:
        graph.graph.input.append(helper.make_tensor_value_info("QQQQ", TensorProto.FLOAT, [1]))
    (bundle / "stage2.onnx").write_bytes(graph.SerializeToString().replace(b"QQQQ", b"\xad\xfe\xad\xfe"))
    write_sums(bundle)
    refused(bundle, "stage2.onnx")


def test_graphs_of_other_sizes_and_dtypes(bundle):
    original = onnx.load(bundle / "stage2.onnx", load_external_data=False)
    inputs = original.graph.input[0].type.tensor_type
    inputs.shape.dim[0].dim_value = 1
    onnx.save(original, bundle / "stage2.onnx")
    write_sums(bundle)
    refused(bundle, "stage2.onnx takes batches of 1 alone")
    inputs.shape.dim[0].dim_param = "N"
    inputs.shape.dim[2].dim_value = SIZE + 1
    onnx.save(original, bundle / "stage2.onnx")
    write_sums(bundle)
    refused(bundle, "stage2.onnx has map1 of shape [None, 5, 7, 6]")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_weights_beside_the_folder_are_not_read(bundle, tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["y"])], "g", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16])], [weight],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (bundle / "model.onnx").write_bytes(model.SerializeToString())
    write_sums(bundle)
    refused(bundle, "ONNX Runtime cannot load model.onnx")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_are_a_number(written, threads):
    with pytest.raises(InputError, match="threads is"):
        offramp_runtime.load(written, threads=threads)


def test_a_link_to_a_whole_bundle_is_followed(written, tmp_path):
    (tmp_path / "current").symlink_to(written)
    assert len(offramp_runtime.load(tmp_path / "current").exits) == 3
