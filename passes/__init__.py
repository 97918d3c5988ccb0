"""Relax passes of tvm_tinyml, one per file."""

from tvm_tinyml.passes.apply_recipes import ApplyRecipes
from tvm_tinyml.passes.cut_into_stripes import CutIntoStripes
from tvm_tinyml.passes.fold_quantization import FoldQuantization
from tvm_tinyml.passes.lower_to_kernels import LowerToKernels
from tvm_tinyml.passes.moves_to_views import MovesToViews
from tvm_tinyml.passes.remove_dead_channels import RemoveDeadChannels
from tvm_tinyml.passes.resize_to_gather import ResizeToGather
from tvm_tinyml.passes.split_padding import SplitPadding
from tvm_tinyml.passes.transposed_to_convolutions import TransposedToConvolutions

__all__ = [
    "ApplyRecipes",
    "CutIntoStripes",
    "FoldQuantization",
    "LowerToKernels",
    "MovesToViews",
    "RemoveDeadChannels",
    "ResizeToGather",
    "SplitPadding",
    "TransposedToConvolutions",
]
