"""Which axis of a feature holds its channels, as the layers that write and read it tell."""

from offramp.nets.channel_axis._look import ChannelAxis, channel_axes, given_for, look
from offramp.nets.channel_axis._moves import Axes

__all__ = ["Axes", "ChannelAxis", "channel_axes", "given_for", "look"]
