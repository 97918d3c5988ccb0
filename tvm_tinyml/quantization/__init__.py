"""From a float network to an integer one: calibration, ranges, weights."""

from tvm_tinyml.quantization.network import quantize

__all__ = ["quantize"]
