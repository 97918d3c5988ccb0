"""``bench --against``: what changed since another run, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Refused, Run
from tests.library.builds import library
from tvm_tinyml import benchmark
from tvm_tinyml.benchmark import bench
from tvm_tinyml.caveat import caveat
from tvm_tinyml.comparison import Change, Comparison, Figures
from tvm_tinyml.device.timing import MODEL_VERSION

CAVEAT = caveat("cortex-m4")


def figures(name: str = "small", **options: Any) -> dict[str, Any]:
    return json.loads(json.dumps(bench(library(name, **options))))


def scaled(found: dict[str, Any], percent: float) -> dict[str, Any]:
    """The figures as they were when they came to so many percent of what they are."""
    for place, name in ((found, "cycles"), (found["ram_bytes"], "total"), (found["flash_bytes"], "total")):
        place[name] = round(place[name] * percent / 100)
    return found


@pytest.fixture
def before(here: Path) -> Callable[[dict[str, Any]], Path]:
    """Return a function that writes earlier figures."""

    def write(found: dict[str, Any]) -> Path:
        file = here / "before.json"
        file.write_text(json.dumps(found))
        return file

    return write


@pytest.mark.usefixtures("here")
def test_figures_against_themselves_have_not_changed(cli: Run) -> None:
    assert cli("bench", "out", "-q", "--json", "before.json").code == 0
    outcome = cli("bench", "out", "--against", "before.json", "--fail-above", "0")
    now = figures()
    assert (outcome.code, outcome.err) == (0, "")
    head, *rows = outcome.out.splitlines()
    assert head == "small on cortex-m4, memory zero-wait, simulated"
    assert [row.split() for row in rows[:5]] == [
        ["before", "now", "change,", "%"],
        ["cycles", *[f"{now['cycles']:,}"] * 2, "0.00"],
        ["instructions", *[f"{now['instructions']:,}"] * 2, "0.00"],
        ["RAM", "bytes", *[f"{now['ram_bytes']['total']:,}"] * 2, "0.00"],
        ["flash", "bytes", *[f"{now['flash_bytes']['total']:,}"] * 2, "0.00"],
    ]
    assert rows[5:] == ["", "Every layer takes as many cycles as before.", "", CAVEAT]


def test_what_changed_is_shown_with_the_layers_that_did(before: Callable[..., Path], cli: Run) -> None:
    old = figures()
    old["model"] = "tiny"
    old["cycles"] = old["cycles"] * 2
    old["layers"][-1]["cycles"] += 300
    old["layers"].append({"name": "softmax_0", "cycles": 1234})
    outcome = cli("bench", "out", "--against", before(old), "--markdown")
    now, last = figures(), figures()["layers"][-1]
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[:2] == ["### small on cortex-m4, memory zero-wait, simulated; before: tiny", ""]
    assert lines[2:5] == [
        "|  | before | now | change, % |",
        "|---|---:|---:|---:|",
        f"| cycles | {2 * now['cycles']:,} | {now['cycles']:,} | -50.00 |",
    ]
    percent = -100 * 300 / (last["cycles"] + 300)
    assert lines[8:] == [
        "",
        "| layer | cycles before | now | change, % |",
        "|---|---:|---:|---:|",
        f"| {last['name']} | {last['cycles'] + 300:,} | {last['cycles']:,} | {percent:.2f} |",
        "| softmax_0 | 1,234 | - | - |",
        "",
        CAVEAT,
    ]


def test_growth_above_the_limit_fails_and_is_named(before: Callable[..., Path], cli: Run) -> None:
    old, now = scaled(figures(), 90), figures()
    old["instructions"] = 1  # which nobody limits
    arguments = ("bench", "out", "-q", "--against", before(old), "--json", "now.json", "--fail-above")
    outcome = cli(*arguments, 2)
    assert (outcome.code, outcome.out) == (1, "")
    grown = [
        ("cycles", old["cycles"], now["cycles"]),
        ("RAM bytes", old["ram_bytes"]["total"], now["ram_bytes"]["total"]),
        ("flash bytes", old["flash_bytes"]["total"], now["flash_bytes"]["total"]),
    ]
    assert outcome.err.splitlines() == [
        f"tvm-tinyml: {name} grew by {100 * (new - was) / was:.2f} %, from {was:,} to {new:,}, and 2 % is allowed."
        for name, was, new in grown
    ]
    assert json.loads(Path("now.json").read_text()) == now
    assert cli(*arguments, 12.5) == (0, "", "")
    assert cli(*arguments[:-1]) == (0, "", "")


def test_figures_that_shrank_do_not_fail(before: Callable[..., Path], cli: Run) -> None:
    assert cli("bench", "out", "-q", "--against", before(scaled(figures(), 150)), "--fail-above", 0) == (0, "", "")


def test_json_on_the_output_stays_only_json(before: Callable[..., Path], cli: Run) -> None:
    outcome = cli("bench", "out", "--against", before(scaled(figures(), 50)), "--json", "-", "--fail-above", 0)
    assert outcome.code == 1
    assert json.loads(outcome.out) == figures()


def test_wrong_outputs_fail_beside_a_comparison(
    before: Callable[..., Path], cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = benchmark.evaluate
    monkeypatch.setattr(benchmark, "evaluate", lambda *a: [np.bitwise_xor(array, 1) for array in evaluate(*a)])
    outcome = cli("bench", "small.tflite", "--target", "cortex-m4", "--against", before(figures()))
    assert (outcome.code, outcome.err) == (1, "tvm-tinyml: 60 of 60 output bytes differ from tflite.\n")


@pytest.mark.parametrize(
    ("was", "percent"), [(0, None), (1000, 0.0), (990, 100 * 10 / 990), (2000, -50.0)], ids=str
)
def test_percent(was: int, percent: float | None) -> None:
    assert Change("x", was, 1000).percent == (float("inf") if percent is None else percent)
    assert Change("x", None, was).percent is Change("x", was, None).percent is None
    assert Change("x", 0, 0).percent == 0


def test_growth_from_nothing_is_growth() -> None:
    now = figures()
    old = json.loads(json.dumps(now))
    old["cycles"] = 0
    comparison = Comparison.of(Figures.of(old), Figures.of(now), "old.json")
    assert comparison.grown(1e6) == [Change("cycles", 0, now["cycles"])]
    assert "cycles             0  " in comparison.report()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not JSON in line 1, column 1"),
        (b'{"model": \n"x"', "is not JSON in line 2, column 4"),
        (b"\xff\xfe\xff", "is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[1, 2]", "has [1, 2] where an object with 'layers' belongs"),
        (b"{}", "has no 'layers'"),
    ],
    ids=["empty", "cut", "binary", "deep", "list", "object"],
)
def test_a_file_that_is_no_json_of_ours_is_refused(content: bytes, what: str, here: Path, refused: Refused) -> None:
    (here / "x.json").write_bytes(content)
    assert refused("bench", "out", "--against", "x.json") == (
        f"tvm-tinyml: 'x.json' {what}: it is not what bench writes. "
        "Write it with tvm-tinyml bench MODEL --json FILE.\n"
    )


@pytest.mark.parametrize(
    ("names", "value", "what"),
    [
        (["cycles"], None, "has no 'cycles'"),
        (["model_version"], None, "has no 'model_version'"),
        (["ram_bytes", "total"], None, "has no 'total'"),
        (["cycles"], 1.5, "has 1.5 for 'cycles', where a whole number from 0 to 2**53 belongs"),
        (["cycles"], -1, "has -1 for 'cycles', where a whole number"),
        (["cycles"], True, "has True for 'cycles', where a whole number"),
        (["flash_bytes"], 7, "has 7 where an object with 'total' belongs"),
        (["target"], 4, "has 4 for 'target', where a text belongs"),
        (["layers"], {}, "has {} for 'layers', where a list belongs"),
        (["layers"], [3], "has 3 where an object with 'name' belongs"),
        (["layers", 0, "cycles"], "9", "has '9' for 'cycles', where a whole number"),
    ],
    ids=str,
)
def test_figures_that_are_damaged_say_where(
    names: list[Any], value: Any, what: str, before: Callable[..., Path], refused: Refused
) -> None:
    damaged = figures()
    place: Any = damaged
    for name in names[:-1]:
        place = place[name]
    if value is None:
        del place[names[-1]]
    else:
        place[names[-1]] = value
    assert f"before.json' {what}" in refused("bench", "out", "--against", before(damaged))


@pytest.mark.parametrize(
    ("name", "value", "meaning"),
    [
        ("target", "cortex-m7", "target 'cortex-m7', and these of 'cortex-m4'"),
        ("memory", "l4r5zi-120", "memory 'l4r5zi-120', and these of 'zero-wait'"),
        ("on", "qemu", "engine 'qemu', and these of 'sim'"),
        ("model_version", "0", f"timing model '0', and these of '{MODEL_VERSION}'"),
    ],
)
def test_figures_that_were_measured_otherwise_are_refused(
    name: str, value: str, meaning: str, before: Callable[..., Path], refused: Refused
) -> None:
    message = refused("bench", "out", "--json", "now.json", "--against", before({**figures(), name: value}))
    assert f"are of {meaning}: they cannot be compared. Measure again what they are of, in the same way." in message


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--against", "none.json"), "Figures 'none.json' cannot be read: No such file or directory."),
        (("--against", "out"), "Figures 'out' cannot be read: Is a directory."),
        (("--against", ""), "argument --against: the path is empty."),
        (("--markdown",), "--markdown needs --against and a file of figures to compare with."),
        (("--fail-above", "3"), "--fail-above needs --against and a file of figures to compare with."),
        (("--fail-above", "much"), "argument --fail-above: 'much' is no number of percent from 0 on."),
        (("--fail-above=-1",), "argument --fail-above: '-1' is no number of percent from 0 on."),
        (("--fail-above", "nan"), "argument --fail-above: 'nan' is no number of percent from 0 on."),
    ],
)
def test_wrong_use(arguments: tuple[str, ...], text: str, refused: Refused) -> None:
    assert text in refused("bench", "out", *arguments)
