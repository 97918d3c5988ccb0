"""Checking a log says of each operator why it cannot be trusted, without changing anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.int8_graph import Int8Graph, Network
from tests.tuning.conftest import InProcess
from tests.tuning.networks import TARGET, model, tiny, twins
from tvm_tinyml.errors import TargetError, TuningLogError
from tvm_tinyml.tuning.check import Verdict, check
from tvm_tinyml.tuning.measure import FLASH
from tvm_tinyml.tuning.tune import TuneOptions, tune

pytestmark = pytest.mark.usefixtures("in_process")

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def folder(tmp_path: Path, in_process: type[InProcess]) -> Path:
    """Return the log of the small network."""
    tune(model(tiny()), TARGET, tmp_path, TuneOptions(trials=10))
    in_process.jobs = []
    return tmp_path


def verdicts(network: Network, folder: Path, *, replay: bool = False, memory: str = FLASH) -> list[Verdict]:
    return check(model(network), TARGET, folder, memory=memory, replay=replay)


def problem(folder: Path, *, replay: bool = False, memory: str = FLASH) -> str:
    """Return what is said of the only operator of the small network."""
    (verdict,) = verdicts(tiny(), folder, replay=replay, memory=memory)
    assert verdict.operator.startswith("dense [1,3] [7,3]")
    return verdict.problem


def edit(folder: Path, change: Change) -> None:
    path = folder / TARGET / "dense.json"
    content = json.loads(path.read_text())
    for record in content["entries"][0]["records"]:
        change(record)
    path.write_text(json.dumps(content))


def test_all_is_well_after_tuning(folder: Path, in_process: type[InProcess]) -> None:
    assert problem(folder) == ""
    assert in_process.jobs == [], "nothing is measured"
    assert problem(folder, replay=True) == ""
    assert all(job.choice for job in in_process.jobs)


def test_an_operator_without_a_record_is_named(folder: Path) -> None:
    found = verdicts(twins(), folder)
    assert [(each.operator[:6], each.problem) for each in found] == [("conv2d", "no record"), ("dense ", "no record")]


def test_two_operators_of_one_shape_are_two(folder: Path) -> None:
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 6, 6, 4), (0.1, -3))
    first = graph.conv(x, 4, (1, 1), activation="RELU", output=(0.1, -128), effective_scale=0.01)
    second = graph.conv(first, 4, (1, 1), output=(0.1, 5), effective_scale=0.01)
    found = verdicts(graph.finish("alike", second), folder)
    assert len(found) == 2
    assert found[0] == found[1]


STATIC: dict[str, tuple[Change, str]] = {
    "timing model": (lambda r: r.update(model_version="0"), "its cycles are of timing model 0, this is "),
    "tvm": (lambda r: r.update(tvm="0.1"), "it was measured with TVM 0.1, this is 0."),
    "memory": (
        lambda r: r["cycles"].pop(FLASH),
        "it has no cycles for memory l4r5zi-120, only for zero-wait",
    ),
    "choice": (lambda r: r["choice"].update(kernel="Nobody"), "there is no choice {"),
}


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("name", STATIC)
def test_what_can_be_seen_without_measuring_is(name: str, replay: bool, folder: Path) -> None:
    change, text = STATIC[name]
    edit(folder, change)
    assert problem(folder, replay=replay).startswith(text)


REPLAYED: dict[str, tuple[Change, str]] = {
    "cycles": (lambda r: r["cycles"].update({FLASH: 7}), "7 cycles in l4r5zi-120 are noted, and it takes "),
    "other cycles": (lambda r: r["cycles"].update({"zero-wait": 7}), "7 cycles in zero-wait are noted, and it takes "),
    "workspace": (lambda r: r.update(workspace_bytes=7000), "7,000 bytes of workspace are noted, and it takes "),
    "code": (lambda r: r.update(code_bytes=7), "7 bytes of code are noted, and it takes "),
}


@pytest.mark.parametrize("name", REPLAYED)
def test_what_only_measuring_shows_is_seen_by_a_replay(name: str, folder: Path) -> None:
    change, text = REPLAYED[name]
    edit(folder, change)
    assert problem(folder) == ""
    found = problem(folder, replay=True)
    assert found.startswith("of choice {")
    assert text in found


def test_a_little_is_the_numbers_of_other_weights(folder: Path) -> None:
    """Layers with one key may differ in what their numbers cost."""
    edit(folder, lambda r: r["cycles"].update({FLASH: r["cycles"][FLASH] * 101 // 100}))
    edit(folder, lambda r: r.update(code_bytes=r["code_bytes"] + 8))
    assert problem(folder, replay=True) == ""


def test_a_choice_that_gives_no_kernel_any_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm_tinyml.tuning.measure import Job, Refused

    monkeypatch.setattr(
        InProcess, "measure", lambda _, jobs: ((job, Refused(job.choice, "mismatch: 3 of 10 bytes")) for job in jobs)
    )
    assert problem(folder, replay=True).endswith("gives no kernel: mismatch: 3 of 10 bytes")
    del Job


@pytest.mark.parametrize("replay", [False, True])
def test_it_changes_nothing(replay: bool, folder: Path) -> None:
    edit(folder, lambda r: r["cycles"].update({FLASH: 7}))
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    verdicts(tiny(), folder, replay=replay)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_wrong_memory_or_log_is_refused(folder: Path) -> None:
    with pytest.raises(TargetError, match="Tuning counts cycles in memory l4r5zi-120 or zero-wait, not 'flash'"):
        verdicts(tiny(), folder, memory="flash")
    with pytest.raises(TargetError, match="There is no target named 'cortex-m5'"):
        check(model(tiny()), "cortex-m5", folder, memory=FLASH, replay=False)
    with pytest.raises(TuningLogError, match="is not there"):
        verdicts(tiny(), folder / "none")
    (folder / TARGET / "dense.json").write_text("{")
    with pytest.raises(TuningLogError, match="is not JSON"):
        verdicts(tiny(), folder)


def test_a_network_without_a_choice_has_nothing_to_check(folder: Path) -> None:
    from tests.library.builds import network

    assert verdicts(network("through"), folder, replay=True) == []
