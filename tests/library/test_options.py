"""What the options of a build change, and that none of them changes a byte of the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.library.builds import library, model, network
from tvm_tinyml.device import ElfObject, Simulator
from tvm_tinyml.session import Session


def sections(built: tinyml.Library) -> dict[str, int]:
    """Sizes of the allocated sections of a library."""
    objects = [ElfObject.parse(data) for data in built.objects]
    return {s.name: s.size_bytes for o in objects for s in o.sections if s.allocated and s.size_bytes}


@pytest.mark.parametrize(
    "options",
    [
        {"io": "workspace"},
        {"weights": "ram"},
        {"io": "workspace", "weights": "ram"},
        {"goal": "flash"},
        {"goal": "time"},
        {"goal": "ram"},
        {"disabled_passes": ("tinyml.ApplySchedules",)},
        {"float_abi": "softfp"},
        {"float_abi": "soft"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["small", "through"])
def test_no_option_changes_a_byte(name: str, options: dict[str, Any]) -> None:
    inputs = network(name).random_inputs(1)
    outputs = library(name, **options).run(inputs[0])
    for output, expected in zip(outputs.values(), network(name).run(inputs), strict=True):
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize(
    ("option", "value"),
    [("goal", "flash"), ("io", "workspace"), ("weights", "ram"), ("emit", "c"), ("memory", "l4r5zi-120")],
)
def test_options_are_recorded(option: str, value: str) -> None:
    defaults = {
        "goal": "balanced",
        "io": "caller",
        "weights": "flash",
        "emit": "both",
        "memory": "zero-wait",
        "disabled_passes": [],
        "ram_limit_bytes": None,
        "flash_limit_bytes": None,
        "pools": {},
        "tuning_log": False,
        "require_tuned": False,
    }
    assert tinyml.build(model("small")).metadata["options"] == defaults
    assert library("small", **{"emit": "both", option: value}).metadata["options"] == {**defaults, option: value}


@pytest.mark.parametrize("disabled", [["tinyml.ApplyRecipes"], ["tinyml.ApplyRecipes", "tinyml.ApplySchedules"]])
def test_a_disabled_pass_is_left_out_and_recorded(disabled: list[str]) -> None:
    plain = library("kws", disabled_passes=tuple(disabled))
    assert plain.metadata["options"]["disabled_passes"] == disabled
    schedules = {layer["schedule"] for layer in plain.metadata["layers"]}
    assert "ConvGemm" in {layer["schedule"] for layer in library("kws").metadata["layers"]}
    assert "ConvGemm" not in schedules
    assert ("DotProductTile" in schedules) == (len(disabled) == 1)
    x = network("kws").random_inputs(1)
    (output,) = plain.run(x[0]).values()
    np.testing.assert_array_equal(output, network("kws").run(x)[0])


def test_only_the_form_that_is_asked_for_is_made() -> None:
    lib, c, both = (library("small", emit=form) for form in ("lib", "c", "both"))
    assert (lib.sources, c.archive) == ({}, b"")
    assert (lib.archive, c.sources) == (both.archive, both.sources)
    assert both.archive
    assert both.sources


@pytest.mark.parametrize(("weights", "section"), [("flash", ".rodata"), ("ram", ".data")])
def test_weights_are_in_one_section_of_their_own(weights: str, section: str) -> None:
    built = library("kws", weights=weights)
    found = sections(built)
    assert found.pop(f"{section}.tvmgen_kws_weights") == built.metadata["flash_bytes"]["weights"]
    assert {name for name in found if not name.startswith(".text")} == set()
    c = library("small", emit="c", weights=weights).sources["tvmgen_small_weights.h"]
    assert f'section("{section}.tvmgen_small_weights")' in c


def test_inputs_and_outputs_in_the_workspace_lie_where_the_header_says() -> None:
    """The caller gives only the pool; inputs and outputs arguments are NULL."""
    built = library("kws", io="workspace")
    inputs, outputs = built.metadata["inputs"], built.metadata["outputs"]
    for role, tensor in (("input", inputs[0]), ("output", outputs[0])):
        accessor = f"tvmgen_kws_{role}_0(const struct tvmgen_kws_workspace_pools *pools) {{\n"
        offset = f"  return (int8_t *)pools->sram + {tensor['workspace_offset']};\n"
        assert accessor + offset in built.header
    x = network("kws").random_inputs(2)
    with Simulator("cortex-m4") as simulator:
        simulator.load(built.objects)
        pool = simulator.allocate(built.metadata["ram_bytes"]["workspace"], alignment=16)
        pools = simulator.allocate(4)
        simulator.write(pools, pool.to_bytes(4, "little"))
        simulator.write(pool + inputs[0]["workspace_offset"], x[0].tobytes())
        assert simulator.call("tvmgen_kws_run", 0, 0, pools).value == 0
        simulator.check_guards()
        result = simulator.read(pool + outputs[0]["workspace_offset"], 12)
    assert result == network("kws").run(x)[0].tobytes()
    assert built.metadata["inputs_destroyed"] is True
    assert library("kws").metadata["inputs_destroyed"] is False


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_a_null_pointer_is_an_error_and_no_fault(argument: int) -> None:
    built = library("small")
    session = Session(built.metadata, built.objects)
    with Simulator("cortex-m4") as simulator:
        simulator.load(built.objects)
        arguments = [simulator.allocate(4) for _ in range(3)]
        for address in arguments:
            simulator.write(address, simulator.allocate(1024).to_bytes(4, "little"))
        assert simulator.call("tvmgen_small_run", *arguments).value == 0
        simulator.write(arguments[argument], bytes(4))
        assert simulator.call("tvmgen_small_run", *arguments).value == -1, "a member is NULL"
        arguments[argument] = 0
        assert simulator.call("tvmgen_small_run", *arguments).value == -1, "the argument is NULL"
    session.close()


@pytest.mark.parametrize("offset", [1, 4, 8])
def test_a_misaligned_pool_is_an_error(offset: int) -> None:
    built = library("small")
    with Simulator("cortex-m4") as simulator:
        simulator.load(built.objects)
        arguments = [simulator.allocate(4) for _ in range(3)]
        for address, shift in zip(arguments, (0, 0, offset), strict=True):
            simulator.write(address, simulator.allocate(1024, offset=shift).to_bytes(4, "little"))
        assert simulator.call("tvmgen_small_run", *arguments).value == -2
