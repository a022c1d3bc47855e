"""The picture of dense predictions: an image a row, and beside it each task's prediction and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offramp.reports.canvas import canvas
from offramp.reports.maps import DenseMap, MappedImage
from offramp.tasks import Depth, Segmentation
from offramp.tasks.outputs import decimals, heading

__all__ = ["class_colours", "plot_maps"]

NOTHING = (0.0, 0.0, 0.0)  # where there is no truth


def plot_maps(images: Sequence[MappedImage], path: str | Path) -> Path:
    """Draw images and maps, an image a row.

    Classes are colours with a legend, depth is brightness, a normal's components are red, green and blue.
    Prediction and truth of a depth have one scale. Black is where there is no truth.

    Args:
        images: At least one, all of one net.
        path: The picture's file; its ending says the format.

    Raises:
        UserError: matplotlib is missing, an ending it does not know, or a place where no file can be
            written.
    """
    columns = 1 + 2 * len(images[0].maps)
    _, height, width = images[0].image.shape
    with canvas(path, 1.9 * columns, (1.9 * height / width + 0.35) * len(images) + 1.1) as figure:
        rows = figure.subplots(len(images), columns, squeeze=False)
        for axes in rows.flatten():
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        for row, each in zip(rows, images, strict=True):
            levels = each.image.permute(1, 2, 0).numpy()
            row[0].imshow(levels if levels.shape[2] == 3 else levels[..., 0], cmap="gray", vmin=0, vmax=1)
            row[0].set_xlabel(f"test image {each.number}", fontsize=8.5)
            for at, one in enumerate(each.maps):
                _draw(row[1 + 2 * at], row[2 + 2 * at], one, each)
        rows[0][0].set_title("image", fontsize=10)
        for at, one in enumerate(images[0].maps):
            rows[0][1 + 2 * at].set_title(f"{one.output}:\npredicted", fontsize=10)
            rows[0][2 + 2 * at].set_title("truth", fontsize=10)
        _legend(figure, images)
    return Path(path)


def _draw(predicted: Any, truth: Any, one: DenseMap, each: MappedImage) -> None:
    scale = _depths(one) if isinstance(one.task, Depth) else (0.0, 1.0)
    classes = len(each.classes[one.output])
    for axes, values in ((predicted, one.predicted), (truth, one.truth)):
        if values is None:
            axes.text(
                0.5, 0.5, "not labelled", ha="center", va="center", fontsize=8.5, transform=axes.transAxes
            )
        elif isinstance(one.task, Segmentation):
            axes.imshow(_classes(values, classes).numpy(), interpolation="nearest")
        elif isinstance(one.task, Depth):
            axes.imshow(_brightness(values, *scale, blank=axes is truth).numpy(), interpolation="nearest")
        else:
            axes.imshow(_directions(values).numpy(), interpolation="nearest")
    if one.value is not None:
        value = f"{one.value:.{decimals(one.task.primary, one.value)}f}"
        predicted.set_xlabel(f"{heading(one.task.primary)} {value}", fontsize=8.5)
    if isinstance(one.task, Depth):
        truth.set_xlabel(f"{scale[0]:.1f} m (light) to {scale[1]:.1f} m", fontsize=8.5)


def class_colours(count: int) -> Tensor:
    """Red, green and blue of so many classes, ``[count, 3]``: neighbours in hue differ in lightness."""
    import matplotlib

    hues = torch.arange(count) / max(1, count)
    colours = torch.tensor([matplotlib.colormaps["hsv"](float(hue))[:3] for hue in hues]).view(count, 3)
    light = torch.tensor([1.0, 0.62, 0.35])[torch.arange(count) % 3][:, None]
    return (colours * light + (1 - light.clamp(min=0.62)) * 0.35).clamp(0, 1)


def _classes(values: Tensor, count: int) -> Tensor:
    """``[H, W, 3]``; black where there is none."""
    colours = torch.cat([class_colours(count), torch.tensor([NOTHING])])
    return colours[torch.where(values < 0, count, values.long())]


def _depths(one: DenseMap) -> tuple[float, float]:
    """The nearest and the farthest depth: of the truth where it is known, else of the prediction."""
    source = one.predicted if one.truth is None else one.truth[one.truth > 0]
    source = one.predicted if not source.numel() else source
    low, high = float(source.min()), float(source.max())
    return low, high if high > low else low + 1


def _brightness(values: Tensor, low: float, high: float, *, blank: bool) -> Tensor:
    """``[H, W, 3]``: light is near; black where there is no truth."""
    import matplotlib

    share = (1 - (values[0] - low) / (high - low)).clamp(0, 1)
    shown = torch.from_numpy(matplotlib.colormaps["viridis"](share.numpy())[..., :3])
    return torch.where((values[0] > 0)[..., None], shown, 0) if blank else shown


def _directions(values: Tensor) -> Tensor:
    """``[H, W, 3]``: each component from -1 to 1 as a colour from 0 to 1; black where there is no normal."""
    shown = ((values + 1) / 2).clamp(0, 1)
    return torch.where((values != 0).any(0), shown, 0).permute(1, 2, 0)


def _legend(figure: Any, images: Sequence[MappedImage]) -> None:
    """The colours of the classes that are seen in some map."""
    from matplotlib.patches import Patch

    handles = []
    for at, one in enumerate(images[0].maps):
        if isinstance(one.task, Segmentation):
            names = images[0].classes[one.output]
            maps = [each.maps[at] for each in images]
            tensors = [
                values for each in maps for values in (each.predicted, each.truth) if values is not None
            ]
            seen = torch.cat([values.flatten() for values in tensors]).unique().tolist()
            colours = class_colours(len(names)).tolist()
            handles += [
                Patch(color=colours[k], label=names[k]) for k in map(int, seen) if 0 <= k < len(names)
            ]
    if handles:
        figure.legend(
            handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=8.5,
            handlelength=1, columnspacing=1.2,
        )  # fmt: skip
