"""Data: image classification sets, batch augmentation, and the named pipelines."""

from offramp.data.batch import Batch, Origin
from offramp.data.image_data import ImageData
from offramp.data.opening import open_data, open_other
from offramp.data.pipelines import PIPELINES, Transform, pipeline
from offramp.data.split import Split
from offramp.data.stream import StreamSplit

__all__ = [
    "PIPELINES",
    "Batch",
    "ImageData",
    "Origin",
    "Split",
    "StreamSplit",
    "Transform",
    "open_data",
    "open_other",
    "pipeline",
]
