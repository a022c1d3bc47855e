"""A network with several exits: stages in a row, a fork and a head after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from torch import Tensor, nn

from offramp.checks import of_kind
from offramp.errors import UserError, shown
from offramp.forks.fork import Fork
from offramp.forks.forked_net import ForkedNet
from offramp.nets.channel_axis import Axes, ChannelAxis, channel_axes, look
from offramp.nets.exits import Exit, exits
from offramp.nets.named_inputs import named_inputs
from offramp.nets.net import Net, check_form, modules_of
from offramp.nets.passage import Passage, kept_exits, passage
from offramp.nets.sample import Example, checked_size
from offramp.tasks import Classification, Task
from offramp.tasks.outputs import exit_name

__all__ = ["Feature", "MultiExitNet"]

_Self = TypeVar("_Self", bound="MultiExitNet")
Feature = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class MultiExitNet(Net, ForkedNet):
    """A network of K stages in a row; after stage k a fork hands its feature to head k and to stage k+1.

    A feature is a Tensor ``[N, C, ...]`` or a tuple, NamedTuple, list or dict of Tensors (MSDNet's scales,
    fine to coarse). The last stage has no fork: its feature goes to the last head only.

    Args:
        stages: K modules, each mapping a feature to the next one; the first reads the input.
        heads: K modules, each mapping a feature to logits ``[N, classes]``. One with the class attribute
            ``reads_previous = True`` gets the logits of the exit before too, ``forward(feature, logits)``, in
            the graph (its loss then trains the earlier head, unless it detaches them); at the first exit they
            are None. A head that returns ``HandedOn(logits, other)`` hands on the other Tensor ``[N, ...]``
            in their place.
        input_size: Shape of one input without the batch axis, for dry runs and counting.
        example: An input for them where floats of that shape are none: a Tensor ``[N, ...]``, or a tuple or
            dict of such Tensors.
        channel_axis: Which axis of the features holds their channels, where the layers do not tell (see
            :meth:`channel_axes`): one for all exits, or a mapping from exit (from 1) to axis.
        convention: How :func:`offramp.cost` counts this net unless told otherwise, a key of
            :data:`~offramp.counting.conventions.CONVENTIONS`.
        task: What every exit predicts; by default the classes of ``label``.

    Attributes:
        exits_after: Of a net made by :func:`~offramp.attach`, the modules that exits 1 to K-1 stand behind.
        frozen_backbone: Whether stages and last head stay in evaluation mode as long as none of their
            parameters is trained (``attach(..., freeze_backbone=True)``).

    Raises:
        UserError: Fewer than two exits, stages and heads differ in number, or ``task`` is none.
    """

    exits_after: tuple[str, ...] = ()
    frozen_backbone: bool = False

    def __init__(
        self,
        stages: Iterable[nn.Module],
        heads: Iterable[nn.Module],
        *,
        input_size: tuple[int, ...] = (3, 32, 32),
        example: Example | None = None,
        channel_axis: ChannelAxis | None = None,
        convention: str = "macs",
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(modules_of("stages", stages))
        self.heads = nn.ModuleList(modules_of("heads", heads))
        if len(self.stages) != len(self.heads):
            raise UserError(
                f"a multi-exit net needs one head per stage, "
                f"got {len(self.stages)} stages and {len(self.heads)} heads"
            )
        if len(self.heads) < 2:
            raise UserError(
                f"a multi-exit net needs at least two exits, got {len(self.heads)}; "
                "with one exit there is nothing to share and nothing to resolve"
            )
        if not isinstance(task, Task | None):
            raise UserError(f"task is a Task such as offramp.tasks.Classification(), got {shown(task)}")
        check_form(example, channel_axis)
        of_kind("convention", convention, str, "how operations are counted, e.g. 'macs'")
        self.forks = nn.ModuleList(Fork() for _ in self.stages[:-1])
        self.input_size = checked_size(input_size)
        self.example = example
        self.channel_axis = channel_axis
        self.convention = convention
        task = Classification() if task is None else task
        self.outputs = {exit_name(k): task for k in range(1, len(self.heads) + 1)}

    @overload
    def forward(self, x: Feature, *, exits: int | None = None) -> list[Tensor]: ...

    @overload
    def forward(self, x: Feature, *, keep: Literal[True]) -> Passage: ...

    def forward(self, x: Feature, *, keep: bool = False, exits: int | None = None) -> list[Tensor] | Passage:
        """Logits of every exit, shallow to deep: K tensors ``[N, classes]``.

        Args:
            x: The input; a dict where the net's `example` is one.
            exits: Stop after so many exits, fewer than K.
            keep: Return them together with the features, as a :class:`~offramp.nets.passage.Passage`.

        Raises:
            UserError: A named input is missing, unknown or misshapen.
        """
        if keep:
            return passage(self, named_inputs(x, self.example))
        logits = []
        for exit in self.exits(x):
            logits.append(exit.logits)
            if exit.number == exits:
                break
        return logits

    def exits(
        self, x: Feature, *, keep: bool = False, call: Callable[..., Any] | None = None
    ) -> Iterator[Exit]:
        """Run the forward pass one exit at a time, shallow to deep.

        Nothing that follows an exit runs before the next one is asked for, so ``break`` saves the rest::

            for exit in net.exits(x):
                if exit.logits.softmax(-1).amax() > 0.9:
                    break

        Args:
            x: The input.
            keep: Give each exit its ``feature`` too, and every Tensor of its trunk a place of its own in the
                graph.
            call: Calls each part of the net, unless features are kept:
                ``call("stage" | "fork" | "head", module, *inputs)``.
        """
        x = named_inputs(x, self.example)
        return kept_exits(self, x) if keep else exits(self.stages, self.forks, self.heads, x, call)

    def walk(self, x: Feature, call: Callable[..., Any]) -> list[Tensor]:
        """The logits, where ``call("stage" | "fork" | "head", module, *inputs)`` runs each part."""
        return [exit.logits for exit in self.exits(x, call=call)]

    @property
    def num_exits(self) -> int:
        """How many exits the network has (K)."""
        return len(self.heads)

    def train(self: _Self, mode: bool = True) -> _Self:
        """Put the net in training mode, all but a frozen backbone, or in evaluation mode."""
        super().train(mode)
        backbone = (*self.stages, self.heads[-1])
        if self.frozen_backbone and not any(p.requires_grad for part in backbone for p in part.parameters()):
            for part in backbone:
                part.eval()
        return self

    def channel_axes(self) -> list[Axes]:
        """Find, for exits 1 to K-1, the channel axis of each Tensor of the feature, by running the net once.

        None stands for a Tensor that is only carried along and has no gradient. The net stays as it was.

        Raises:
            UserError: An axis is not certain; the line asks for ``channel_axis=``.
        """
        return channel_axes(look([*self.stages], [*self.heads[:-1]], self.sample(2)), self.channel_axis)

    def extra_repr(self) -> str:  # noqa: D102
        return f"exits after {', '.join(self.exits_after)}" if self.exits_after else ""
