"""``offramp predict-maps``: what a net predicts for every pixel, drawn beside the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.cli._new_file import new_file

__all__ = ["PredictMapsCommand"]


@dataclass(frozen=True, kw_only=True)
class PredictMapsCommand:
    """Draw what a net predicts for every pixel of test images beside the truth, for all its tasks.

    Segmentation is drawn in colours with a legend, depth by brightness on one scale for both, normals as red,
    green and blue; black is where there is no truth. Below stand each image's own metrics.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp predict-maps runs/mtan --out maps.png
  offramp predict-maps runs/mtan --image 0 7 12 --out maps.pdf"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote"""
    out: str
    """picture to draw: .png, .svg or .pdf, and no file yet"""
    image: tuple[int, ...] = ()
    """which images of the test set, from 0, of several sets one after the other; by default the first four"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    averaged: bool = False
    """take the moving average of the weights, where the run has kept one"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Predict the maps, and draw them."""
        from offramp.reports.canvas import check_picture
        from offramp.reports.maps import predicted_maps
        from offramp.reports.plot_maps import plot_maps
        from offramp.runs import Run
        from offramp.tasks.outputs import decimals, heading
        from offramp.text_table import aligned

        picture = new_file(str(check_picture(self.out)), "--out")
        run = Run.open(self.run_folder, net_of([self.run_folder], self.net), averaged=self.averaged)
        images = predicted_maps(run, self.image)
        plot_maps(images, picture)
        document: dict[str, Any] = {
            "run": self.run_folder,
            "images": [
                {
                    "image": each.number,
                    "tasks": {one.output: {one.task.primary: one.value} for one in each.maps},
                }
                for each in images
            ],
            "picture": self.out,
        }
        rows = [
            [str(each.number)]
            + [
                "not labelled"
                if one.value is None
                else f"{one.value:.{decimals(one.task.primary, one.value)}f}"
                for one in each.maps
            ]
            for each in images
        ]
        header = [f"{one.output}\n{heading(one.task.primary)}" for one in images[0].maps]
        return Answer(document, f"{aligned(['test image', *header], rows)}\n\npicture: {self.out}")
