"""Bundles: nets with their policies as folders that run without torch."""

from offramp.errors import UserError

try:
    import onnx as _onnx  # noqa: F401
    import onnxruntime as _onnxruntime  # noqa: F401
    import onnxscript as _onnxscript  # noqa: F401
except ImportError as _error:
    raise UserError(f"export needs {_error.name}: pip install 'offramp[deploy]'") from _error

from offramp.bundles.export import export
from offramp.bundles.triton import export_repository

__all__ = ["export", "export_repository"]
