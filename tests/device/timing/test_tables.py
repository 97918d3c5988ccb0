"""The cores' tables: complete, with a source for every entry, and strict about what they say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device.thumb import CORES

from tvm_tinyml.device.timing import by_group, core_names, helium, load_core
from tvm_tinyml.device.timing.decode import CLASSES
from tvm_tinyml.device.timing.dual_issue import DualIssue
from tvm_tinyml.device.timing.single_issue import SingleIssue
from tvm_tinyml.errors import DeviceError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TARGETS = Path(__file__).parents[3] / "targets"
FILES = sorted(file for folder in ("timing", "memory") for file in (TARGETS / folder).glob("*.toml"))

# Not on these cores: no floating point, no DSP extension, no such instructions.
FLOAT = {kind for kind in CLASSES if kind.startswith("float")}
MISSING = {
    "cortex-m0plus": CLASSES
    - set("alu shift extend hint multiply load load_narrow store load_multiple store_multiple branch call".split())
    - {"call_register", "branch_register", "system"},
    "cortex-m3": FLOAT | {"saturating_add", "multiply_add_dsp"},
}


def tables(value: Any) -> Iterator[dict[str, Any]]:
    """Each table that holds a number or text of its own."""
    if isinstance(value, dict):
        if any(not isinstance(item, dict) for item in value.values()):
            yield value
        for item in value.values():
            yield from tables(item)
    elif isinstance(value, list):
        for item in value:
            yield from tables(item)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_entry_has_a_source(file: Path) -> None:
    entries = list(tables(tomllib.loads(file.read_text(encoding="utf-8"))))
    assert entries
    for entry in entries:
        assert len(entry.get("source", "")) > 3, entry


def test_every_core_of_the_simulator_has_a_table() -> None:
    assert set(core_names()) >= set(CORES)


@pytest.mark.parametrize("core", core_names())
def test_a_table_has_every_class_that_the_core_has(core: str) -> None:
    timing = load_core(core)
    pipeline = timing.pipeline
    assert pipeline.core == core
    known = pipeline.costs if isinstance(pipeline, SingleIssue) else pipeline.issues
    assert set(known) == (CLASSES | helium.CLASSES if timing.helium else CLASSES) - MISSING.get(core, set())


def test_which_cores_issue_pairs_and_which_have_helium() -> None:
    pairs = {core for core in core_names() if isinstance(load_core(core).pipeline, DualIssue)}
    vectors = {core for core in core_names() if load_core(core).helium}
    assert pairs - vectors == {"cortex-m7", "cortex-m33"}
    assert vectors == {"cortex-m55", "cortex-m85"}


def test_only_the_m0plus_has_no_time_for_what_it_refuses() -> None:
    assert {core for core in core_names() if not load_core(core).unaligned} == {"cortex-m0plus"}


def test_every_class_that_moves_data_is_in_its_group() -> None:
    classes = CLASSES | helium.CLASSES
    words = {"load": {"load", "gather"}, "store": {"store", "scatter"}, "multiply": {"multiply", "dot"}}
    for group, names in words.items():
        moving = {kind for kind in classes if names & set(kind.split("_"))}
        assert {kind for kind in classes if by_group([(kind, 1)])[group]} == moving


SINGLE = 'core = "x"\nmodel = "single-issue"\nsource = "x"\n'
DUAL = 'core = "x"\nmodel = "dual-issue"\nsource = "x"\n[units.alu]\ncount = 1\nsource = "x"\n'
ALU = '[[class]]\nnames = ["alu"]\ncycles = 1\nsource = "x"\n'
PAIR = '[[class]]\nnames = ["alu"]\nunits = ["alu"]\nlatency = 1\nslot = "any"\nsource = "x"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SINGLE.replace("single", "triple"), "model 'triple-issue' is neither"),
        (SINGLE + ALU.replace('source = "x"', ""), "class 0: source is missing"),
        (SINGLE + ALU.replace('"alu"', '"allu"'), "no class of instructions named 'allu'"),
        (SINGLE + ALU + ALU, "class 1: 'alu' has an entry already"),
        (SINGLE + ALU + "bonus = 1\n", "class 0: unknown bonus"),
        (SINGLE + ALU.replace('["alu"]', '"alu"'), "should be a list of texts"),
        (SINGLE + '[rules.luck]\ncycles = 1\nsource = "x"', "rules luck: there is no such rule"),
        (DUAL + PAIR, "rules are missing: base_latency"),
        (DUAL + PAIR.replace('"any"', '"second"'), "slot 'second' is none of any, first, last, alone"),
        (DUAL + PAIR.replace('units = ["alu"]', 'units = ["alu", "alu"]'), "no such number of units 'alu'"),
        (DUAL + PAIR + "early = 1\n", "early = 1 should be true or false"),
        (DUAL + PAIR + 'beats = ["alu"]\n', "no such number of units 'alu'"),
        (DUAL + PAIR.replace('"alu"]\nu', '"vector_add"]\nu'), "no class of instructions named 'vector_add'"),
        ("helium = true\n" + DUAL + PAIR, "rules are missing: base_latency, early_operand, early_vector_address"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(DeviceError, match=message):
        load_core(file)


def test_an_unknown_core_is_told() -> None:
    with pytest.raises(DeviceError, match="there is no timing table named 'cortex-m44'; did you mean 'cortex-m4'"):
        load_core("cortex-m44")
