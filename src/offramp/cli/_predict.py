"""``offramp predict``: the classes of image files, by the net of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from offramp.cli._answer import OUTPUT, Answer, OutputFlags
from offramp.cli._net import net_of
from offramp.cli._new_file import new_picture
from offramp.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from offramp.exits.predictions import Prediction

__all__ = ["PredictCommand"]

NAMED = 3  # files that cannot be read which the last line names


@dataclass(frozen=True)
class PredictCommand:
    """Predict the class of images: of files, and of all image files in folders and their subfolders.

    Images are read as those of the run's data were: upright, with as many channels, cut to squares if they
    were, and normalised by the same numbers. With a policy each leaves at the first exit that is sure of it;
    without one all go to the last.
    """

    EXAMPLES: ClassVar[str] = """\
  offramp predict runs/dfs photo.jpg
  offramp predict runs/dfs photos/ --policy policy.json --json
  offramp predict runs/dfs photo.jpg --cut --picture walk.png"""

    run_folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """folder that `offramp train` wrote"""
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE ...")]
    """image files, and folders of them"""
    policy: str | None = None
    """when images leave: a file that `offramp calibrate` wrote"""
    cut: bool = False
    """cut images of any size to squares of the net's size, where the run's data were all of one size"""
    picture: str | None = None
    """picture to draw, the first images walking through the exits: .png, .svg or .pdf, and no file yet"""
    net: str | None = None
    """a network of your own again, as for train; the code that a run names is not run by itself"""
    averaged: bool = False
    """take the moving average of the weights, where the run has kept one"""
    output: OutputFlags = OUTPUT

    def run(self) -> Answer:
        """Predict the classes of the images, and draw the picture if one is asked for."""
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
        trouble = _trouble(unread, len(files))
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

    def _text(self, found: list[Prediction], confidence: str) -> str:
        from offramp.reports.plot_walk import ROWS
        from offramp.text_table import aligned

        # a name that is no UTF-8 cannot be printed as it is
        names = [str(each.file).encode(errors="backslashreplace").decode() for each in found]
        rows = [
            [name, each.label, f"{each.confidence:.4f}", str(each.exit)]
            for name, each in zip(names, found, strict=True)
        ]
        by = "no policy: all images go to the last exit" if self.policy is None else f"policy: {self.policy}"
        text = f"{aligned(['image', 'class', 'confidence', 'exit'], rows, left=2)}\n\n"
        text += f"confidence: {confidence}; {by}"
        if self.picture is not None:
            part = f" (the first {ROWS} images)" if len(found) > ROWS else ""
            text += f"\npicture: {self.picture}{part}"
        return text


def _printable(file: Path) -> str:
    """The name of a file; bytes of it that are no UTF-8 are written out."""
    return str(file).encode(errors="backslashreplace").decode()


def _plain(each: Prediction) -> dict[str, Any]:
    return {"image": str(each.file), "class": each.label, "confidence": each.confidence, "exit": each.exit}


def _trouble(unread: list[UserError], files: int) -> UserError | None:
    if not unread:
        return None
    if files == 1:
        return unread[0]
    named = "; ".join(map(str, unread[:NAMED])) + ("; ..." if len(unread) > NAMED else "")
    return UserError(f"{len(unread)} of {files} images cannot be read: {named}")
