"""The data of a reproduction: the published set, or other data that stand in for it and are called so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from offramp.checks import of_kind
from offramp.data import OpenedData, is_embedded
from offramp.errors import UserError, shown
from offramp.recipes import Recipe
from offramp.reproduce.published_sets import SETS, PublishedSet
from offramp.runs.sets import open_set

__all__ = ["Source", "source_of"]


class _OnData(Protocol):
    """A table or figure that is on a published set."""

    @property
    def name(self) -> str: ...

    @property
    def data(self) -> str: ...

    @property
    def full_recipe(self) -> Recipe: ...


@dataclass(frozen=True)
class Source:
    """The data of a reproduction.

    Attributes:
        text: What :func:`offramp.data.open_data` opens.
        published: The published set.
        stands_in: Whether they are other data in its place.
        whole: All of the data, opened under the recipe.
        settings: Of the recipe, which these data need.
    """

    text: str
    published: PublishedSet
    stands_in: bool
    whole: OpenedData[Any]
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """The data as a title calls them."""
        if self.stands_in:
            return f"{self.whole.name}, which stands in for {self.published.name}"
        return self.published.name

    @property
    def differs(self) -> list[str]:
        """What the data differ in from the published set, a line each."""
        if not self.stands_in:
            return []
        train, test = len(self.whole.train) + len(self.whole.val), len(self.whole.test)
        published = self.published
        return [
            f"the data are {self.whole.name}, {train:,} training and {test:,} test images, and not "
            f"{published.name}, {published.train:,} and {published.test:,}",
            *(f"images are cut to {side} pixels a side" for side in self.settings.values()),
        ]


def source_of(experiment: _OnData, data: str | None, stand_in: str | None) -> Source:
    """Open the data of an experiment.

    Args:
        experiment: The experiment.
        data: The published set.
        stand_in: Or other data, as ``"CIFAR-100=path"``.

    Raises:
        UserError: None or both are given, the data cannot be opened, are for other tasks, or are called by
            the name of a published set that they are not.
    """
    published = SETS[experiment.data]
    example = f"{published.name}=path/to/other"
    if (data is None) == (stand_in is None):
        both = ", and not both" if data is not None else ""
        raise UserError(
            f"{experiment.name} is on {published.name}; give its data by `data=...`, or other data by "
            f"`stand_in='{example}'`{both}"
        )
    text = _named(stand_in, published, example) if data is None else data
    of_kind("data", text, str, "a folder, or a name that open_data opens")
    whole, settings = _open(text, experiment, published)
    reason = "" if data is None else published.unlike(whole)
    if data is not None and is_embedded(text):
        reason = f"{text} is a set of this library"
    if reason:
        raise UserError(
            f"{experiment.name} is on {published.name}, and {reason}; to take it in its place, give "
            f"`stand_in='{published.name}={text}'`"
        )
    return Source(text, published, data is None, whole, settings)


def _named(stand_in: object, published: PublishedSet, example: str) -> str:
    """The data that a stand-in names."""
    of_kind("stand_in", stand_in, str, f"a text such as '{example}'")
    name, equals, text = str(stand_in).partition("=")
    if not (equals and text) or name != published.name:
        raise UserError(
            f"stand_in is {shown(stand_in)}, must name the published set, {published.name}, and the data in "
            f"its place: {example}"
        )
    return text


def _open(text: str, experiment: _OnData, published: PublishedSet) -> tuple[OpenedData[Any], dict[str, Any]]:
    """The data as the networks read them: images of other sizes, or of several, are cut to the side."""
    recipe = experiment.full_recipe
    cut = {} if published.side is None or recipe.size is not None else {"size": published.side}
    try:
        data = open_set(text, recipe)
    except UserError as error:
        if not cut:
            raise
        try:
            data = open_set(text, recipe.replace(**cut))  # images of several sizes
        except UserError:
            raise error from None
    else:
        if other := published.other_targets(data):
            raise UserError(f"{experiment.name}: {other}; give data with such targets")
        if not cut or data.input_size[1:] == (published.side,) * 2:
            return data, {}
        data = open_set(text, recipe.replace(**cut))
    return data, cut
