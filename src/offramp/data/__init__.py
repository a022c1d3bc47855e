"""Data: sets of images and of texts, batch augmentation, and the named pipelines."""

from offramp.data._loading import WorkerDied
from offramp.data._sources import is_embedded
from offramp.data.batch import Batch, Origin
from offramp.data.dense_stream import DenseStream
from offramp.data.image_data import ImageData
from offramp.data.joint_batch import JointBatch
from offramp.data.joint_data import JointData
from offramp.data.joint_split import JointSplit, JointTransform
from offramp.data.opened import OpenedData
from offramp.data.opening import open_data, open_other
from offramp.data.pipelines import PIPELINES, Transform, default_pipeline, pipeline
from offramp.data.split import Split
from offramp.data.stream import StreamSplit
from offramp.data.streams import Streams
from offramp.data.target_tensors import TargetTensors
from offramp.data.targets import Target
from offramp.data.text_data import TextData
from offramp.data.text_split import TextSplit

__all__ = [
    "PIPELINES",
    "Batch",
    "DenseStream",
    "ImageData",
    "JointBatch",
    "JointData",
    "JointSplit",
    "JointTransform",
    "OpenedData",
    "Origin",
    "Split",
    "StreamSplit",
    "Streams",
    "Target",
    "TargetTensors",
    "TextData",
    "TextSplit",
    "Transform",
    "WorkerDied",
    "default_pipeline",
    "is_embedded",
    "open_data",
    "open_other",
    "pipeline",
]
