"""What a target is: everything about a core that the compiler asks for, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.kernels import KernelTraits
from tvm_tinyml.schedules.rule import ScheduleRule


@dataclass(frozen=True)
class Target:
    """A core with its features.

    Attributes
    ----------
    name : as the user writes it, features included: ``cortex-m4+nofp``.
    core : name of the core alone.
    features : extensions the generated code may use, of ``dsp`` and ``fp``.
    float_abi : ``hard``, ``softfp`` or ``soft``: how a caller passes floats. The library passes none, but a linker
        refuses objects that disagree.
    llvm : TVM's description of the target for LLVM objects.
    data_layout : LLVM's data layout of the target, for IR text.
    gcc_flags : what a user passes to gcc or clang to build the C form alike.
    recipes : from a build's goal to the kernels made of microkernels, by operator.
    traits : what the other kernels' definitions depend on.
    rules : schedule rules in order of preference.
    small_rules : the same for the smallest code.
    helper_files : LLVM IR files with the bodies of the helpers.
    """

    name: str
    core: str
    features: frozenset[str]
    float_abi: str
    llvm: Mapping[str, Any]
    data_layout: str
    gcc_flags: Sequence[str]
    recipes: Callable[[str], Recipes]
    traits: KernelTraits
    rules: Sequence[ScheduleRule]
    small_rules: Sequence[ScheduleRule]
    helper_files: Sequence[str]
