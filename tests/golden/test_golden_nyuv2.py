"""The nine metrics and three losses of NYUv2, number by number: in batches of 2, as published, and of 4."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from offramp.methods.objectives import Step
from offramp.tasks import Depth, Normals, Segmentation

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "nyuv2_metrics.json").read_text())
ARRAYS = {name: torch.from_numpy(array) for name, array in np.load(DATA / "nyuv2_metrics.npz").items()}
OF = {
    "segmentation": ("seg_logprob", "label"),
    "depth": ("depth_pred", "depth"),
    "normals": ("normal_pred", "normal"),
}
NAMES = {
    "miou": "mIoU", "pixacc": "pixel_acc", "abs_err": "abs_err", "rel_err": "rel_err",
    "mean_angle": "normal_mean", "median_angle": "normal_median",
    **{f"within_{limit}": f"within_{limit}" for limit in ("11.25", "22.5", "30")},
}  # fmt: skip
IN_PERCENT = {"miou", "pixacc", "within_11.25", "within_22.5", "within_30"}
LOSSES = {"segmentation": "loss_semantic", "depth": "loss_depth", "normals": "loss_normal"}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
COARSE = {"miou": 1e-7, "pixacc": 1e-7}  # the published code computes these in float32


def tasks(together):
    return {
        "segmentation": Segmentation(),
        "depth": Depth(together=together),
        "normals": Normals(together=together),
    }


def tensors(name, dtype):
    output, target = (ARRAYS[key] for key in OF[name])
    return output.to(dtype), target.to(dtype) if target.is_floating_point() else target


def measured(together, dtype, batch):
    """All metrics of the four images, evaluated so many at a time."""
    found = {}
    for name, task in tasks(together).items():
        parts = zip(*(tensor.split(batch) for tensor in tensors(name, dtype)), strict=True)
        found |= task.metrics(torch.stack([task.counts(*part) for part in parts]).sum(0))
    return found


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("together", "key"), [(2, "float64"), (4, "float64_one_batch_of_4")])
def test_the_nine_metrics(dtype, together, key):
    expected = GOLDEN["float32" if (dtype, together) == (torch.float32, 2) else key]
    found = measured(together, dtype, batch=4)
    for ours, theirs in NAMES.items():
        value = found[ours] / 100 if ours in IN_PERCENT else found[ours]
        tolerance = max(TOLERANCE[dtype], COARSE.get(ours, 0))
        assert value == pytest.approx(expected[theirs], rel=tolerance), ours


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_global_form_is_that_of_one_batch_of_all(batch):
    found = measured(2, torch.float64, batch)
    for ours, theirs in NAMES.items():
        if ours in COARSE:
            continue
        value = found[f"pixel_{ours}"] / (100 if ours in IN_PERCENT else 1)
        tolerance = {"abs": 0.005} if ours == "median_angle" else {"rel": 1e-9}  # half a bin of the histogram
        assert value == pytest.approx(GOLDEN["float64_one_batch_of_4"][theirs], **tolerance), ours


def test_the_confusion_matrix():
    counts = Segmentation().counts(*tensors("segmentation", torch.float64))
    assert counts[:-3].view(13, 13).tolist() == GOLDEN["confusion"]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", LOSSES)
def test_the_losses(name, dtype):
    task = tasks(2)[name]

    def loss(batch):
        output, target = (tensor[batch] for tensor in tensors(name, dtype))
        return float(Step(None, [output], [task], {task.target: target}).loss(0))

    own = GOLDEN["float32" if dtype == torch.float32 else "float64"]
    for number, batch in enumerate((slice(0, 2), slice(2, 4))):
        expected = own["per_batch"][number]["losses"][[*LOSSES].index(name)]
        assert loss(batch) == pytest.approx(expected, rel=TOLERANCE[dtype])
    whole = GOLDEN["float64_one_batch_of_4"][LOSSES[name]]
    assert loss(slice(0, 4)) == pytest.approx(whole, rel=TOLERANCE[dtype])
