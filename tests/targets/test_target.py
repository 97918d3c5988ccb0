"""Target names, features, float ABI, and what they mean for LLVM and GCC."""

from __future__ import annotations

import re

import pytest

from tvm_tinyml.device import ElfObject, strip
from tvm_tinyml.errors import TargetError
from tvm_tinyml.schedules.cortex_m import (
    DSP_RULES,
    DSP_SMALL_RULES,
    NARROW_RULES,
    SCALAR_RULES,
    SCALAR_SMALL_RULES,
)
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.cortex_m.cores import CORES
from tvm_tinyml.targets.llvm_object import compile_ir

NAMES = (
    *CORES,
    "cortex-m4+nofp",
    "cortex-m4+nodsp",
    "cortex-m33+nodsp",
    "cortex-m33+nodsp+nofp",
    "cortex-m7+nofp+nodsp",
    "cortex-m55+nomve",
    "cortex-m55+nofp",
)


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("cortex-m0plus", set()), ("cortex-m3", set()), ("cortex-m4", {"dsp", "fp"}), ("cortex-m7", {"dsp", "fp"}),
        ("cortex-m33", {"dsp", "fp"}), ("cortex-m4+nofp", {"dsp"}), ("cortex-m33+nodsp", {"fp"}),
        ("cortex-m33+nodsp+nofp", set()), ("cortex-m33+nofp+nodsp", set()), ("cortex-m55", {"dsp", "fp", "mve"}),
        ("cortex-m55+nomve", {"dsp", "fp"}), ("cortex-m55+nofp", {"dsp"}), ("cortex-m55+nodsp", {"fp"}),
    ],
)  # fmt: skip
def test_a_name_says_which_extensions_may_be_used(name: str, features: set[str]) -> None:
    target = cortex_m(name)
    assert target.features == features
    assert target.name == name
    assert target.core == name.split("+")[0]


@pytest.mark.parametrize("name", NAMES)
def test_rules_and_dot_products_follow_the_dsp_extension_without_helium(name: str) -> None:
    target = cortex_m(name)
    dsp = "dsp" in target.features
    dots = dsp and "mve" not in target.features
    scalar = NARROW_RULES if name == "cortex-m0plus" else SCALAR_RULES
    rules = (DSP_RULES, DSP_SMALL_RULES) if dots else (scalar, SCALAR_SMALL_RULES)
    assert (target.rules, target.small_rules) == rules
    assert target.traits.dot_length == (4 if dots else 1)
    assert ("dot_dsp.ll" in target.helper_files) == dsp
    assert ("multiply_short.ll" in target.helper_files) == (name == "cortex-m0plus")


@pytest.mark.parametrize(
    ("name", "given", "abi", "environment"),
    [
        ("cortex-m4", None, "hard", "gnueabihf"), ("cortex-m4", "softfp", "softfp", "gnueabi"),
        ("cortex-m4", "soft", "soft", "gnueabi"), ("cortex-m4+nofp", None, "soft", "gnueabi"),
        ("cortex-m3", None, "soft", "gnueabi"), ("cortex-m33+nodsp", None, "hard", "gnueabihf"),
    ],
)  # fmt: skip
def test_the_float_abi_is_hard_with_an_fpu_unless_told(
    name: str, given: str | None, abi: str, environment: str
) -> None:
    target = cortex_m(name, given)
    assert target.float_abi == abi
    assert f"-mfloat-abi={abi}" in target.gcc_flags
    assert target.llvm["mtriple"].endswith(f"-none-none-{environment}")
    assert target.llvm["mfloat-abi"] == ("hard" if abi == "hard" else "soft")


@pytest.mark.parametrize(
    ("name", "given", "text"),
    [
        (
            "cortex-m44",
            None,
            "There is no target named 'cortex-m44'. Did you mean 'cortex-m4'? "
            "Known: cortex-m0plus, cortex-m3, cortex-m4, cortex-m7, cortex-m33, cortex-m55.",
        ),
        ("avr", None, "There is no target named 'avr'. Known: cortex-m0plus, "),
        ("", None, "There is no target named ''. Known: "),
        ("cortex-m4+fp", None, "Target 'cortex-m4+fp': cortex-m4 does not take '+fp'. It takes: +nodsp, +nofp."),
        (
            "cortex-m4+nomve",
            None,
            "Target 'cortex-m4+nomve': cortex-m4 does not take '+nomve'. It takes: +nodsp, +nofp.",
        ),
        ("cortex-m3+nofp", None, "Target 'cortex-m3+nofp': cortex-m3 does not take '+nofp'. It takes: none."),
        ("cortex-m4+", None, "Target 'cortex-m4+': cortex-m4 does not take '+'. It takes: +nodsp, +nofp."),
        ("cortex-m4", "harder", "There is no float ABI named 'harder'. Known: hard, softfp, soft."),
        (
            "cortex-m4+nofp",
            "hard",
            "Float ABI 'hard' needs an FPU, and 'cortex-m4+nofp' has none. Use --float-abi soft.",
        ),
        ("cortex-m0plus", "softfp", "Float ABI 'softfp' needs an FPU, and 'cortex-m0plus' has none."),
    ],
)
def test_a_target_that_is_not_offered_is_told_with_what_is(name: str, given: str | None, text: str) -> None:
    with pytest.raises(TargetError, match="^" + re.escape(text)):
        cortex_m(name, given)


@pytest.mark.parametrize("name", NAMES)
def test_llvm_does_without_what_the_part_lacks(name: str) -> None:
    target = cortex_m(name)
    lacking = CORES[target.core].features - target.features
    assert sorted(target.llvm.get("mattr", [])) == sorted(
        {"dsp": "-dsp", "fp": "-fpregs", "mve": "-mve"}[feature] for feature in lacking
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operation", ["sdiv", "udiv"])
def test_division_is_an_instruction_or_the_run_time_abis_function(name: str, operation: str) -> None:
    text = f"define i32 @f(i32 %a, i32 %b) nounwind {{\n  %c = {operation} i32 %a, %b\n  ret i32 %c\n}}"
    undefined = ElfObject.parse(strip(compile_ir(text, cortex_m(name))), "f").undefined_symbols()
    function = {"sdiv": "__aeabi_idiv", "udiv": "__aeabi_uidiv"}[operation]
    assert list(undefined) == ([function] if name == "cortex-m0plus" else [])


@pytest.mark.parametrize("name", NAMES)
def test_copying_and_filling_are_the_c_librarys(name: str) -> None:
    text = """
declare void @llvm.memcpy.p0.p0.i32(ptr, ptr, i32, i1)
declare void @llvm.memset.p0.i32(ptr, i8, i32, i1)
define void @f(ptr %a, ptr %b, i32 %n) nounwind {
  call void @llvm.memcpy.p0.p0.i32(ptr %a, ptr %b, i32 %n, i1 false)
  call void @llvm.memset.p0.i32(ptr %b, i8 0, i32 %n, i1 false)
  ret void
}"""
    undefined = ElfObject.parse(strip(compile_ir(text, cortex_m(name))), "f").undefined_symbols()
    assert sorted(undefined) == ["memcpy", "memset"]
