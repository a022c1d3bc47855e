"""Runs networks that offramp exported, without torch: easy inputs leave early, on any ONNX runtime's cores.

:func:`load` opens a bundle, the folder that ``offramp export`` writes::

    model = offramp_runtime.load("bundle/")
    answer = model.predict(images)       # answer.prediction, answer.exit, answer.confidence
"""

from offramp_runtime._answers import Answer, SampleAnswer
from offramp_runtime._errors import BundleError, InputError, StreamClosed
from offramp_runtime._files import FileAnswer, predict_files
from offramp_runtime._manifest import Exit, Input
from offramp_runtime._model import Model, load
from offramp_runtime._stream import Stream

__all__ = [
    "Answer",
    "BundleError",
    "Exit",
    "FileAnswer",
    "Input",
    "InputError",
    "Model",
    "SampleAnswer",
    "Stream",
    "StreamClosed",
    "load",
    "predict_files",
]

__version__ = "0.1.0"
