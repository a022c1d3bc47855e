"""Random furnished rooms with segmentation, depth and surface normals that are exact."""

from offramp.data.rooms.layout import random_scene
from offramp.data.rooms.rendering import Rendering, render
from offramp.data.rooms.scene import CLASSES, Box, Camera, Light, Paint, Piece, Room, Scene

__all__ = [
    "CLASSES",
    "Box",
    "Camera",
    "Light",
    "Paint",
    "Piece",
    "Rendering",
    "Room",
    "Scene",
    "random_scene",
    "render",
]
