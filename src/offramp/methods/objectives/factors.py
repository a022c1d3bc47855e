"""Fixed factors of the losses: one per output in order, or by the outputs' names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from offramp.checks import is_number, numbers
from offramp.errors import UserError, guess, shown

__all__ = ["Factors", "check_factors", "factors_of"]

Factors = Sequence[float] | Mapping[str, float]


def check_factors(
    part: object, name: str, bounds: str, allowed: Callable[[Sequence[float]], bool]
) -> tuple[float, ...] | dict[str, float]:
    """Refuse all but a list of finite numbers within bounds, or a mapping of names to such numbers.

    Args:
        part: What has the option.
        name: The option, a plural.
        bounds: What it must be, in words.
        allowed: Whether factors, at least one, are; of a mapping those of the outputs that it leaves out, 1,
            are among them.

    Returns:
        The factors, as a frozen record keeps them.

    Raises:
        UserError: It is something else, or out of bounds.
    """
    value = getattr(part, name)
    if not isinstance(value, Mapping):
        return numbers(part, name, bounds, allowed)
    named = all(isinstance(key, str) and is_number(factor) for key, factor in value.items())
    if not value or not named or not allowed([*value.values(), 1.0]):
        raise UserError(f"{name} are {shown(value)}, must be {bounds}")
    return dict(value)


def factors_of(factors: Factors, outputs: Iterable[str], name: str) -> tuple[float, ...]:
    """Factors of a net's outputs, in their order; an output that a mapping leaves out has the factor 1.

    Args:
        factors: One per output, or by the outputs' names.
        outputs: These names.
        name: What a message calls the factors.

    Raises:
        UserError: There is another number of them, or one for an output that the net lacks.
    """
    outputs = list(outputs)
    if not isinstance(factors, Mapping):
        if len(factors) != len(outputs):
            raise UserError(f"{name} are {len(factors)}, outputs {len(outputs)}; give one weight per output")
        return tuple(factors)
    for key in factors:
        if key not in outputs:
            raise UserError(
                f"{name}: the net has no output {shown(key)}{guess(key, outputs)}; it has: "
                f"{', '.join(outputs)}"
            )
    chosen = tuple(float(factors.get(key, 1.0)) for key in outputs)
    if not any(chosen):
        raise UserError(f"{name} are 0 for every output, so that nothing is learned; give one above 0")
    return chosen
