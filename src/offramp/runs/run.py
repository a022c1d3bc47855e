"""A finished run: its folder, its net, its result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from offramp.checks import described, flag, of_kind, path_of, word_of
from offramp.counting import cost
from offramp.errors import UserError
from offramp.methods import Method
from offramp.nets import Net
from offramp.nets.net import check_net
from offramp.recipes.recipe import Recipe
from offramp.runs.evaluation import Evaluation
from offramp.runs.fits import check_fits
from offramp.runs.record import check_method, read_record, read_result
from offramp.runs.recorded import recorded_method, recorded_net
from offramp.runs.result import Result
from offramp.runs.sets import open_other_set, open_recorded, recorded_transform
from offramp.runs.several import check_as_recorded
from offramp.runs.targets import targets_from_json
from offramp.runs.texts import check_tokenizer, for_net
from offramp.runs.weights import load_weights
from offramp.say import say
from offramp.unchanged import restored_on_error

if TYPE_CHECKING:
    from offramp.data import Batch, OpenedData
    from offramp.data.batches import Batches

__all__ = ["Run"]


class Run:
    """A run: its net, record and result, as :func:`offramp.fit` returns it or :meth:`Run.open` reads it.

    Attributes:
        net: The trained network; after ``separate`` a :class:`~offramp.nets.Separate`.
        method: The method that trained it.
        record: The content of ``run.json``: net, method, options, data, recipe, seed, versions.
        result: The final evaluation on the test set.
        folder: Where it lies, or None.
    """

    def __init__(
        self,
        *,
        net: Net,
        method: Method,
        record: dict[str, Any],
        result: Result,
        folder: Path | None,
        data: OpenedData[Any] | None = None,
    ) -> None:
        self.net, self.method = net, method
        self.record, self.result, self.folder = record, result, folder
        self._data = data

    @classmethod
    def open(
        cls,
        folder: str | Path,
        net: Net | None = None,
        *,
        method: Method | None = None,
        averaged: bool = False,
        data: OpenedData[Any] | None = None,
    ) -> Run:
        """Read a finished run.

        Args:
            folder: Its folder.
            net: The network to load the weights into; needed if it was not built by ``offramp.nets``, whose
                code a run never imports by itself.
            method: The method, needed if it is none of :data:`~offramp.methods.METHODS`.
            averaged: Take the moving average of the weights that the recipe's ``average`` has kept, in place
                of the last ones.
            data: The set that it was trained on, where that is open already.

        Raises:
            UserError: Not a run folder, not finished, of another network or method, without an average, or a
                file is damaged.
        """
        folder = path_of("folder", folder, "a run")
        of_kind("method", method, Method | None, "a Method, as offramp.method() returns it")
        flag("averaged", averaged)
        if data is not None and not hasattr(data, "targets"):
            raise UserError(f"data is {described(data)}, must be what offramp.open_data returns")
        record = read_record(folder)
        result = Result.from_json(read_result(folder, record))
        weights = folder / ("average.safetensors" if averaged else "weights.safetensors")
        if averaged and result.averaged is None:
            raise UserError(
                f"{folder} keeps no moving average of the weights; train with `Recipe(average=0.999)`, or "
                "open it without `averaged=True`"
            )
        if result.averaged is not None and not (lost := folder / "average.safetensors").is_file():
            if averaged:
                raise UserError(
                    f"{lost} is missing; restore it from a copy, or open the run without `averaged=True`"
                )
            say(f"{lost} is missing: the averaged weights whose result the run has can no longer be opened")
        if net is None:
            net = recorded_net(folder, record)
            if torch.cuda.is_available():
                net.cuda()
        check_net(net, "net")
        if method is None:
            method = recorded_method(folder, record)
        else:
            check_method(folder, record, method)
        with restored_on_error(net):
            trained = method.prepare(net) if method.lasting else net
            load_weights(trained.eval(), weights)
            if record["recipe"]["channels_last"]:  # the same rounding as at the end of the training
                trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        data = None if data is None else for_net(trained, data)
        return cls(net=trained, method=method, record=record, result=result, folder=folder, data=data)

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run was trained by."""
        return Recipe.from_dict(self.record["recipe"])

    def open_data(self, tokenizer: Any = None) -> OpenedData[Any]:
        """The run's data set; it is opened at the first call, if the training has not left it open.

        Args:
            tokenizer: That of the texts, where it is an object in Python or lies elsewhere by now. The data
                are kept, so that it is given once.

        Raises:
            UserError: It cannot be opened any more, or the tokenizer is not the run's.
        """
        if self._data is None or tokenizer is not None:
            self._data = for_net(self.net, open_recorded(self.record, tokenizer=tokenizer))
        return self._data

    def evaluate(self, data: Any = None, **settings: Any) -> Result:
        """Evaluate the net on a test set; returns a result such as :attr:`result`.

        Args:
            data: A set, or what :func:`offramp.data.open_data` opens; by default the run's own, under its
                recipe's limits. Whatever the set, it is normalised as the images of the training were.
            settings: How other data are read, where not as the run's own: ``size``, ``image``, ``label``,
                ``tasks``, ``ignore_label``; of texts ``text`` for ``image``, and ``tokenizer``, which the
                run's own may need as well (:meth:`open_data`).

        Raises:
            UserError: The set cannot be opened, or its images or classes are not those of the net; or
                settings for a set that is open already.
        """
        data = self.open_to_evaluate(data, **settings)
        tasks = dict(self.net.outputs)
        evaluation = Evaluation(self.net, tasks, recorded_transform(self.record), self.recipe.batch_size)
        record = self.record | {"data": {"name": data.name}}
        return Result.of(tasks, evaluation(data.test), cost(self.net), record)

    def open_to_evaluate(self, data: Any = None, **settings: Any) -> OpenedData[Any]:
        """The set of :meth:`evaluate`, opened and found to fit the net; arguments and errors are the same."""
        from offramp.data import OpenedData

        own_tokenizer = settings.pop("tokenizer", None) if data is None else None
        if settings and (data is None or isinstance(data, OpenedData)):
            raise UserError(f"{', '.join(settings)} can be set for other data only; give them by `data=...`")
        if data is None:
            data = self.open_data(own_tokenizer)
        elif not isinstance(data, OpenedData):  # the limits are of the run's own set
            data = open_other_set(data, self.record, **settings)
            for note in data.notes:
                say(note)
        check_as_recorded(data, self.record)
        if "text" in self.record["data"]:
            check_tokenizer(data, self.record["data"]["text"])
        opened: OpenedData[Any] = for_net(self.net, data)
        check_fits(self.net, opened, targets_from_json(self.record["data"]))
        return opened

    def batches(self, split: Literal["train", "val", "test"] = "val") -> Iterator[Batch]:
        """The samples of a split, normalised as in the training and not augmented, on the net's device.

        Raises:
            UserError: No such split, the run held out no validation samples, or its set cannot be opened.
        """
        word_of("split", split, ("train", "val", "test"), "split")
        images: Batches = getattr(self.open_data(), split)
        if not len(images):
            raise UserError(
                "the run held out no validation samples; train with `Recipe(val_fraction=0.1)`, "
                "or give samples of your own"
            )
        device = next(self.net.parameters()).device
        return images.batches(
            self.recipe.batch_size, transform=recorded_transform(self.record), device=device
        )

    def table(self) -> str:
        """Aligned text: parameters, FLOPs, top-1 and top-5 of every exit, then average and ensemble."""
        from offramp.runs.table import result_table

        return result_table(self.result)
