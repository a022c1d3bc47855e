"""``offramp predict``: the classes of image files, by the net of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._bundle import is_bundle, predict_by_bundle
from offramp.cli._net import net_of
from offramp.cli._new_file import new_picture
from offramp.cli._read_files import printable, trouble_of
from offramp.errors import UserError

if TYPE_CHECKING:
    from offramp.exits.predictions import Prediction

__all__ = ["PredictCommand"]


@dataclass(frozen=True)
class PredictCommand:
    """Predict the class of images: of files, and of all image files in folders and their subfolders.

    Images are read as those of the run's data were: upright, with as many channels, cut to squares if they
    were, and normalised by the same numbers. With a policy each leaves at the first exit that is sure of it;
    without one all go to the last. A bundle has a policy of its own, and is run without torch.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp predict runs/dfs photo.jpg
  offramp predict runs/dfs photos/ --policy policy.json --json
  offramp predict runs/dfs photo.jpg --cut --picture walk.png
  offramp predict bundle photo.jpg"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote, or a bundle that `offramp export` wrote"""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE ...")]
    """image files, and folders of them"""
    policy: str | None = None
    """when images leave: a file that `offramp calibrate` wrote"""
    cut: bool = False
    """cut images of any size to squares of the net's size, where the run's data were all of one size"""
    picture: str | None = None
    """picture to draw, the first images walking through the exits: .png, .svg or .pdf, and no file yet"""
    net: str | None = None
    """your own network again, as for train; code that a run folder names is never run without this flag"""
    averaged: bool = False
    """take the moving average of the weights, where the run has kept one"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Predict the classes of the images, and draw the picture if one is asked for."""
        if is_bundle(self.run_folder):
            return self._by_bundle()
        from offramp.data.image_files import find_images
        from offramp.exits import Policy
        from offramp.exits.predictions import Predictor
        from offramp.reports.plot_walk import plot_walks
        from offramp.runs import Run

        picture = new_picture(self.picture, "--picture")
        policy = None if self.policy is None else Policy.open(self.policy)
        run = Run.open(self.run_folder, net_of([self.run_folder], self.net), averaged=self.averaged)
        predictor = Predictor(run, policy, cut=self.cut)
        files = find_images(self.images)
        found, unread = [], []
        for answer in predictor(files):
            unread.append(answer) if isinstance(answer, UserError) else found.append(answer)
        trouble = trouble_of(unread, len(files))
        if trouble is not None and not found:
            raise trouble
        if picture is not None:
            plot_walks(predictor, found, picture)
        document: dict[str, Any] = {
            "run": self.run_folder,
            "policy": self.policy,
            "confidence": predictor.policy.confidence,
            "predictions": [_plain(each) for each in found],
            "unread": [str(error) for error in unread],
            "picture": self.picture,
        }
        return Answer(document, self._text(found, predictor.policy.confidence), trouble)

    def _by_bundle(self) -> Answer:
        for name in ("policy", "cut", "picture", "net", "averaged"):
            if getattr(self, name):
                raise UserError(
                    f"{self.run_folder} is a bundle, which says itself how it predicts; leave --{name} out"
                )
        return predict_by_bundle(self.run_folder, self.images)

    def _text(self, found: list[Prediction], confidence: str) -> str:
        from offramp.reports.plot_walk import ROWS
        from offramp.text_table import aligned

        rows = [
            [printable(each.file), each.label, f"{each.confidence:.4f}", str(each.exit)] for each in found
        ]
        by = "no policy: all images go to the last exit" if self.policy is None else f"policy: {self.policy}"
        text = f"{aligned(['image', 'class', 'confidence', 'exit'], rows, left=2)}\n\n"
        text += f"confidence: {confidence}; {by}"
        if self.picture is not None:
            part = f" (the first {ROWS} images)" if len(found) > ROWS else ""
            text += f"\npicture: {self.picture}{part}"
        return text


def _plain(each: Prediction) -> dict[str, Any]:
    return {"image": str(each.file), "class": each.label, "confidence": each.confidence, "exit": each.exit}
