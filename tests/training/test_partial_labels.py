"""Samples that lack targets, from the data to the weights: an absent task is not there at all."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from several_sets import SIZES, TARGETS, built, partly_labelled, samples, two_tasks
from torch.utils.data import Dataset

from offramp import Recipe, fit
from offramp.data import ImageData, Split, TargetTensors, Transform
from offramp.tasks import Boxes, Classification

METHODS = (
    "joint",
    "pcgrad",
    "cagrad",
    "nash-mtl",
    "mgda",
    "imtl",
    "upgrad",
    "graddrop",
    "aligned-mtl",
    "uncertainty",
)
RECIPE = Recipe(epochs=1, batch_size=8, lr=0.05, augment="none")


def more_tasks(names):
    tasks = {"kind": (3, Classification), "spare": (3, Classification), "box": (4, Boxes)}
    net = built(0, tasks, SIZES["kind"])
    return net if len(names) == 3 else without_box(net)


def without_box(net):
    """The same net without its last decoder."""
    import offramp

    tasks = list(net.outputs.items())[:-1]
    parts = {name: (net.decoders[k], task) for k, (name, task) in enumerate(tasks)}
    return offramp.multi_task(net.stages[0], parts, input_size=SIZES["kind"])


def data_of(keys):
    """25 samples; one has a box, and it is the one that the epoch's last, smaller batch would have."""
    images, targets = samples("kind", 25)
    targets["spare"] = targets["kind"].flip(0)
    seen = Split(
        torch.arange(25.0)[:, None, None, None], {"label": torch.zeros(25, dtype=torch.long)}
    ).batches(8, transform=Transform((), ()), device="cpu", shuffle=True, drop_last=True)
    (dropped,) = {*range(25)} - {int(n) for batch in seen for n in batch.inputs.flatten()}
    targets["box"] = torch.full((25, 4), torch.nan)
    targets["box"][dropped] = torch.tensor([0.1, 0.1, 0.5, 0.5])
    kinds = TARGETS | {"spare": TARGETS["kind"]}
    tensors = {key: targets[key] for key in keys}
    train = Split(images, TargetTensors(tensors, kinds))
    val = Split(images[:0], TargetTensors({key: value[:0] for key, value in tensors.items()}, kinds))
    return ImageData(
        name="x", source="x", targets={key: kinds[key] for key in keys}, train=train, val=val,
        load_test=lambda: Split(images, TargetTensors(tensors, kinds)),
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_no_batch_has_is_as_if_the_net_had_no_such_output(method):
    keys = ("kind", "spare", "box")
    net, alone = more_tasks(keys), more_tasks(keys[:2])
    before = {name: value.clone() for name, value in net.decoders[2].state_dict().items()}
    run = fit(net, data_of(keys), method, RECIPE, quiet=True)
    fit(alone, data_of(keys[:2]), method, RECIPE, quiet=True)
    torch.testing.assert_close(net.stages.state_dict(), alone.stages.state_dict(), rtol=0, atol=0)
    for k in (0, 1):
        torch.testing.assert_close(
            net.decoders[k].state_dict(), alone.decoders[k].state_dict(), rtol=0, atol=0
        )
    torch.testing.assert_close(dict(net.decoders[2].state_dict()), before, rtol=0, atol=0)  # no decay either
    assert {*run.result.outputs} == {*keys}


def test_a_sample_without_a_target_has_no_part_in_that_loss():
    """One step on a batch with gaps, against the losses over the samples that have each target."""
    recipe = RECIPE.replace(
        batch_size=24, momentum=0, nesterov=False, weight_decay=0, schedule="constant", lr=1.0
    )
    net, data = two_tasks(), partly_labelled()
    run = fit(net, data, "joint", recipe, quiet=True)
    plain = two_tasks()
    mean, std = data.statistics
    outputs = plain((data.train.images - torch.tensor(mean)) / torch.tensor(std))
    targets = data.train.targets
    has_kind, has_box = targets["kind"] >= 0, targets["box"].isfinite().all(1)
    assert 0 < has_kind.sum() < 24
    assert 0 < has_box.sum() < 24
    kind = torch.nn.functional.cross_entropy(outputs[0][has_kind], targets["kind"][has_kind])
    box = plain.outputs["box"].loss(outputs[1][has_box], targets["box"][has_box])[0].mean()
    (kind + box).backward()
    expected = {name: p.detach() - p.grad for name, p in plain.named_parameters()}
    torch.testing.assert_close(dict(run.net.named_parameters()), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_gaps_train_finite_weights_and_are_skipped_by_the_evaluation(method):
    run = fit(two_tasks(), partly_labelled(), method, RECIPE.replace(batch_size=4, epochs=2), quiet=True)
    assert all(value.isfinite().all() for value in run.net.state_dict().values())
    data = partly_labelled()
    mean, std = data.statistics
    net, targets = run.net, data.test.targets
    with torch.no_grad():
        outputs = net((data.test.images - torch.tensor(mean)) / torch.tensor(std))
    for output, name, has in (
        (outputs[0], "kind", targets["kind"] >= 0),
        (outputs[1], "box", targets["box"].isfinite().all(1)),
    ):
        task = net.outputs[name]
        expected = task.metrics(task.counts(output[has], targets[name][has]))
        assert run.result.outputs[name].metrics == pytest.approx(expected)


KINDS = [*["cat", "dog", None, "emu"] * 8]
BOXES = [[0.1, 0.2, 0.6, 0.9] if row % 5 == 0 else None for row in range(32)]
IMAGES = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)


def parquet_folder(folder):
    """Gaps are nulls."""
    folder.mkdir()
    table = pa.table({"image": [{"bytes": png(image)} for image in IMAGES], "species": KINDS, "place": BOXES})
    for split in ("train", "test"):
        parquet.write_table(table, folder / f"{split}.parquet")
    return str(folder)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


class Pairs(Dataset):
    """Gaps are None in a mapping of targets."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, row):
        return IMAGES[row], {"kind": KINDS[row], "box": BOXES[row]}


def arrays():
    """Gaps are NaN and -100 in Tensors, of the rows that have any target."""
    kinds = torch.tensor([-100 if kind is None else ["cat", "dog", "emu"].index(kind) for kind in KINDS])
    boxes = torch.tensor([box or [torch.nan] * 4 for box in BOXES])
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous()
    rows = [row for row, gaps in enumerate(zip(KINDS, BOXES, strict=True)) if any(gaps)]
    images, targets = images[rows], TargetTensors({"kind": kinds[rows], "box": boxes[rows]}, TARGETS)
    none = torch.zeros(0, dtype=torch.long)
    return ImageData(
        name="x", source="x", targets=TARGETS, train=Split(images, targets),
        val=Split(images[none], targets.rows(none)), load_test=lambda: Split(images, targets),
    )  # fmt: skip


@pytest.mark.parametrize("method", ["joint", "nash-mtl"])
def test_gaps_are_the_same_whatever_holds_them(method, tmp_path):
    recipe = Recipe(epochs=2, batch_size=4, lr=0.05, augment="none", val_fraction=0)
    sources = {
        parquet_folder(tmp_path / "set"): {"kind": "species", "box": "place:box"},
        Pairs(): None,
        arrays(): None,
    }
    nets = []
    for source, tasks in sources.items():
        nets.append(built(0, {"kind": (3, Classification), "box": (4, Boxes)}, (3, 8, 8)))
        fit(nets[-1], source, method, recipe.replace(tasks=tasks), quiet=True)
    for net in nets[1:]:
        torch.testing.assert_close(net.state_dict(), nets[0].state_dict(), rtol=1e-5, atol=1e-7)
