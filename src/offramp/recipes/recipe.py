"""How to train: one frozen record, the same in Python, in a YAML file and on the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from offramp.checks import choice, described, number, of_kind, path_of, plain, switch, whole
from offramp.errors import UserError, shown
from offramp.recipes._checks import check_class_weights, check_labels, check_milestones, check_options
from offramp.recipes._streams import check_streams, of_set
from offramp.recipes.milestones import shorter

__all__ = ["Recipe"]

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "multistep", "onecycle")
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Recipe:
    """Everything about a training run but the net, the data and the method.

    The defaults suit a small trial: SGD with Nesterov momentum and one cycle of the learning rate.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images per step, over all devices together. A last, smaller batch is dropped.
        accumulate: Cut each batch into so many micro-batches, one in memory at a time, for the same step of
            the optimiser (:mod:`offramp.methods.loops.minibatch`). Batch norm sees micro-batches. ``"auto"``:
            whole batches, cut into twice as many whenever a step runs out of memory.
        optimizer: ``"sgd"``, ``"adamw"``, or ``"adam"``, whose weight decay is a part of the gradient.
        lr: Peak learning rate.
        momentum: Of SGD.
        nesterov: Nesterov's momentum in SGD.
        weight_decay: On every parameter.
        head_lr_factor: Learning rate of the heads, in multiples of ``lr``.
        head_decay: Weight decay of the heads; None: ``weight_decay``.
        norm_lr_factor: Learning rate of norm layers and biases, in multiples of what the rest of the net, or
            of its head, has.
        norm_decay: Weight decay of norm layers and biases, those in heads too; None: as the rest.
        schedule: ``"onecycle"``, ``"cosine"``, ``"multistep"`` or ``"constant"``.
        milestones: Epochs after which ``"multistep"`` multiplies the learning rate by ``gamma``.
        gamma: See ``milestones``.
        precision: ``"fp32"``, ``"bf16"`` (autocast) or ``"fp16"`` (autocast and loss scaling).
        channels_last: Keep images and weights in the channels-last memory format; None does so for nets with
            overlapping 2-D convolutions, which are faster in it (:mod:`offramp.training._layout`). A run
            records what it took, and goes on with it.
        compile: Compile the net's forward with ``torch.compile``.
        clip: Largest norm of the whole gradient; 0 leaves it alone.
        average: Share of its old value that a moving average of the weights keeps at each step, e.g. 0.999;
            it is evaluated beside the weights themselves (:mod:`offramp.training._average`). 0: none.
        last_epochs: Measure the weights after each of the last so many epochs (all, if there are fewer) on
            the test set, once the training is over, and report the mean beside the final epoch
            (:mod:`offramp.training._last_epochs`). None: 10 for nets with dense outputs, as published; else
            0, the final epoch alone.
        label_smoothing: Mass of the target spread over all classes.
        class_weights: How much the samples of each class count, one number per class; ``"balanced"`` counts
            them in inverse proportion to the class's share of the training images. None: 1 each.
        mixup: alpha of mixup, which mixes training images with each other (:mod:`offramp.data._mixing`);
            0: none.
        cutmix: alpha of CutMix, likewise; with both, each batch draws one of them.
        seed: Of the order of the images, the augmentation and dropout.
        augment: Name of the augmentation pipeline; None: ``"crop-flip"`` for images, ``"nyuv2"`` where their
            pixels have targets, ``"none"`` for texts. A run records what it took.
        val_fraction: Share of the training set held out for validation; 0 trains on all of it.
        train_limit: Use only so many training images; None for all.
        test_limit: Use only so many test images; None for all.
        size: Cut every image to a square of so many pixels as it is read, as the pipeline ``imagenet`` needs;
            None serves them as they are.
        val_split: Use the validation split that the set brings, and hold none out; see
            :func:`offramp.data.open_data`.
        image_channels: How many an image file has: 1 (gray), 3 or 4; None: as many as the net reads, and 3
            where the data are opened first, as on the command line.
        image: Column of the images; None: the usual one.
        label: Column of the labels; None: the usual one.
        tasks: Several targets for each sample: the name of each with its column, ``{"class": "label", "box":
            "box"}`` or ``"class:label,box:box"``; see :func:`offramp.data.open_data`. None: one class.
        classes: How many there are, or all of them; None: those that the set names or has.
        ignore_label: Leave out the images with this label, or with one of these.
        tokenizer: Folder of the tokenizer, for texts; see :func:`offramp.data.open_data`.
        max_tokens: Most tokens of a text, which is cut there; None: as many as the tokenizer says that its
            net takes.
        text: Column of the texts; None: the usual one.
        streams: With several data sets: ``"together"`` (each step has samples of all) or ``"in-turn"`` (each
            step has those of one); see :class:`~offramp.data.Streams`.
        epoch_of: The set that an epoch sees exactly once, the ``"longest"`` or the ``"shortest"``.
        proportions: Name of a set -> its share of the samples, or of the steps if they go in turn; 1 where it
            is not named.
        sets: Name of a set -> settings that it has of its own, of those from ``augment`` to ``text``, e.g.
            ``{"depth": {"size": 64}}``.
        checkpoint_every: Steps between checkpoints; 0 writes one at the end of each epoch only.
        options: The method's own options, e.g. ``{"beta": 0.9}`` for ``dfs``.

    Raises:
        UserError: A value of the wrong type or out of range.
    """

    epochs: int = 30
    batch_size: int = 128
    accumulate: int | Literal["auto"] = 1
    optimizer: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    head_lr_factor: float = 1.0
    head_decay: float | None = None
    norm_lr_factor: float = 1.0
    norm_decay: float | None = None
    schedule: str = "onecycle"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    precision: str = "fp32"
    channels_last: bool | None = None
    compile: bool = False
    clip: float = 0.0
    average: float = 0.0
    last_epochs: int | None = None
    label_smoothing: float = 0.0
    class_weights: str | list[float] | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    seed: int = 0
    augment: str | None = None
    val_fraction: float = 0.1
    train_limit: int | None = None
    test_limit: int | None = None
    size: int | None = None
    val_split: bool = True
    image_channels: int | None = None
    image: str | None = None
    label: str | None = None
    tasks: Mapping[str, str] | None = None
    classes: int | list[Any] | None = None
    ignore_label: Any = None
    tokenizer: str | None = None
    max_tokens: int | None = None
    text: str | None = None
    streams: str = "together"
    epoch_of: str = "longest"
    proportions: Mapping[str, int] = field(default_factory=dict)
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checkpoint_every: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for setting in dataclasses.fields(self):
            object.__setattr__(self, setting.name, plain(getattr(self, setting.name)))
        try:
            self._check()
        except UserError as error:
            raise UserError(f"recipe: {error}") from None
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if str(setting.type).startswith("float") and value is not None:
                object.__setattr__(self, setting.name, float(value))  # 1 and 1.0 are the same recipe

    def _check(self) -> None:
        if not isinstance(self.milestones, Sequence) or isinstance(self.milestones, str):
            raise UserError(f"milestones is {shown(self.milestones)}, must be a list of epochs")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if not isinstance(self.options, Mapping):
            raise UserError(f"options is {shown(self.options)}, must be a mapping of names to values")
        object.__setattr__(self, "options", dict(self.options))
        whole(self, "epochs", 1)
        whole(self, "batch_size", 1)
        if not isinstance(self.accumulate, str):
            whole(self, "accumulate", 1)
        elif self.accumulate != "auto":
            raise UserError(
                f"accumulate is {shown(self.accumulate)}, must be a whole number of at least 1, or 'auto'"
            )
        if self.micro_batches > self.batch_size:
            raise UserError(f"accumulate is {self.accumulate}, must be at most batch_size, {self.batch_size}")
        whole(self, "seed", 0)
        whole(self, "checkpoint_every", 0)
        for name in ("train_limit", "test_limit", "size", "image_channels", "max_tokens"):
            if getattr(self, name) is not None:
                whole(self, name, 1)
        number(self, "lr", "above 0 and at most 1e30", lambda v: 0 < v <= 1e30)
        number(self, "momentum", "from 0 to below 1", lambda v: 0 <= v < 1)
        number(self, "weight_decay", "from 0 to 1e30", lambda v: 0 <= v <= 1e30)
        for name in ("head_lr_factor", "norm_lr_factor"):
            number(self, name, "above 0 and at most 1e6", lambda v: 0 < v <= 1e6)
        for name in ("head_decay", "norm_decay"):
            if getattr(self, name) is not None:
                number(self, name, "from 0 to 1e30, or null", lambda v: 0 <= v <= 1e30)
        number(self, "gamma", "above 0 and at most 1", lambda v: 0 < v <= 1)
        number(self, "clip", "0 or more", lambda v: v >= 0)
        number(self, "average", "from 0 to below 1", lambda v: 0 <= v < 1)
        if self.last_epochs is not None:
            whole(self, "last_epochs", 0)
        number(self, "label_smoothing", "from 0 to below 1", lambda v: 0 <= v < 1)
        number(self, "mixup", "0 or more", lambda v: v >= 0)
        number(self, "cutmix", "0 or more", lambda v: v >= 0)
        number(self, "val_fraction", "from 0 to below 1", lambda v: 0 <= v < 1)
        choice(self, "optimizer", OPTIMIZERS)
        choice(self, "schedule", SCHEDULES)
        choice(self, "precision", PRECISIONS)
        for name in ("nesterov", "compile", "val_split"):
            switch(self, name)
        if not isinstance(self.channels_last, bool | None):
            also = ", or null to decide by the net"
            raise UserError(f"channels_last is {shown(self.channels_last)}, must be true or false{also}")
        if not isinstance(self.augment, str | None):
            raise UserError(f"augment is {shown(self.augment)}, must name a pipeline, e.g. crop-flip")
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise UserError("nesterov needs momentum above 0; set momentum, or `nesterov=False`")
        check_labels(self)
        check_streams(self)
        check_class_weights(self.class_weights)
        if isinstance(self.class_weights, (list, tuple)):
            object.__setattr__(self, "class_weights", list(self.class_weights))
        check_milestones(self.schedule, self.milestones, self.epochs)

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches of a batch at the start."""
        return 1 if self.accumulate == "auto" else self.accumulate

    @property
    def own_groups(self) -> bool:
        """Whether heads, or norm layers and biases, have a learning rate or decay of their own."""
        own = (self.head_lr_factor, self.head_decay, self.norm_lr_factor, self.norm_decay)
        return own != (1.0, None, 1.0, None)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """A recipe from plain values; a key that is no field of the recipe is an option of the method.

        Raises:
            UserError: A key that neither the recipe nor any method knows, or a value out of range.
        """
        of_kind("recipe", values, Mapping, "a mapping from keys to values")
        return cls().replace(**{str(key): value for key, value in values.items()})

    @classmethod
    def load(cls, source: str | Path) -> Recipe:
        """The recipe in a YAML file, or a shipped one by name, e.g. ``"paper"``.

        Raises:
            UserError: Neither a file nor a shipped name, not a YAML mapping, or a wrong key or value.
        """
        from offramp.recipes.file import read

        source = path_of("recipe", source, "a YAML file, or the name of a shipped recipe")
        values = read(source)
        try:
            return cls.from_dict(values)
        except UserError as error:
            raise UserError(f"{source}: {error}") from None

    def replace(self, /, **changes: Any) -> Recipe:
        """A copy with some values changed; other keys than the recipe's are options of the method.

        Fewer epochs without new milestones scale those of ``multistep`` along; a line says so.

        Raises:
            UserError: A key that neither the recipe nor any method knows, or a value out of range.
        """
        names = [f.name for f in dataclasses.fields(self)]
        fields = {key: value for key, value in changes.items() if key in names}
        options = {key: value for key, value in changes.items() if key not in names}
        if options:
            check_options(options, names)
            before = fields.get("options", self.options)
            if isinstance(before, Mapping):  # else it is refused below
                kept = {key: value for key, value in before.items() if key not in options}
                fields["options"] = kept | options  # in the order in which they were given
        if "epochs" in fields and not fields.keys() & {"milestones", "schedule"}:
            fields |= shorter(self.schedule, self.milestones, self.epochs, fields["epochs"])
        return dataclasses.replace(self, **fields)

    def of_set(self, name: str) -> Recipe:
        """The recipe for one of several data sets: its own settings take the place of the common ones."""
        recipe: Recipe = of_set(self, name)
        return recipe

    def with_settings(self, settings: Iterable[str]) -> Recipe:
        """A copy changed by ``"key=value"`` texts, as the command line takes them.

        Values are read as YAML: ``lr=0.1``, ``milestones=[60, 80]``, ``compile=true``, ``train_limit=null``.

        Raises:
            UserError: A text without ``=``, an unknown key, or a value out of range.
        """
        from offramp.recipes.file import setting

        if isinstance(settings, str) or not isinstance(settings, Iterable):
            raise UserError(f"settings are {described(settings)}, must be a list of texts, e.g. ['lr=0.1']")
        return self.replace(**dict(setting(text) for text in settings))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; :meth:`from_dict` takes them back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **values,
            "milestones": list(self.milestones),
            "options": dict(self.options),
            "proportions": dict(self.proportions),
            "sets": {name: dict(settings) for name, settings in self.sets.items()},
        }
