"""Fold quantization into the operators: each quantized group becomes one operator of the integer dialect."""

from tvm_tinyml.passes.fold_quantization.fold import FoldQuantization

__all__ = ["FoldQuantization"]
