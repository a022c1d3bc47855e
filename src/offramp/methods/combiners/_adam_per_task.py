"""An Adam for each output, on the tensors that its loss reaches.

Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, is torch's own, once for each output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from offramp.errors import UserError

__all__ = ["AdamPerTask"]


class AdamPerTask(torch.optim.Optimizer):
    """Adam or AdamW whose moments, and steps, are of one output's gradient each; the steps add up.

    It takes over the groups of an optimiser, which go on to say learning rate, betas, weight decay and the
    rest; a scheduler may change them. A tensor that several outputs share moves by

        sum over k of factor_k * Adam's step of output k

    with weight decay as a whole: AdamW's once a step, Adam's in equal parts on the outputs' gradients. A
    tensor with one owner moves as by the optimiser itself, and so does what is of no output. An output
    without a gradient in a step leaves its moments and its count of steps alone.

    Args:
        optimizer: An Adam or AdamW that has taken no step; from now on this one takes the steps.
        sharers: For each of the net's parameters how many outputs it has.
        outputs: How many outputs there are (K).
        mean: Divide the steps of a shared tensor by its number of outputs.
        clip: Largest norm of each output's gradient, over all that it reaches; 0 leaves it alone.

    Attributes:
        parts: The K + 1 optimisers; the last one is for what belongs to no output.
    """

    def __init__(
        self,
        optimizer: torch.optim.Adam,
        sharers: Mapping[Tensor, int],
        outputs: int,
        *,
        mean: bool = False,
        clip: float = 0.0,
    ) -> None:
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.sharers, self.mean, self.clip = sharers, mean, clip
        groups: list[dict[str, Any]] = []
        # for each group of a part the group that it is of, and how many outputs share its tensors
        self.places: list[tuple[int, int]] = []
        for number, group in enumerate(self.param_groups):
            members: dict[int, list[Tensor]] = {}
            for parameter in group["params"]:
                members.setdefault(sharers.get(parameter, 1), []).append(parameter)
            groups += [{**_settings(group), "params": tensors} for tensors in members.values()]
            self.places += [(number, count) for count in members]
        make = type(optimizer)
        self.parts = [make([{**group} for group in groups]) for _ in range(outputs + 1)]
        for part in self.parts:
            self._set_up(part, 1.0)
        self.rows: dict[int, Mapping[Tensor, Tensor]] = {}
        self.owner: dict[Tensor, int] = {}
        self.factors: dict[int, float] = {}

    def hear(
        self,
        rows: Mapping[int, Mapping[Tensor, Tensor]],
        owner: Mapping[Tensor, int],
        factors: Mapping[int, float],
    ) -> None:
        """Take the gradients for the next step, beside those in ``.grad``.

        Args:
            rows: Output -> tensor -> gradient of this output's loss, where several losses reach the tensor.
            owner: Of other tensors the output whose loss's gradient ``.grad`` is.
            factors: Output -> what its loss was multiplied by, and what its steps shall be multiplied by.

        Raises:
            UserError: It has heard of a batch since the last :meth:`zero_grad`.
        """
        if self.factors:
            raise UserError(
                "adatask takes a step for each batch, and this is another backward pass since the gradients "
                "were last set to zero; call optimizer.zero_grad() before each, on the optimiser that "
                "method.optimizer() gave"
            )
        self.rows.update(rows)
        self.owner.update(owner)
        self.factors.update(factors)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step for every output.

        Args:
            closure: Runs the net again and goes backward, as for torch's optimisers.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found = {p: p.grad for group in self.param_groups for p in group["params"]}
        decay = self._decay({p for p, gradient in found.items() if gradient is not None})
        apart = set[Tensor]().union(*self.rows.values())
        try:
            for k, part in enumerate(self.parts):
                factor, row = self.factors.get(k, 1.0), self.rows.get(k, {})
                for p, gradient in found.items():
                    mine = self.owner.get(p, len(self.parts) - 1) == k
                    own = row.get(p) if p in apart else gradient if mine else None
                    p.grad = None if own is None or not factor else own.to(p.dtype) / factor
                if self.clip:
                    torch.nn.utils.clip_grad_norm_([*found], self.clip)
                for p, share in decay.items():
                    if p.grad is not None:
                        p.grad.add_(share)
                self._set_up(part, factor)
                part.step()
        finally:
            for p, gradient in found.items():
                p.grad = gradient
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, those of each output too."""
        super().zero_grad(set_to_none)
        self.rows.clear()
        self.owner.clear()
        self.factors.clear()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, while the optimiser is being made.

        Raises:
            UserError: It is made already.
        """
        if hasattr(self, "parts"):
            raise UserError(
                "adatask's optimiser takes no more groups; give all parameters to the Adam it is made of"
            )
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """The groups, and the state of each part."""
        return {**super().state_dict(), "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            UserError: It is the state of another optimiser.
        """
        if len(state_dict.get("parts") or ()) != len(self.parts):
            raise UserError(
                "this is no state of adatask's optimiser on this net; give what the state_dict() of the "
                "optimiser that method.optimizer() made has returned"
            )
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "parts"})

    def _decay(self, moving: Collection[Tensor]) -> dict[Tensor, Tensor]:
        """Shrink shared tensors as AdamW does; for Adam, what their decay adds to each output's gradient.

        Each output adds its part at the weights as they are before any of them steps.
        """
        shares: dict[Tensor, Tensor] = {}
        for group in self.param_groups:
            shared = [p for p in group["params"] if p in moving and self.sharers.get(p, 1) > 1]
            if not group["weight_decay"] or not shared:
                continue
            if group["decoupled_weight_decay"]:
                torch._foreach_mul_(shared, 1 - group["lr"] * group["weight_decay"])
                continue
            sign = -1 if group["maximize"] else 1
            shares |= {p: p * (sign * group["weight_decay"] / self.sharers[p]) for p in shared}
        return shares

    def _set_up(self, part: torch.optim.Optimizer, factor: float) -> None:
        """Set what the groups say now in a part's."""
        for (number, count), group in zip(self.places, part.param_groups, strict=True):
            now = self.param_groups[number]
            group.update(_settings(now))
            if count > 1:
                group["lr"] = now["lr"] * factor / (count if self.mean else 1)
                group["weight_decay"] = 0.0  # see _decay


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}
