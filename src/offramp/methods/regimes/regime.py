"""Regimes: which exits' losses there are, and what is trained, period by period of a training.

Kubaty et al., "How to Train Your Multi-Exit Model? Analyzing the Impact of Training Strategies", ICML 2025,
arXiv:2407.14320.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from offramp.checks import number
from offramp.errors import UserError, shown
from offramp.methods.passes import Passes
from offramp.methods.seeded import seeded
from offramp.nets import MultiExitNet

__all__ = ["HeadsAlone", "OnePeriod", "Period", "Regime", "TwoPeriods"]


@dataclass(frozen=True)
class Period:
    """Consecutive epochs of a training with losses, trained parameters, optimiser and schedule of their own.

    Attributes:
        name: What messages call it.
        epochs: How many it has.
        output: The only exit that has a loss, from 0: the net ends there, its forks are plain, and the
            method's other parts wait. None: all exits, as the method trains them.
        trained: What is trained of it; the rest is frozen, and in evaluation mode. None: all of it.
        lr_factor: Its learning rates, in multiples of the recipe's.
        passes: Cost of a step in passes of joint training; None: the method's.
        begin: Called as it begins, to put the net in the state that it has throughout the period.
    """

    name: str
    epochs: int
    output: int | None = None
    trained: tuple[nn.Module, ...] | None = None
    lr_factor: float = 1.0
    passes: Passes | None = None
    begin: Callable[[], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Regime:
    """Cuts a training into periods. The fields of a subclass are the method's options.

    Attributes:
        idle: Axes on which a part of a method would have nothing to do.
        idle_since: Why, in words that follow the method's name.
        plain_first: Whether a period comes first that trains the net as if its forks were plain.
        lasting: Whether the trained net has other heads than the net before.
        bodies_rest: Whether the layers of heads below their classifiers stay as they are.
    """

    idle: ClassVar[tuple[str, ...]] = ()
    idle_since: ClassVar[str] = "trains each exit with its own loss alone"
    plain_first: ClassVar[bool] = False
    lasting: ClassVar[bool] = False
    bodies_rest: ClassVar[bool] = False

    @property
    def reads_epochs(self) -> tuple[str, ...]:
        """What in it depends on how many epochs there will be."""
        return (f"the regime {type(self).__name__}",)

    @property
    def trains_backbone(self) -> bool:
        """Whether stages are trained, and not heads alone, which need a backbone that is trained already."""
        return True

    def check(self, net: nn.Module, method: str) -> None:
        """Check that the regime can train a net.

        Args:
            net: The net.
            method: What messages call the method.

        Raises:
            UserError: It has no exits.
        """
        if not isinstance(net, MultiExitNet):
            raise UserError(
                f"{shown(method)} trains exits and the backbone at different times, and "
                f"{type(net).__name__} is no MultiExitNet; take another method"
            )

    def prepare(self, net: nn.Module, method: str, seed: int) -> None:
        """Give the net what it has in this training and afterwards, in place; one that has it gets it anew.

        Args:
            net: A net that :meth:`check` allows.
            method: What messages call the method.
            seed: Of what is drawn.

        Raises:
            UserError: The net does not allow it.
        """

    def periods(self, epochs: int, net: nn.Module) -> list[Period]:
        """The periods of a training of so many epochs.

        Raises:
            UserError: There are too few epochs for them.
        """
        raise NotImplementedError

    def passes(self, method: Passes) -> Passes:
        """Cost of a step in passes of joint training, on average over the training.

        Args:
            method: What a step of the method's other parts costs.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OnePeriod(Regime):
    """The plain regime: everything is trained from the first epoch to the last."""

    reads_epochs = ()

    def check(self, net: nn.Module, method: str) -> None:  # noqa: D102
        pass

    def periods(self, epochs: int, net: nn.Module) -> list[Period]:  # noqa: D102
        return [Period("", epochs)]

    def passes(self, method: Passes) -> Passes:  # noqa: D102
        return method


@dataclass(frozen=True, kw_only=True)
class HeadsAlone(Regime):
    """New heads on a net whose stages, trained already, are frozen throughout."""

    lasting = True

    @property
    def trains_backbone(self) -> bool:  # noqa: D102
        return False

    def new_heads(self, net: MultiExitNet, method: str) -> list[nn.Module]:
        """The heads that take the places of the net's."""
        raise NotImplementedError

    def prepare(self, net: nn.Module, method: str, seed: int) -> None:  # noqa: D102
        assert isinstance(net, MultiExitNet)
        with seeded(next(net.parameters()).device, "heads", seed):
            heads = self.new_heads(net, shown(method))
        net.heads = nn.ModuleList(heads).train(net.training)

    def passes(self, method: Passes) -> Passes:  # noqa: D102
        return Passes(1, 0)


@dataclass(frozen=True, kw_only=True)
class TwoPeriods(Regime):
    """First the backbone alone, with the last exit's loss; then something else.

    Attributes:
        backbone_share: Share of the epochs that go to the backbone, rounded to whole epochs; 0 leaves them
            out, as for weights that are given.
        lr_factor: Learning rates of the second period, in multiples of the recipe's.

    Raises:
        UserError: A value out of its range.
    """

    plain_first = True
    backbone_share: float = 0.5
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        number(self, "backbone_share", "from 0 to below 1", lambda share: 0 <= share < 1)
        number(self, "lr_factor", "above 0 and at most 1e6", lambda factor: 0 < factor <= 1e6)

    @property
    def trains_backbone(self) -> bool:  # noqa: D102
        return self.backbone_share > 0

    def second(self, epochs: int, net: MultiExitNet) -> Period:
        """The period after the backbone's."""
        raise NotImplementedError

    def periods(self, epochs: int, net: nn.Module) -> list[Period]:  # noqa: D102
        assert isinstance(net, MultiExitNet)
        if not self.backbone_share:
            return [self.second(epochs, net)]
        if epochs < 2:
            raise UserError(
                "epochs is 1, and the backbone and the exits are trained in epochs of their own; give 2 or "
                "more, or backbone_share=0 for a backbone that is trained already"
            )
        first = min(max(round(self.backbone_share * epochs), 1), epochs - 1)
        backbone = Period("backbone", first, output=net.num_exits - 1, passes=Passes())
        return [backbone, self.second(epochs - first, net)]
