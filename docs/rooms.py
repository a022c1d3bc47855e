"""Draws rooms, their classes, depth and normals: ``python docs/rooms.py`` writes ``docs/rooms.png``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from offramp.data.rooms import CLASSES, random_scene, render

ROOMS = (1, 34, 7, 33, 2)
COLOURS = plt.get_cmap("tab20").colors[: len(CLASSES)]


def main() -> None:
    """Draw some of the training images of ``rooms``, a row for each kind of map."""
    figure, rows = plt.subplots(4, len(ROOMS), figsize=(2.4 * len(ROOMS), 7.8), layout="constrained")
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
    for column, number in enumerate(ROOMS):
        image, segmentation, depth, normals = render(random_scene(0, 0, number), 96, 128)
        rows[0, column].imshow(image.permute(1, 2, 0))
        rows[1, column].imshow(
            segmentation, cmap=matplotlib.colors.ListedColormap(COLOURS), vmin=-0.5, vmax=len(CLASSES) - 0.5,
            interpolation="nearest",
        )  # fmt: skip
        metres = rows[2, column].imshow(depth[0], cmap="magma_r", vmin=0, vmax=6)
        rows[3, column].imshow((normals.permute(1, 2, 0) + 1) / 2)
    for axes, name in zip(rows[:, 0], ("image", "segmentation", "depth", "normals"), strict=True):
        axes.set_ylabel(name)
    figure.colorbar(metres, ax=rows[2], label="m", pad=0.01)
    patches = [Patch(color=colour, label=name) for name, colour in zip(CLASSES, COLOURS, strict=True)]
    figure.legend(handles=patches, ncols=len(CLASSES), loc="outside lower center", handlelength=0.8,
                  columnspacing=0.9, handletextpad=0.4, frameon=False)  # fmt: skip
    figure.savefig(Path(__file__).with_name("rooms.png"), dpi=80)


if __name__ == "__main__":
    main()
