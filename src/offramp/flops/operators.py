"""Formulas for operators that torch miscounts, and a watch for operators whose products nobody counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["FORMULAS", "Operators", "memory_of", "without_formula"]

_aten = torch.ops.aten


def _recurrent(x: Sequence[int], w_x: Sequence[int], w_h: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of one LSTM layer in one direction: both matrices at each of the steps ``[T, N, D]``."""
    return 2 * x[0] * x[1] * (math.prod(w_x) + math.prod(w_h))


def _recurrent_backward(*args: Any, **_: Any) -> int:
    """Operations of an LSTM layer's backward pass: twice those of the forward pass."""
    return 2 * _recurrent(*args)


def _cudnn(x: Sequence[int], weights: Sequence[Sequence[int]], *_: Any, **__: Any) -> int:
    """Operations of a recurrent network under cuDNN, all layers and directions."""
    return 2 * x[0] * x[1] * sum(math.prod(w) for w in weights if len(w) == 2)


def _convolution_backward(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], *args: Any, **_: Any
) -> int:
    """Operations of a convolution's gradients; torch's own formula over-counts grouped ones."""
    transposed, mask = args[4], args[7]
    product = 2 * math.prod(weight) * grad[0] * math.prod(x[2:] if transposed else grad[2:])
    return product * (int(mask[0]) + int(mask[1]))


# As torch.utils.flop_counter wants them: shapes for tensors, and two operations a multiply-accumulate.
FORMULAS: dict[Any, Callable[..., int]] = {
    _aten.convolution_backward: _convolution_backward,
    _aten.mkldnn_rnn_layer: _recurrent,
    _aten.mkldnn_rnn_layer_backward: _recurrent_backward,
    _aten._cudnn_rnn: _cudnn,
    _aten.mv: lambda matrix, vector, **_: 2 * math.prod(matrix),
    _aten.addmv: lambda x, matrix, vector, **_: 2 * math.prod(matrix),
    _aten.dot: lambda a, b, **_: 2 * math.prod(a),
    _aten.addr: lambda x, a, b, **_: 2 * math.prod(a) * math.prod(b),
    _aten.linalg_vector_norm: lambda x, *_, **__: 0,  # elementwise and a sum, as `F.normalize` has it
}

_TORCHS = ("aten", "prims", "prim", "profiler")  # namespaces of torch's own operators
# those of them that multiply matrices and have a formula neither there nor here
_HIDING = (
    "_cdist", "_cudnn_rnn_backward", "_euclidean_dist", "_fft", "_int_mm", "_linalg", "_sparse", "_trilinear",
    "_weight_int", "addbmm", "cholesky", "linalg", "miopen_rnn", "ormqr", "sparse",
    "triangular_solve", "vdot",
)  # fmt: skip


def without_formula(operators: Iterable[str]) -> str:
    """Say that operators cannot be counted, and what gives them a formula."""
    return (
        f"torch's FlopCounterMode has no formula for {', '.join(sorted(set(operators)))}; "
        "torch.utils.flop_counter.register_flop_formula gives an operator one"
    )


class Operators(TorchDispatchMode):
    """Watches the operators that run, below autograd.

    Args:
        known: Operators with a formula.

    Attributes:
        hiding: Names of those that ran and may hide products: a user's own, and the few of torch's.
    """

    def __init__(self, known: Iterable[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = set(known)
        self.hiding: list[str] = []
        self._read: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operator, and note its name and what it read."""
        namespace, name = getattr(func, "namespace", ""), func.__name__.split(".")[0]
        packet = getattr(func, "overloadpacket", func)
        opaque = namespace not in _TORCHS or name.startswith(_HIDING)
        if opaque and packet not in self.known:
            self.hiding.append(f"{namespace}.{name}")
        if not getattr(func, "is_view", False):
            self._read.update(memory_of(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        return func(*args, **(kwargs or {}))

    def has_read(self, tensor: Tensor) -> bool:
        """Whether an operator has read a tensor, and not only looked at it in another shape."""
        return memory_of(tensor) in self._read


def memory_of(tensor: Tensor) -> int:
    """Address of the memory that a tensor and its views have in common."""
    address: int = tensor.untyped_storage()._cdata
    return address
