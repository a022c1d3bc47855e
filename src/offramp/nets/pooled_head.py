"""The head that fits a feature: pool what can be pooled, then one Linear."""

from __future__ import annotations

from torch import Tensor, nn

from offramp.errors import UserError

__all__ = ["Last", "TokenMean", "pooled_head"]


class Last(nn.Module):
    """Of a feature that carries other Tensors along, the last one."""

    def forward(self, feature: tuple[Tensor, ...]) -> Tensor:  # noqa: D102
        return feature[-1]


class TokenMean(nn.Module):
    """``[N, T, C]`` to ``[N, C]``."""

    def forward(self, tokens: Tensor) -> Tensor:  # noqa: D102
        return tokens.mean(1)


def pooled_head(name: str, output: object, classes: int) -> nn.Module:
    """A head for features like ``output``, on its device and in its dtype.

    Args:
        name: The module that gave ``output``, for the errors.
        output: ``[N, C, H, W]`` (average pooling), ``[N, T, C]`` (mean over tokens) or ``[N, C]``.
        classes: How many logits.

    Raises:
        UserError: ``output`` is no float Tensor of such a shape.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        kind = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"module '{name}' returns a {kind}, not a float Tensor; cut after one that does")
    pooling: dict[int, list[nn.Module]] = {
        4: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        3: [TokenMean()],
        2: [],
    }
    if output.ndim not in pooling:
        raise UserError(
            f"module '{name}' returns shape {[*output.shape]}, but heads read [N, C, H, W], [N, T, C] or "
            "[N, C]; cut after a module that returns one of these"
        )
    channels = output.shape[1] if output.ndim == 4 else output.shape[-1]
    linear = nn.Linear(channels, classes, device=output.device, dtype=output.dtype)
    return nn.Sequential(*pooling[output.ndim], linear) if pooling[output.ndim] else linear
