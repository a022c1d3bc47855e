"""How conflict is resolved: a method has a part on each of six axes, and a name in a table."""

from offramp.methods.method import Method
from offramp.methods.table import METHODS, method

__all__ = ["METHODS", "Method", "method"]
