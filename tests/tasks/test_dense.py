"""Segmentation, depth and normals against slow loops over pixels."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from offramp import UserError
from offramp.methods.objectives import Step
from offramp.tasks import Depth, Normals, Segmentation

CLASSES, IMAGES, HEIGHT, WIDTH = 4, 5, 6, 8
TASKS = [Segmentation(), Depth(), Normals()]
NINE = {
    "miou": "higher", "pixacc": "higher", "abs_err": "lower", "rel_err": "lower", "mean_angle": "lower",
    "median_angle": "lower", "within_11.25": "higher", "within_22.5": "higher", "within_30": "higher",
}  # fmt: skip


def draw(task, images=IMAGES, dtype=torch.float64):
    """An output and a target, of which a fifth of the pixels are unknown, and image 1 wholly."""
    generator = torch.Generator().manual_seed(5)
    shape = (images, {Segmentation: CLASSES, Depth: 1, Normals: 3}[type(task)], HEIGHT, WIDTH)
    output = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = output + 0.7 * torch.randn(shape, generator=generator, dtype=torch.float64)
    unknown = torch.rand(images, HEIGHT, WIDTH, generator=generator) < 0.2
    if images > 1:
        unknown[1] = True
    if isinstance(task, Segmentation):
        target = target.argmax(1)
        target[target == 3] = 2  # a class that never occurs, and is predicted
        target[unknown] = torch.where(torch.rand(int(unknown.sum()), generator=generator) < 0.5, -1, -7)
        return output.to(dtype), target
    if isinstance(task, Depth):
        output, target = output.abs() + 0.3, target.abs() + 0.3
    else:
        output, target = F.normalize(output, dim=1), F.normalize(target, dim=1)
    target[unknown[:, None].expand_as(target)] = 0
    return output.to(dtype), target.to(dtype)


def pixels(task, output, target):
    """Measures of every known pixel, image by image: a list of dicts, in a plain loop."""
    images = []
    for i in range(len(output)):
        found = []
        for y in range(HEIGHT):
            for x in range(WIDTH):
                a, b = output[i, :, y, x].tolist(), target[i, ..., y, x].reshape(-1).tolist()
                if isinstance(task, Depth) and b[0] > 0:
                    found.append({"abs_err": abs(a[0] - b[0]), "rel_err": abs(a[0] - b[0]) / b[0]})
                if isinstance(task, Normals) and any(b):
                    cosine = sum(p * q for p, q in zip(a, b, strict=True))
                    angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
                    within = {f"within_{limit:g}": 100.0 * (angle < limit) for limit in (11.25, 22.5, 30)}
                    found.append({"mean_angle": angle, "median_angle": angle, **within})
                if isinstance(task, Segmentation) and b[0] >= 0:
                    found.append((b[0], int(np.argmax(a))))
        images.append(found)
    return images


def average(name, found):
    values = [pixel[name] for pixel in found]
    return np.median(values) if name == "median_angle" else np.mean(values)


def iou(found):
    """Mean IoU and accuracy in percent of pairs (truth, prediction)."""
    each = []
    for k in range(CLASSES):
        union = sum(k in pair for pair in found)
        if union:
            each.append(sum(pair == (k, k) for pair in found) / union)
    return {"miou": 100 * np.mean(each), "pixacc": 100 * np.mean([a == b for a, b in found])}


def expected(task, output, target, together=2):
    images = pixels(task, output, target)
    everything = [pixel for image in images for pixel in image]
    if isinstance(task, Segmentation):
        own = [iou(image) for image in images if image]
        return iou(everything) | {f"image_{name}": np.mean([each[name] for each in own]) for name in own[0]}
    batches = [[*chain(*images[i : i + together])] for i in range(0, len(images), together)]
    values = {}
    for form, groups in (("", batches), ("image_", images), ("pixel_", [everything])):
        for name in everything[0]:
            values[f"{form}{name}"] = np.mean([average(name, group) for group in groups if group])
    return values


def measured(task, output, target, batch):
    parts = zip(output.split(batch), target.split(batch), strict=True)
    return task.metrics(torch.stack([task.counts(*part) for part in parts]).sum(0))


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("batch", [2, 4, 5])  # each holds whole pairs, but for the last
def test_metrics_are_those_of_the_slow_loop(task, batch):
    output, target = draw(task)
    found, wanted = measured(task, output, target, batch), expected(task, output, target)
    assert [*found] == [*wanted]
    for name, value in wanted.items():
        close = {"abs": 0.005} if name == "pixel_median_angle" else {"rel": 1e-12}
        assert found[name] == pytest.approx(value, **close), name


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_image_and_pixel_forms_do_not_depend_on_the_batch_of_the_evaluation(task):
    output, target = draw(task)
    whole, *others = [measured(task, output, target, batch) for batch in (5, 1, 2, 3)]
    own = [name for name in whole if name.startswith(("image_", "pixel_")) or isinstance(task, Segmentation)]
    assert len(own) == {Segmentation: 4, Depth: 4, Normals: 10}[type(task)]
    for name in own:
        assert [other[name] for other in others] == pytest.approx([whole[name]] * 3, rel=1e-12), name


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_the_loss_is_one_mean_over_the_valid_pixels_of_the_batch(task, parts):
    output, target = draw(task)
    shares = zip(output.split(-(-IMAGES // parts)), target.split(-(-IMAGES // parts)), strict=True)
    total = weight = 0.0
    for values, weights in (task.loss(*share) for share in shares):
        assert values.isfinite().all() and values.shape == weights.shape
        total, weight = total + (values * weights).sum(), weight + weights.sum()
    found = pixels(task, output, target)
    assert int(weight) == sum(map(len, found))
    if isinstance(task, Segmentation):
        wanted = F.nll_loss(output.log_softmax(1), target.clamp(min=-1), ignore_index=-1)
    elif isinstance(task, Depth):
        wanted = np.mean([pixel["abs_err"] for image in found for pixel in image])
    else:
        wanted = 1 - np.mean([math.cos(math.radians(p["mean_angle"])) for image in found for p in image])
    assert float(total / weight) == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("unknown", [-1, 0, math.nan, math.inf])
def test_unknown_pixels_move_nothing(task, unknown):
    output, target = draw(task, images=1)
    if isinstance(task, Segmentation):
        target[:] = -1
    else:
        target[:] = 0 if isinstance(task, Normals) and unknown == -1 else unknown
    output.requires_grad_()
    loss = Step(None, [output], [task], {task.target: target}).loss(0)
    loss.backward()
    assert loss.item() == 0
    assert not output.grad.any()
    assert all(math.isnan(value) for value in task.metrics(task.counts(output.detach(), target)).values())


@pytest.mark.parametrize("pixels", [1, 2, 3, 6])
def test_the_global_median_of_few_pixels_is_the_middle_of_the_middle_two(pixels):
    angles = torch.tensor([3.0, 10.0, 11.0, 40.0, 80.0, 179.999])[:pixels].double().deg2rad()
    output = torch.stack([angles.cos(), angles.sin(), 0 * angles])[None, :, None]
    target = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand_as(output)
    task = Normals()
    found = task.metrics(task.counts(output, target.double()))
    wanted = float(np.median(angles.rad2deg()))
    assert found["pixel_median_angle"] == pytest.approx(wanted, abs=0.00501)
    assert found["median_angle"] == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_median_over_outputs_that_are_not_numbers_is_none(share):
    """Like the means; a net that has diverged has no good median of its angles."""
    task = Normals()
    output, target = draw(task)
    output[:, :, : round(share * output.shape[2])] = math.nan
    found = measured(task, output, target, 2)
    angles = [name for name in found if name.endswith("angle")]
    assert len(angles) == 6
    assert all(math.isnan(found[name]) for name in angles)


def test_normals_whose_components_add_up_to_0_count():
    target = torch.tensor([0.5, -0.5, 0.0])[None, :, None, None] * 2**0.5
    values, weights = Normals().loss(target, target)
    assert weights.tolist() == [1]
    assert float(values) == pytest.approx(0, abs=1e-6)


def test_log_probabilities_and_logits_are_the_same():
    task = TASKS[0]
    output, target = draw(task)
    for own, other in zip(task.loss(output, target), task.loss(output.log_softmax(1), target), strict=True):
        torch.testing.assert_close(own, other)


def test_the_mean_of_several_normals_is_a_unit_vector():
    outputs = [draw(TASKS[2])[0], draw(TASKS[2])[0].flip(3)]
    mean = TASKS[2].ensemble(outputs)
    torch.testing.assert_close(mean.norm(dim=1), torch.ones(IMAGES, HEIGHT, WIDTH, dtype=torch.float64))


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_no_images_count_nothing(task):
    output, target = draw(task)
    one, none = (task.counts(output[:n], target[:n]) for n in (1, 0))
    assert one.shape == none.shape and one.dtype == none.dtype and not none.any()
    assert [len(each) for each in task.loss(output[:0], target[:0])] == [0, 0]


def test_nine_metrics_are_compared():
    assert dict(pair for task in TASKS for pair in task.compared.items()) == NINE
    for task in TASKS:
        assert task.compared[task.primary] == task.better
        assert [*measured(task, *draw(task), 2)][: len(task.compared)] == [*task.compared]


MAP = torch.zeros(2, 1, 4, 6)
WRONG = {
    "another size": (Depth(), MAP, MAP[..., :3], r"'depth' is .* \[2, 1, 4, 3\] for outputs \[2, 1, 4, 6\]"),
    "no channel": (Depth(), MAP, MAP[:, 0], r"give metres \(0: unknown\), float32 \[2, 1, 4, 6\]"),
    "millimetres": (Depth(), MAP, MAP.short(), "'depth' is torch.int16"),
    "three depths": (Depth(), MAP.repeat(1, 3, 1, 1), MAP, "give the decoder 1 output channel$"),
    "one normal": (Normals(), MAP, MAP, r"must be \[N, 3, H, W\]; give the decoder 3 output channels"),
    "no map": (Normals(), torch.zeros(2, 3), torch.zeros(2, 3), r"an output for 'normals' is \[2, 3\]"),
    "one-hot": (Segmentation(), MAP, MAP, r"give one class index for each pixel, int64 \[2, 4, 6\]"),
    "classes of numbers": (Segmentation(), MAP, MAP[:, 0], "'segmentation' is torch.float32"),
    "a mask": (Segmentation(), MAP, MAP[:, 0].bool(), "'segmentation' is torch.bool"),
    "small labels": (Segmentation(), MAP, MAP[:, 0, :2].long(), r"for outputs \[2, 1, 4, 6\]"),
    "a label": (Segmentation(), torch.zeros(2, 3), torch.zeros(2).long(), r"must be \[N, classes, H, W\]"),
    "class 3 of 1": (Segmentation(), MAP, MAP[:, 0].long() + 3, "class 3 for .* 1 classes; give classes"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_shape_or_type_is_one_line(case):
    task, output, target, line = case
    for use in (task.loss, task.counts):
        with pytest.raises(UserError, match=line) as error:
            use(output, target)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("task", [Depth, Normals])
def test_batches_of_the_published_form_hold_an_image_or_more(task):
    with pytest.raises(UserError, match="together is 0, must be a whole number of at least 1"):
        task(together=0)


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_losses_are_in_float32_or_wider(task, dtype):
    output, target = draw(task, dtype=dtype)
    assert task.loss(output, target)[0].dtype == torch.float32
    assert task.counts(output, target).dtype == torch.float64
    values, weights = task.loss(output, task.example_target(output))
    assert values.isfinite().all() and len(weights) == IMAGES
