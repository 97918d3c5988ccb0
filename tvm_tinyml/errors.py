"""The errors that a user of the compiler can cause, one parent for all.

A message says what is wrong, where (operator, tensor, file), the two numbers that disagree and what to do.
The numbers are attributes as well, so that a program can act on them.
"""

from __future__ import annotations


class TinyMLError(Exception):
    """Parent of every error that this package raises for its user."""


class ModelError(TinyMLError):
    """The model cannot be read, is not supported or contradicts itself."""


class TargetError(TinyMLError):
    """The target's name or one of its options is unknown."""


class InputError(TinyMLError):
    """An array or option handed to a library does not fit it."""


class OutputError(TinyMLError):
    """The output folder cannot be used."""


class DeviceError(TinyMLError):
    """A simulator or board failed: a fault, a run-away program, no connection."""
