"""Channels that nothing reads, or that hold one constant, leave the network; no byte of an output changes."""

from tvm_tinyml.passes.remove_dead_channels.remove import RemoveDeadChannels

__all__ = ["RemoveDeadChannels"]
