"""What stands in the object and C form of a library: no float, no foreign symbol, nothing that is not ours."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

import pytest
import tvm

from tests.passes.kernels import everything
from tests.targets.small import small_network, small_program
from tvm_tinyml.api import build
from tvm_tinyml.device import ElfObject
from tvm_tinyml.device.elf import UNDEFINED
from tvm_tinyml.library import Library
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.passes import LowerToKernels, SplitPadding
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.schedules.rule import ApplySchedules
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.targets.llvm_main import main_ir
from tvm_tinyml.targets.llvm_object import _import_ir, helper_ir
from tvm_tinyml.targets.lowering import finish, lower_kernels

TARGETS = ("cortex-m0plus", "cortex-m4", "cortex-m33+nodsp")
C_LIBRARY = {"memcpy", "memset"}
ARITHMETIC = {"__aeabi_idiv", "__aeabi_uidiv", "__aeabi_lmul", "__clzsi2"}
"""libgcc's and compiler-rt's, of the run-time ABI for the Arm architecture; __clzsi2 is GCC's."""


@functools.cache
def library(target: str) -> Library:
    """Return a library with every kind of kernel."""
    return compile_model(everything()[0], cortex_m(target), BuildOptions())


def objects(target: str) -> list[ElfObject]:
    return [ElfObject.parse(data, "object") for data in library(target).objects]


def defined(parts: Sequence[ElfObject]) -> set[str]:
    """Return the names that these objects offer to others."""
    return {s.name for part in parts for s in part.symbols if s.section != UNDEFINED and not s.local}


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_is_missing_is_copying_filling_and_arithmetic(target: str) -> None:
    parts = objects(target)
    missing = {name for part in parts for name in part.undefined_symbols()} - defined(parts)
    assert missing <= C_LIBRARY | (ARITHMETIC if target == "cortex-m0plus" else set())
    if target == "cortex-m0plus":
        assert "memset" in missing  # pad2d fills: the test sees what it looks for


@pytest.mark.parametrize("target", TARGETS)
def test_every_symbol_that_is_seen_from_outside_begins_with_the_prefix(target: str) -> None:
    names = defined(objects(target))
    assert "tvmgen_m_run" in names
    assert all(name.startswith("tvmgen_m_") for name in names), names


def test_two_libraries_define_no_symbol_twice() -> None:
    model = small_network()
    libraries = [build(dataclasses.replace(model, name=name), "cortex-m4", emit="lib") for name in ("small", "small_2")]
    first, second = (defined([ElfObject.parse(data, "o") for data in built.objects]) for built in libraries)
    assert len(first) == len(second) > 5
    assert not first & second


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m4+nofp", "cortex-m33+nodsp"])
def test_of_the_fpu_only_registers_are_used_and_only_where_the_header_says_so(target: str) -> None:
    capstone = pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    decoder.skipdata = True
    code = [s.data for part in objects(target) for s in part.sections if s.name.startswith(".text")]
    found = {i.mnemonic for data in code for i in decoder.disasm(data, 0)}
    assert len(found) > 40
    told = "USES_FPU 1" in library(target).header
    moves = {"vldmia", "vmov", "vmovne", "vpop", "vpush"} if told else set()
    assert told == (target == "cortex-m4")
    assert {mnemonic for mnemonic in found if mnemonic.startswith("v") or "f32" in mnemonic} <= moves


def test_the_ir_of_the_kernels_knows_no_float() -> None:
    machine = cortex_m("cortex-m4")
    llvm = tvm.target.Target(dict(machine.llvm))
    steps = [SplitPadding(), LowerToKernels(machine.traits)]
    steps += [ApplySchedules(machine.rules), lower_kernels()]
    module = everything()[0].module
    for step in steps:
        module = step(module)
    functions = [(v, f) for v, f in module.functions.items() if isinstance(f, tvm.tirx.PrimFunc)]
    kernels = {v: f.with_attr("global_symbol", str(v.name_hint)) for v, f in functions}
    helpers = tvm.ir.StringImm(helper_ir(machine))
    finished = finish(tvm.IRModule(kernels), llvm)
    with_helpers = tvm.IRModule({v: _import_ir(f, helpers) for v, f in finished.functions.items()})
    text = tvm.get_global_func("target.build.llvm")(with_helpers, llvm).inspect_source("ll")
    bodies = re.findall(r"^define [^\n]*@(\w+)\([^\n]*\n(.*?)^}", text, re.MULTILINE | re.DOTALL)
    ours = {name: body for name, body in bodies if not name.startswith("__")}  # not TVM's half-precision helpers
    assert len(ours) > 30
    assert not [name for name, body in ours.items() if re.search(r"(?<![%\w.])(float|double|half|bfloat)\b", body)]


def test_the_c_form_knows_no_float() -> None:
    for name, text in library("cortex-m4").sources.items():
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert not re.search(r"\b(float|double)\b|\d\.\d|\d[eE][-+]\d", code), name


def test_the_c_form_calls_nothing_but_its_own_and_copying_and_filling() -> None:
    sources = library("cortex-m4").sources
    text = re.sub(r"/\*.*?\*/|__asm__ volatile\(.*?\);", "", "".join(sources.values()), flags=re.DOTALL)
    called = set(re.findall(r"\b([A-Za-z_]\w*)\s*\(", text))
    acle = {"__ssat", "__smlad", "__sxtb16", "__smlabb", "__smlatt"}
    words = {"for", "if", "while", "return", "sizeof", "defined", "__attribute__", "section", "aligned", "void"}
    foreign = {n for n in called if not n.startswith(("tvmgen_m_", "tinyml_", "TVMGEN_M_"))} - acle - words
    types = {"int8_t", "uint8_t", "int16_t", "int32_t", "int64_t", "uint32_t", "uintptr_t", "size_t", "int8x4_t"}
    assert foreign - types <= {"memcpy", "memset"}


def test_the_c_form_exports_its_run_and_constants_alone() -> None:
    text = library("cortex-m4").sources["tvmgen_m.c"]
    definitions = re.findall(r"^(static )?(?:inline )?(?:void|int32_t) (\w+)\(", text, re.MULTILINE)
    assert [name for static, name in definitions if not static] == ["tvmgen_m_run"]
    assert sum(bool(static) for static, _ in definitions) > 30


def test_the_c_form_includes_its_own_headers_and_the_standards() -> None:
    sources = library("cortex-m4").sources
    includes = {line for text in sources.values() for line in text.splitlines() if line.startswith("#include")}
    ours = {f'#include "tvmgen_m{end}.h"' for end in ("", "_helpers", "_weights")}
    assert includes == ours | {"#include <stdint.h>", "#include <string.h>", "#include <arm_acle.h>"}


def test_the_same_model_gives_the_same_bytes() -> None:
    first, again = (build(small_network(), "cortex-m4") for _ in range(2))
    assert again.objects == first.objects
    assert again.sources == first.sources


@pytest.mark.parametrize("in_ram", [False, True])
def test_all_weights_lie_in_one_section(in_ram: bool) -> None:
    built = build(small_network(), "cortex-m4", weights="ram" if in_ram else "flash")
    section = ".data.tvmgen_small_weights" if in_ram else ".rodata.tvmgen_small_weights"
    sections = {s.name for data in built.objects for s in ElfObject.parse(data, "o").sections if "weights" in s.name}
    assert sections == {section}
    assert f'section("{section}")' in built.sources["tvmgen_small_weights.h"]


# --- golden text ----------------------------------------------------------------------------------------------------


def test_the_c_form_of_a_small_network_is_the_golden_text(golden: Callable[[str, str], None]) -> None:
    sources = build(small_network(), "cortex-m4", emit="c", disabled_passes=["tinyml.ApplyRecipes"]).sources
    for name in sorted(sources):
        if not name.endswith("_helpers.h"):
            golden(name, sources[name])


def test_the_main_of_a_small_network_is_the_golden_ir(golden: Callable[[str, str], None]) -> None:
    golden("small_main.ll", main_ir(small_program()))
