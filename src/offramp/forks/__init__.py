"""What crosses a fork, forward and backward."""

from offramp.forks.fork import Fork

__all__ = ["Fork"]
