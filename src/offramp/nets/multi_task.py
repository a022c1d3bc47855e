"""A network with several tasks: a trunk that they share, and a decoder for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, overload

from torch import Tensor, nn

from offramp.checks import described
from offramp.errors import UserError
from offramp.forks.fork import Fork
from offramp.forks.forked_net import ForkedNet
from offramp.nets.channel_axis import Axes, ChannelAxis, channel_axes, look
from offramp.nets.named_inputs import named_inputs
from offramp.nets.net import Net, check_form, modules_of
from offramp.nets.passage import Passage, walked
from offramp.nets.sample import Example, checked_size
from offramp.tasks import Task

__all__ = ["MultiTaskNet"]


class MultiTaskNet(Net, ForkedNet):
    """A trunk of S stages in a row; after each, a fork hands its feature to T decoders and to the next stage.

    Most trunks are one stage: one fork with T consumers. A net with exits has S > 1 stages and T decoders
    after each; its outputs stand stage by stage. A feature is whatever a stage returns and a decoder reads: a
    Tensor ``[N, ...]``, or a tuple, list or dict of Tensors (several scales, indices of a max-pooling).

    :func:`~offramp.multi_task` makes one of parts that it checks.

    Args:
        stages: S modules; the first reads the input.
        decoders: S * T modules, the T of the first stage first, each from that stage's feature to its output.
        outputs: The task of each output by its name, in the order of the decoders.
        input_size: Shape of one input without the batch axis, for dry runs and counting.
        example: An input for them where floats of that shape are none: a Tensor ``[N, ...]``, or a tuple or
            dict of such Tensors.
        channel_axis: Which axis of the trunk's feature holds its channels, where the layers do not tell (see
            :meth:`channel_axes`); with exits also a mapping from exit (from 1) to axis.

    Attributes:
        forks: S modules; that of the last stage has no next stage to hand to.

    Raises:
        UserError: The numbers of stages, decoders and outputs do not fit.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        decoders: Iterable[nn.Module],
        outputs: Mapping[str, Task],
        *,
        input_size: tuple[int, ...] | None = None,
        example: Example | None = None,
        channel_axis: ChannelAxis | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(outputs, Mapping) or not all(isinstance(task, Task) for task in outputs.values()):
            raise UserError(
                f"outputs are {described(outputs)}, must map the name of each output to its task, e.g. "
                "{'depth': offramp.tasks.Depth()}"
            )
        self.stages = nn.ModuleList(modules_of("stages", stages))
        self.decoders = nn.ModuleList(modules_of("decoders", decoders))
        self.outputs = dict(outputs)
        check_form(example, channel_axis)
        count = len(self.stages)
        if not outputs or len(self.decoders) != len(outputs) or not count or len(outputs) % count:
            raise UserError(
                f"a multi-task net has a decoder for each output, and as many behind each stage; got {count} "
                f"stages, {len(self.decoders)} decoders and {len(outputs)} outputs"
            )
        self.forks = nn.ModuleList(Fork(self.num_tasks + (k < count)) for k in range(1, count + 1))
        if input_size is not None:
            self.input_size = checked_size(input_size)
        self.example = example
        self.channel_axis = channel_axis

    @property
    def num_tasks(self) -> int:
        """How many decoders stand behind each stage (T)."""
        return len(self.decoders) // len(self.stages)

    @property
    def heads(self) -> nn.ModuleList:  # type: ignore[override]
        """The decoders, by the name that recipes with settings for heads look for."""
        return self.decoders

    @overload
    def forward(self, x: Any) -> list[Tensor]: ...

    @overload
    def forward(self, x: Any, *, keep: Literal[True]) -> Passage: ...

    def forward(self, x: Any, *, keep: bool = False) -> list[Tensor] | Passage:
        """The outputs of all decoders, in the order of ``outputs``: Tensors ``[N, ...]``.

        Args:
            x: The input; a dict where the net's `example` is one.
            keep: Return them together with what each stage hands to its fork, as a
                :class:`~offramp.nets.passage.Passage`.

        Raises:
            UserError: A named input is missing, unknown or misshapen.
        """
        return walked(self, x) if keep else self.walk(x, _plain)

    def walk(self, x: Any, call: Callable[..., Any]) -> list[Tensor]:
        """The outputs, where ``call("stage" | "fork" | "head", module, *inputs)`` runs each part."""
        x = named_inputs(x, self.example)
        outputs: list[Tensor] = []
        for stage, fork in zip(self.stages, self.forks, strict=True):
            handed = call("fork", fork, call("stage", stage, x))
            for feature in handed[: self.num_tasks]:
                outputs.append(call("head", self.decoders[len(outputs)], feature))
            x = handed[-1]  # the next stage's, where there is one
        return outputs

    def channel_axes(self) -> list[Axes]:
        """Find, for each fork, the channel axis of each Tensor of the feature, by running the net once.

        None stands for a Tensor that is only carried along and has no gradient. The net stays as it was.

        Raises:
            UserError: An axis is not certain; the line asks for ``channel_axis=``.
        """
        tasks = self.num_tasks
        readers = [_Readers(self.decoders[k * tasks : (k + 1) * tasks]) for k in range(len(self.stages))]
        features = look([*self.stages, nn.Identity()], readers, self.sample(2))
        return channel_axes(features, self.channel_axis, exits=len(self.stages) > 1)


class _Readers(nn.ModuleList):
    """Modules that read the same feature."""

    def forward(self, x: Any) -> list[Any]:
        return [module(x) for module in self]


def _plain(part: str, module: nn.Module, *inputs: Any) -> Any:
    return module(*inputs)
