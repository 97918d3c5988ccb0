"""Relax passes of tvm_tinyml, one per file."""

from tvm_tinyml.passes.apply_recipes import ApplyRecipes
from tvm_tinyml.passes.assign_layouts import AssignLayouts
from tvm_tinyml.passes.choose_kernels import ChooseKernels
from tvm_tinyml.passes.cut_into_stripes import CutIntoStripes
from tvm_tinyml.passes.fold_constants import FoldConstants
from tvm_tinyml.passes.fold_pads import FoldPads
from tvm_tinyml.passes.fold_quantization import FoldQuantization
from tvm_tinyml.passes.fuse_adds import FuseAdds
from tvm_tinyml.passes.fuse_lookups import FuseLookups
from tvm_tinyml.passes.fuse_pools import FusePools
from tvm_tinyml.passes.lower_to_kernels import LowerToKernels
from tvm_tinyml.passes.moves_to_views import MovesToViews
from tvm_tinyml.passes.order_operators import OrderOperators
from tvm_tinyml.passes.pack_weights import PackWeights, SplitNarrowLayers
from tvm_tinyml.passes.place_channels import PlaceChannels
from tvm_tinyml.passes.remove_dead_channels import RemoveDeadChannels
from tvm_tinyml.passes.resize_to_gather import ResizeToGather
from tvm_tinyml.passes.simplify_reshapes import SimplifyReshapes
from tvm_tinyml.passes.simplify_transposes import SimplifyTransposes
from tvm_tinyml.passes.split_padding import SplitPadding
from tvm_tinyml.passes.tabulate_functions import TabulateFunctions
from tvm_tinyml.passes.transposed_to_convolutions import TransposedToConvolutions
from tvm_tinyml.passes.unpack_in_kernels import UnpackInKernels

__all__ = [
    "ApplyRecipes",
    "AssignLayouts",
    "ChooseKernels",
    "CutIntoStripes",
    "FoldConstants",
    "FoldPads",
    "FoldQuantization",
    "FuseAdds",
    "FuseLookups",
    "FusePools",
    "LowerToKernels",
    "MovesToViews",
    "OrderOperators",
    "PackWeights",
    "PlaceChannels",
    "RemoveDeadChannels",
    "ResizeToGather",
    "SimplifyReshapes",
    "SimplifyTransposes",
    "SplitNarrowLayers",
    "SplitPadding",
    "TabulateFunctions",
    "TransposedToConvolutions",
    "UnpackInKernels",
]
