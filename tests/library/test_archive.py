"""The static library: what it defines and needs, its float ABI, and that two of them live in one image."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

import tvm_tinyml as tinyml
from tests.compile.toolchains import need
from tests.library.builds import library, network
from tvm_tinyml.device import ElfObject, Simulator
from tvm_tinyml.device.runtime import SUPPLIED
from tvm_tinyml.targets.cortex_m import cortex_m

ALLOWED = {name for name in SUPPLIED if "memmove" not in name}
"""memcpy, memset and libgcc's arithmetic."""

LIBRARIES = [("kws", "cortex-m0plus"), ("kws", "cortex-m4"), ("ad", "cortex-m0plus"), ("small", "cortex-m33+nodsp")]


@pytest.mark.parametrize(("name", "target"), LIBRARIES)
def test_a_library_needs_only_memory_functions_and_arithmetic(name: str, target: str) -> None:
    objects = [ElfObject.parse(data) for data in library(name, target).objects]
    defined = {symbol for o in objects for symbol in o.defined_symbols()}
    undefined = {symbol for o in objects for symbol in o.undefined_symbols()} - defined
    assert undefined <= ALLOWED


@pytest.mark.parametrize(("name", "target"), LIBRARIES)
def test_everything_that_is_exported_begins_with_the_models_name(name: str, target: str) -> None:
    objects = [ElfObject.parse(data) for data in library(name, target).objects]
    defined = [symbol for o in objects for symbol in o.defined_symbols()]
    assert f"tvmgen_{name}_run" in defined
    assert len(defined) == len(set(defined))
    assert [symbol for symbol in defined if not symbol.startswith(f"tvmgen_{name}_")] == []


def attributes(data: bytes) -> dict[str, object]:
    """The Arm build attributes of an object that say how it was built."""
    section = ELFFile(io.BytesIO(data)).get_section_by_name(".ARM.attributes")
    (subsection,) = section.subsections
    tags = [a for part in subsection.iter_subsubsections() for a in part.iter_attributes()]
    return {a.tag: a.value for a in tags}


@pytest.mark.parametrize(
    ("target", "abi", "by_register"),
    [("cortex-m4", None, 1), ("cortex-m4", "softfp", 0), ("cortex-m4+nofp", None, 0), ("cortex-m0plus", None, 0)],
)
def test_objects_carry_their_float_abi_and_compute_the_same(target: str, abi: str | None, by_register: int) -> None:
    built = library("kws", target, float_abi=abi)
    assert built.metadata["float_abi"] == (abi or ("hard" if by_register else "soft"))
    for data in built.objects:
        assert attributes(data).get("TAG_ABI_VFP_ARGS", 0) == by_register
    x = network("kws").random_inputs(4)
    (output,) = built.run(x[0]).values()
    np.testing.assert_array_equal(output, network("kws").run(x)[0])


def call(simulator: Simulator, built: tinyml.Library, seed: int) -> None:
    """Run one library of those that are loaded and compare with the reference."""
    x, metadata = network(built.name).random_inputs(seed), built.metadata
    sizes = [[t["size_bytes"] for t in metadata[role]] for role in ("inputs", "outputs")]
    sizes.append([metadata["ram_bytes"]["workspace"]])
    fields = [[simulator.allocate(size) for size in group] for group in sizes]
    for address, array in zip(fields[0], x, strict=True):
        simulator.write(address, array.tobytes())
    arguments = []
    for addresses in fields:
        arguments.append(simulator.allocate(4 * len(addresses)))
        simulator.write(arguments[-1], b"".join(a.to_bytes(4, "little") for a in addresses))
    assert simulator.call(f"tvmgen_{built.name}_run", *arguments).value == 0
    for address, expected in zip(fields[1], network(built.name).run(x), strict=True):
        assert simulator.read(address, expected.size) == expected.tobytes()


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_two_models_in_one_image_both_run_right(target: str) -> None:
    kws, small = library("kws", target), library("small", target)
    with Simulator(target) as simulator:
        simulator.load([*kws.objects, *small.objects])
        for seed in range(2):
            call(simulator, kws, seed)
            call(simulator, small, seed)
        simulator.check_guards()


@pytest.mark.parametrize(("target", "abi"), [("cortex-m4", "hard"), ("cortex-m4", "softfp"), ("cortex-m0plus", "soft")])
def test_gcc_links_two_models_with_a_program_of_the_same_float_abi(target: str, abi: str, tmp_path: Path) -> None:
    libraries = [library(name, target, float_abi=abi) for name in ("ad", "small")]
    for built in libraries:
        built.write(tmp_path / built.name)
    (tmp_path / "main.c").write_text(
        '#include "tvmgen_ad.h"\n#include "tvmgen_small.h"\n'
        "int32_t start(const void *const a[3], const void *const b[3]) {\n"
        "  return tvmgen_ad_run(a[0], a[1], a[2]) + tvmgen_small_run(b[0], b[1], b[2]);\n}\n"
    )
    command = [need("arm-none-eabi-gcc"), *cortex_m(target, abi).gcc_flags, "-nostdlib", "-Wall", "-Werror", "main.c"]
    command += [option for built in libraries for option in ("-I", f"{built.name}/include")]
    archives = [f"{built.name}/lib/libtvmgen_{built.name}.a" for built in libraries]
    command += ["-Wl,--whole-archive", *archives, "-Wl,--no-whole-archive", "-Wl,-e,start"]
    command += ["-lc", "-lgcc", "-o", "x.elf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    symbols = ELFFile(io.BytesIO((tmp_path / "x.elf").read_bytes())).get_section_by_name(".symtab")
    assert all(symbols.get_symbol_by_name(f"tvmgen_{built.name}_run") for built in libraries)


def test_gcc_refuses_a_library_of_another_float_abi(tmp_path: Path) -> None:
    """What the attributes are for."""
    library("small", float_abi="softfp").write(tmp_path / "o")
    (tmp_path / "main.c").write_text("float start(float x) { return x; }\n")
    flags = cortex_m("cortex-m4", "hard").gcc_flags
    archive = ["-Wl,--whole-archive", "o/lib/libtvmgen_small.a", "-Wl,--no-whole-archive", "-Wl,-e,start"]
    command = [need("arm-none-eabi-gcc"), *flags, "-nostdlib", "main.c", *archive, "-lc", "-lgcc", "-o", "x.elf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "uses VFP register arguments" in done.stderr
