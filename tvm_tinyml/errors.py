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


class FitError(TargetError):
    """The library is larger than the device.

    Attributes
    ----------
    needed_bytes, available_bytes : of RAM, or of flash.
    """

    def __init__(self, message: str, *, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(message)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class QuantizationError(TinyMLError):
    """A network cannot be quantized as it is asked to be, or there is no data to calibrate it with."""


class InputError(TinyMLError):
    """An array or option handed to a library does not fit it."""


class OutputError(TinyMLError):
    """The output folder cannot be used."""


class NotTunedError(TinyMLError):
    """A build requires records of all operators, and some have none."""


class TuningLogError(TinyMLError):
    """A tuning log is damaged, in use by another process, or cannot be written."""


class DeviceError(TinyMLError):
    """A simulator or board failed: a fault, a run-away program, no connection."""
