"""Cortex-M targets: from a name such as ``cortex-m33+nodsp`` to a `Target`."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from tvm_tinyml.errors import TargetError
from tvm_tinyml.llvm import ARM_DATA_LAYOUT
from tvm_tinyml.passes.apply_recipes import Recipes
from tvm_tinyml.passes.kernels import KernelTraits
from tvm_tinyml.schedules.cortex_m import (
    DSP_RULES,
    DSP_SMALL_RULES,
    NARROW_RULES,
    SCALAR_RULES,
    SCALAR_SMALL_RULES,
)
from tvm_tinyml.targets.cortex_m.cores import CORES, Core
from tvm_tinyml.targets.cortex_m.recipes import dual_issue_recipes, short_load_recipes, single_issue_recipes
from tvm_tinyml.targets.cortex_m.recipes.helium_recipes import helium_recipes
from tvm_tinyml.targets.cortex_m.recipes.on_the_stack import on_the_stack
from tvm_tinyml.targets.cortex_m.recipes.scalar_recipes import baseline_recipes, mainline_recipes
from tvm_tinyml.targets.target import Target

FLOAT_ABIS = ("hard", "softfp", "soft")
_LLVM_NAMES = {"dsp": "dsp", "fp": "fpregs", "mve": "mve"}

MAINLINE_HELPERS, SHORT_HELPERS = ("multiply_long.ll", "saturate_ssat.ll"), ("multiply_short.ll", "saturate_plain.ll")
DSP_HELPERS, PLAIN_HELPERS = ("requantize_dsp.ll", "dot_dsp.ll"), ("requantize_plain.ll",)


def cortex_m(name: str, float_abi: str | None = None) -> Target:
    """Return the target of that name.

    Parameters
    ----------
    name : a core and the extensions that the part lacks: ``cortex-m4``, ``cortex-m4+nofp``, ``cortex-m33+nodsp``.
    float_abi : ``hard``, ``softfp`` or ``soft``; None: ``hard`` with an FPU, ``soft`` without.

    Raises
    ------
    TargetError : an unknown core, extension or ABI, or one that does not fit the core.

    >>> sorted(cortex_m("cortex-m4+nofp").features)
    ['dsp']
    """
    core_name, *removed = name.split("+")
    core = CORES.get(core_name)
    if core is None:
        raise TargetError(f"There is no target named {core_name!r}.{_nearest(core_name)} Known: {', '.join(CORES)}.")
    for extension in removed:
        if extension.removeprefix("no") not in core.features or not extension.startswith("no"):
            options = ", ".join(f"+no{feature}" for feature in sorted(core.features)) or "none"
            raise TargetError(f"Target {name!r}: {core.name} does not take '+{extension}'. It takes: {options}.")
    features = _features(core, {extension.removeprefix("no") for extension in removed})
    abi = float_abi or ("hard" if "fp" in features else "soft")
    if abi not in FLOAT_ABIS:
        raise TargetError(f"There is no float ABI named {abi!r}. Known: {', '.join(FLOAT_ABIS)}.")
    if abi != "soft" and "fp" not in features:
        raise TargetError(f"Float ABI {abi!r} needs an FPU, and {name!r} has none. Use --float-abi soft.")
    dsp, mve = "dsp" in features, "mve" in features
    dots = dsp and not mve  # LLVM turns plain loops into Helium's dot products, but not those of four products at once
    return Target(
        name=name,
        core=core.name,
        features=features,
        float_abi=abi,
        llvm=_llvm(core, features, abi),
        data_layout=ARM_DATA_LAYOUT,
        gcc_flags=_gcc_flags(core, features, abi),
        recipes=_recipes(core, features, fp=abi != "soft"),
        traits=KernelTraits(dot_length=4 if dots else 1),
        rules=DSP_RULES if dots else SCALAR_RULES if core.mainline else NARROW_RULES,
        small_rules=DSP_SMALL_RULES if dots else SCALAR_SMALL_RULES,
        helper_files=(
            "common.ll",
            *(MAINLINE_HELPERS if core.mainline else SHORT_HELPERS),
            *(DSP_HELPERS if dsp else PLAIN_HELPERS),
        ),
    )


def _features(core: Core, removed: set[str]) -> frozenset[str]:
    """Return what is left of a core's extensions; Helium is used only beside both others."""
    features = core.features - removed
    return features if {"dsp", "fp"} <= features else features - {"mve"}


def _recipes(core: Core, features: frozenset[str], *, fp: bool) -> Callable[[str], Recipes]:
    if "mve" in features and fp:
        return helium_recipes
    if "dsp" in features:
        single = single_issue_recipes if core.load_cycles > 1 else short_load_recipes
        recipes = dual_issue_recipes if core.dual_issue else single
        return recipes if fp else lambda goal: on_the_stack(recipes(goal))
    return mainline_recipes if core.mainline else baseline_recipes


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name, CORES, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _llvm(core: Core, features: frozenset[str], float_abi: str) -> dict[str, object]:
    # The GNU environment makes LLVM call memcpy and memset by these names; the bare one wants __aeabi_memcpy. Without
    # the second "none", for the system, LLVM would not see the environment and call division by names of its own.
    environment = "gnueabihf" if float_abi == "hard" else "gnueabi"
    description: dict[str, object] = {
        "kind": "llvm",
        "mtriple": f"{core.triple}-none-none-{environment}",
        "mcpu": core.name,
        "mfloat-abi": "hard" if float_abi == "hard" else "soft",
        "num-cores": 1,
        "vector-width": 32,  # TVM makes no vectors; without this it guesses and warns
    }
    attributes = [f"-{_LLVM_NAMES[feature]}" for feature in sorted(core.features - features)]
    return {**description, "mattr": attributes} if attributes else description


def _gcc_flags(core: Core, features: frozenset[str], float_abi: str) -> list[str]:
    lacks = "".join(f"+no{feature}" for feature in ("dsp", "mve") if feature in core.features - features)
    flags = [f"-mcpu={core.name}{lacks}", "-mthumb", f"-mfloat-abi={float_abi}"]
    return [*flags, f"-mfpu={core.fpu}"] if "fp" in features else flags
