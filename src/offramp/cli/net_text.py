"""A network as one word, for the commands: see :mod:`offramp.nets.text`."""

from offramp.nets.text import build, check, parse_net

__all__ = ["build", "check", "parse_net"]
