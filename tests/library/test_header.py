"""The C interface has the names that microTVM's users know, and says what a caller must reserve."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tvm_tinyml as tinyml
from benchmarks.tflite_builder import TFLiteBuilder
from tests.compile.toolchains import need
from tests.library.builds import library, model

FUNCTION = re.compile(r"^(?:static inline )?\w+ \*?(\w+)\(", re.MULTILINE)


def macros(header: str) -> dict[str, str]:
    return dict(re.findall(r"^#define (\w+) (.*?)(?: */\*.*)?$", header, re.MULTILINE))


def test_a_network_has_exactly_these_macros_structs_and_functions() -> None:
    header, metadata = library("kws").header, library("kws").metadata
    values = macros(header)
    assert {name: values[name] for name in values if not name.endswith(("_SCALE", "_ZERO_POINT"))} == {
        "TVMGEN_KWS_VERSION": f'"{tinyml.__version__}"',
        "TVMGEN_KWS_TARGET": '"cortex-m4"',
        "TVMGEN_KWS_USES_FPU": "1",
        "TVMGEN_KWS_WORKSPACE_SIZE": f"{metadata['ram_bytes']['workspace']}u",
        "TVMGEN_KWS_SRAM_SIZE": "TVMGEN_KWS_WORKSPACE_SIZE",
        "TVMGEN_KWS_SRAM_ALIGN": "16u",
        "TVMGEN_KWS_STACK_SIZE": f"{metadata['ram_bytes']['stack']}u",
        "TVMGEN_KWS_INPUT_0_SIZE": "490u",
        "TVMGEN_KWS_INPUT_0_SHAPE": "{1, 49, 10, 1}",
        "TVMGEN_KWS_INPUT_0_DTYPE": '"int8"',
        "TVMGEN_KWS_OUTPUT_0_SIZE": "12u",
        "TVMGEN_KWS_OUTPUT_0_SHAPE": "{1, 12}",
        "TVMGEN_KWS_OUTPUT_0_DTYPE": '"int8"',
        "TVMGEN_KWS_ERROR_NULL": "(-1)",
        "TVMGEN_KWS_ERROR_ALIGNMENT": "(-2)",
    }
    for role, tensor in (("INPUT", metadata["inputs"][0]), ("OUTPUT", metadata["outputs"][0])):
        scale = float(values[f"TVMGEN_KWS_{role}_0_SCALE"].removesuffix("f"))
        assert np.float32(scale) == np.float32(tensor["scale"])
        assert values[f"TVMGEN_KWS_{role}_0_ZERO_POINT"] == f"({tensor['zero_point']})"
    assert re.findall(r"^struct (\w+) \{\n(.*?)\n\};", header, re.MULTILINE | re.DOTALL) == [
        ("tvmgen_kws_inputs", "  const void *input_0;"),
        ("tvmgen_kws_outputs", "  void *output_0;"),
        ("tvmgen_kws_workspace_pools", "  void *sram;"),
    ]
    assert FUNCTION.findall(header) == ["tvmgen_kws_run"]
    assert (
        "int32_t tvmgen_kws_run(const struct tvmgen_kws_inputs *inputs, const struct tvmgen_kws_outputs *outputs,\n"
        "    const struct tvmgen_kws_workspace_pools *pools);"
    ) in header
    assert re.findall(r"#include (.*)", header) == ["<stddef.h>", "<stdint.h>"]


def test_several_inputs_and_outputs_are_members_in_the_models_order() -> None:
    assert "  const void *input_0;\n  const void *input_1;\n" in library("pair").header
    through = library("through")
    assert "  void *output_0;\n  void *output_1;\n" in through.header
    assert macros(through.header)["TVMGEN_THROUGH_OUTPUT_1_SHAPE"] == "{3, 4}"


def test_inputs_in_the_workspace_have_functions_that_find_them() -> None:
    header = library("kws", io="workspace").header
    assert FUNCTION.findall(header) == ["tvmgen_kws_input_0", "tvmgen_kws_output_0", "tvmgen_kws_run"]
    assert "run destroys the inputs" in header
    assert "`outputs` may be NULL" in header
    assert "may be NULL" not in library("kws").header


NASTY = 'a*/ int x; /* \\ \n#error ??/ ü \x07 "quoted"'


@pytest.mark.parametrize("language", ["c99", "c++11"])
def test_no_name_of_a_tensor_and_no_name_of_a_model_harms_the_header(language: str, tmp_path: Path) -> None:
    builder = TFLiteBuilder()
    x, y = (builder.tensor(f"{name}{NASTY}", (1, 4), "int8", scales=0.5) for name in "xy")
    builder.operator("RELU", [x], [y])
    network = builder.finish([x], [y])
    for name in ("int", "class", "NULL", "_x"):
        header = tinyml.build(tinyml.load(network, name=name)).header
        (tmp_path / f"{name}.h").write_text(header, encoding="utf-8")
    code = "".join(f'#include "{name}.h"\n' for name in ("int", "class", "NULL", "_x", "int"))
    (tmp_path / "all.c").write_text(f"{code}int32_t (*f)(const struct tvmgen_int_inputs *, "
                                    "const struct tvmgen_int_outputs *, const struct tvmgen_int_workspace_pools *)"
                                    " = tvmgen_int_run;\n")  # fmt: skip
    kind = ["-x", "c++"] if language.startswith("c++") else []
    warnings = [f"-std={language}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    done = subprocess.run([need("gcc"), *kind, *warnings, "all.c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_header_says_how_floats_are_passed() -> None:
    for target, abi in (("cortex-m4", "hard"), ("cortex-m4+nofp", "soft"), ("cortex-m0plus", "soft")):
        assert f"floats are passed as {abi} */" in library("small", target).header


def test_the_header_says_whether_the_fpu_must_be_on() -> None:
    told = "USES_FPU 1 /* run uses FPU registers, s16 and up are restored: turn the FPU on before it; "
    assert told in library("kws", "cortex-m4").header
    for target in ("cortex-m4+nofp", "cortex-m4+nodsp", "cortex-m3"):
        assert "USES_FPU 0 /* run touches no FPU register; " in library("kws", target).header


def test_model_and_header_name_the_tensors_alike() -> None:
    for spec in (*model("pair").inputs, *model("pair").outputs):
        assert f'"{spec.name}", int8 [1, 6], real = ' in library("pair").header
