"""From a float network to an integer one: calibration, ranges, weights."""

from tvm_tinyml.quantization.quantize import quantize

__all__ = ["quantize"]
