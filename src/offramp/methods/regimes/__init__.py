"""Regimes: which exits' losses there are, and what is trained, period by period of a training."""

from offramp.methods.regimes.regime import OnePeriod, Period, Regime

__all__ = ["OnePeriod", "Period", "Regime"]
