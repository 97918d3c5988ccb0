"""The reference: every integer operator as a numpy function, equal bit for bit to TensorFlow Lite Micro's kernels."""

from tvm_tinyml.reference.int16_functions import interpolate, logistic, requantize, slopes, softmax_int16, tanh
from tvm_tinyml.reference.movement import concat, pad, reshape, resize_nearest, split, strided_slice, transpose
from tvm_tinyml.reference.operators import (
    add,
    avg_pool2d,
    conv2d,
    conv2d_transpose,
    dense,
    lookup,
    max_pool2d,
    mean,
    mean_pool2d,
    mul,
    softmax,
    sub,
)

__all__ = [
    "add",
    "avg_pool2d",
    "concat",
    "conv2d",
    "conv2d_transpose",
    "dense",
    "interpolate",
    "logistic",
    "lookup",
    "max_pool2d",
    "mean",
    "mean_pool2d",
    "mul",
    "pad",
    "requantize",
    "reshape",
    "resize_nearest",
    "slopes",
    "softmax",
    "softmax_int16",
    "split",
    "strided_slice",
    "sub",
    "tanh",
    "transpose",
]
