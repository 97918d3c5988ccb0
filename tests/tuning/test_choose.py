"""What a build takes from a log: choices that fit its goal and memory, and nothing that changes a result."""

from __future__ import annotations

import dataclasses
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tvm

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Int8Graph, Network
from tests.tuning.networks import TARGET, model, several, tiny, twins
from tvm_tinyml.choice import KERNEL, Choice, is_as_chosen, text_of
from tvm_tinyml.device.timing import MODEL_VERSION
from tvm_tinyml.errors import FitError, NotTunedError, TargetError, TuningLogError
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import lower_model
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning import choose
from tvm_tinyml.tuning.choose import Candidate, Chooser, pick
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import FLASH, NO_WAIT, Job, Measured, measure_safely
from tvm_tinyml.tuning.records import Record
from tvm_tinyml.tuning.task import Task
from tvm_tinyml.tuning.tune import tasks_for
from tvm_tinyml.verification import verify

pytestmark = pytest.mark.usefixtures("nothing_shipped")


@cache
def tasks(make: Callable[[], Network]) -> list[Task]:
    return [task for task in tasks_for(model(make()), cortex_m(TARGET), FLASH) if task.tunable]


@cache
def measured(make: Callable[[], Network], number: int, choice: str | None) -> Record | None:
    task = tasks(make)[number]
    asked = next((each for each in task.choices.every() if text_of(each) == choice), None)
    outcome = measure_safely(Job(task.workload, TARGET, asked))
    if not isinstance(outcome, Measured):
        return None
    costs = (outcome.cycles, outcome.instructions, outcome.workspace_bytes, outcome.code_bytes)
    return Record(outcome.choice, *costs, MODEL_VERSION, tvm.__version__, tinyml.__version__)


def numbers(make: Callable[[], Network]) -> range:
    return range(len(tasks(make)))


def another(make: Callable[[], Network], number: int) -> Record:
    """Return a record of a choice that is not the compiler's own."""
    default = measured(make, number, None)
    assert default is not None
    every = list(tasks(make)[number].choices.every())
    for choice in random.Random(number).sample(every, min(40, len(every))):
        record = measured(make, number, text_of(choice))
        if record is not None and record.choice != default.choice:
            return record
    raise AssertionError("there is no other choice")


def written(folder: Path, make: Callable[[], Network], records: Mapping[int, Sequence[Record]]) -> Path:
    """Write a log with these records by number of the operator."""
    log = TuningLog(folder, TARGET)
    for number, found in records.items():
        log.add(tasks(make)[number].key, found, len(found))
    log.save()
    return folder


def chosen(network: Network, goal: str = "time", **options: Any) -> set[str]:
    """Return what the kernels of a build were made by."""
    core, plain = cortex_m(TARGET), {name: str(value) for name, value in options.items() if name == "tuning_log"}
    settings = BuildOptions(goal=goal, **{**options, **plain})
    program = lower_model(model(network), core, settings, Chooser.of(core, settings).choose)
    return {text_of(kernel.choice) for kernel in program.kernels.values() if kernel.choice}


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of `several` with a choice for every operator that the compiler would not take by itself."""
    folder = tmp_path_factory.mktemp("complete")
    return written(folder, several, {number: [another(several, number)] for number in numbers(several)})


def test_a_build_follows_the_log_and_computes_the_same(complete: Path) -> None:
    library = tinyml.build(model(several()), TARGET, goal="time", tuning_log=complete, require_tuned=True)
    records = [another(several, number) for number in numbers(several)]
    assert library.metadata["kernels"]["tuned"] == len(records) >= 4
    assert {text_of(record.choice) for record in records} <= chosen(several(), tuning_log=complete)
    schedules = [layer["schedule"] for layer in library.metadata["layers"]]
    assert {str(record.choice[KERNEL]).replace("DenseGemm", "ConvGemm") for record in records} <= {*schedules}
    assert verify(model(several()), library).differing == 0
    plain = tinyml.build(model(several()), TARGET, goal="time")
    assert plain.metadata["kernels"]["tuned"] == 0
    assert plain.archive != library.archive


def test_layers_that_are_alike_all_follow(tmp_path: Path) -> None:
    record = another(twins, 0)
    folder = written(tmp_path, twins, {0: [record]})
    library = tinyml.build(model(twins()), TARGET, goal="time", tuning_log=folder)
    layers = [layer for layer in library.metadata["layers"] if layer["op"] == "conv2d"]
    assert len(layers) == 2
    assert {layer["schedule"] for layer in layers} == {record.choice[KERNEL]}
    assert text_of(record.choice) in chosen(twins(), tuning_log=folder)
    assert verify(model(twins()), library).differing == 0


def test_without_the_pass_the_log_is_not_looked_at(complete: Path) -> None:
    options: dict[str, Any] = {"goal": "time", "disabled_passes": ["tinyml.ChooseKernels"]}
    with_log = tinyml.build(model(several()), TARGET, tuning_log=complete, **options)
    without = tinyml.build(model(several()), TARGET, **options)
    assert with_log.metadata["kernels"]["tuned"] == 0
    assert (with_log.archive, with_log.sources) == (without.archive, without.sources)
    with pytest.raises(TargetError, match=r"require_tuned needs the pass tinyml\.ChooseKernels"):
        tinyml.build(model(several()), TARGET, require_tuned=True, **options)


@pytest.mark.parametrize("goal", ["flash", "ram"])
def test_a_build_for_small_memory_takes_no_choice(goal: str, complete: Path) -> None:
    with_log = tinyml.build(model(several()), TARGET, goal=goal, tuning_log=complete)
    assert with_log.metadata["kernels"]["tuned"] == 0
    assert with_log.archive == tinyml.build(model(several()), TARGET, goal=goal).archive


def test_with_another_goal_the_result_is_the_same_too(complete: Path) -> None:
    library = tinyml.build(model(several()), TARGET, goal="balanced", tuning_log=complete)
    assert verify(model(several()), library).differing == 0


def test_where_a_log_lies_is_not_in_a_library(complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete, tmp_path / "elsewhere")
    options: dict[str, Any] = {"goal": "time", "emit": "both"}
    first, second = (
        tinyml.build(model(several()), TARGET, tuning_log=folder, **options)
        for folder in (complete, tmp_path / "elsewhere")
    )
    assert first.archive == second.archive
    assert first.header == second.header
    assert first.sources == second.sources
    assert first.metadata == second.metadata
    assert str(complete) not in str(first.metadata)


def costing(record: Record, flash: int, no_wait: int) -> Record:
    return dataclasses.replace(record, cycles={FLASH: flash, NO_WAIT: no_wait}, workspace_bytes=0, code_bytes=500)


def test_the_memory_decides_between_records(tmp_path: Path) -> None:
    every = [text_of(choice) for choice in tasks(tiny)[0].choices.every()]
    first, second, *_ = (record for choice in every if (record := measured(tiny, 0, choice)))
    waits, waits_not = costing(first, 9000, 6000), costing(second, 10000, 5000)
    folder = written(tmp_path, tiny, {0: [waits, waits_not]})
    for memory, record in (("l4r5zi-120", waits), ("zero-wait", waits_not), ("nrf5340-128", waits)):
        assert chosen(tiny(), memory=memory, tuning_log=folder) == {text_of(record.choice)}, memory


@cache
def tall() -> Network:
    """A depthwise layer whose planes do not fit the scratch of every goal."""
    graph = Int8Graph(0, samples=2)
    return graph.finish("tall", graph.depthwise(graph.input((1, 48, 48, 8), (0.1, -3)), (3, 3)))


def test_a_choice_that_takes_more_scratch_than_the_goal_allows_is_left_alone(tmp_path: Path) -> None:
    def record(rows: int) -> Record:
        fixed = {KERNEL: "Depthwise", "planes": "strips", "side": "upright", "rows": rows, "shift": "own"}
        (choice,) = (each for each in tasks(tall)[0].choices.every() if is_as_chosen(each, fixed))
        found = measured(tall, 0, text_of(choice))
        assert found is not None
        return found

    most = max(rows for rows in (16, 24, 32) if rows in tasks(tall)[0].choices.spaces["Depthwise"]["rows"])
    many, few = record(most), record(4)
    assert few.workspace_bytes < 4096 < many.workspace_bytes
    fast = dataclasses.replace(many, cycles={FLASH: 1000, NO_WAIT: 1000}, code_bytes=500)
    folder = written(tmp_path / "one", tall, {0: [fast]})
    assert chosen(tall(), "time", tuning_log=folder) == {text_of(many.choice)}
    assert chosen(tall(), "balanced", tuning_log=folder) == chosen(tall(), "balanced")
    with pytest.raises(NotTunedError, match="that fits goal balanced"):
        tinyml.build(model(tall()), TARGET, goal="balanced", tuning_log=folder, require_tuned=True)
    both = written(tmp_path / "both", tall, {0: [fast, dataclasses.replace(few, code_bytes=500)]})
    assert chosen(tall(), "time", tuning_log=both) == {text_of(many.choice)}
    assert chosen(tall(), "balanced", tuning_log=both) == {text_of(few.choice)}


@cache
def weighty() -> Network:
    """A pointwise layer most of whose flash is weights."""
    graph = Int8Graph(0, samples=2)
    x = graph.input((1, 4, 4, 128), (0.1, -128))
    return graph.finish("weighty", graph.conv(x, 128, (1, 1), activation="RELU"))


def test_weights_that_take_twice_the_flash_must_save_as_many_cycles(tmp_path: Path) -> None:
    """16 KB more are worth a 64th of the cycles if time is the goal, and a sixth if it is balanced."""

    def record(product: str, cycles: int) -> Record:
        fixed = {KERNEL: "ConvGemm", "product": product, "tiles": 4, "shared": 0, "copies": 0}
        (choice,) = (each for each in tasks(weighty)[0].choices.every() if is_as_chosen(each, fixed))
        found = measured(weighty, 0, text_of(choice))
        assert found is not None
        return costing(found, cycles, cycles)

    narrow = dataclasses.replace(record("raw", 100_000), code_bytes=400)
    for cycles, for_time, for_both in ((99_000, "raw", "raw"), (97_000, "whole", "raw"), (80_000, "whole", "whole")):
        folder = written(tmp_path / str(cycles), weighty, {0: [narrow, record("whole", cycles)]})
        for goal, product in (("time", for_time), ("balanced", for_both)):
            (choice,) = chosen(weighty(), goal, tuning_log=folder)
            assert f'"product":"{product}"' in choice.replace(" ", ""), (cycles, goal)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, several, {number: [another(several, number)] for number in (0, *numbers(several)[3:])})
    with pytest.raises(NotTunedError) as caught:
        tinyml.build(model(several()), TARGET, goal="time", tuning_log=folder, require_tuned=True)
    text = str(caught.value)
    assert text.startswith(f"2 operators have no record for cortex-m4 in {folder} that fits goal time:\n  conv2d [1,8")
    assert text.endswith(f"Tune them: tvm-tinyml tune MODEL --target cortex-m4 --tuning-log {folder}.")
    assert text.count("\n  conv2d") == 2
    assert tinyml.build(model(several()), TARGET, goal="time", tuning_log=folder).metadata["kernels"]["tuned"] > 1


def test_a_network_without_a_choice_is_tuned_enough(tmp_path: Path) -> None:
    from tests.library.builds import model as known

    tinyml.build(known("through"), TARGET, require_tuned=True)
    tinyml.build(known("through"), TARGET, tuning_log=tmp_path, require_tuned=True)


@pytest.mark.parametrize("goal", ["flash", "ram"])
def test_goals_whose_kernels_are_not_tuned_cannot_require_it(goal: str) -> None:
    with pytest.raises(TargetError, match=f"Goal '{goal}' .* leave out require_tuned"):
        tinyml.build(model(tiny()), TARGET, goal=goal, require_tuned=True)


@pytest.mark.parametrize("name", ["model_version", "tvm"])
def test_records_of_other_versions_are_not_used(name: str, tmp_path: Path) -> None:
    old = dataclasses.replace(another(tiny, 0), **{name: "0"})
    folder = written(tmp_path, tiny, {0: [old]})
    assert chosen(tiny(), tuning_log=folder) == chosen(tiny())
    with pytest.raises(NotTunedError):
        tinyml.build(model(tiny()), TARGET, goal="time", tuning_log=folder, require_tuned=True)


@pytest.mark.parametrize(
    "choice",
    [{KERNEL: "Nobody"}, {KERNEL: "DenseRows", "channels": 7}, {KERNEL: "DenseRows", "channels": 10**9}],
)
def test_a_choice_that_nobody_has_is_left_alone(choice: Choice, tmp_path: Path) -> None:
    folder = written(tmp_path, tiny, {0: [dataclasses.replace(another(tiny, 0), choice=choice)]})
    assert chosen(tiny(), tuning_log=folder) == chosen(tiny())


def test_a_choice_that_leaves_a_knob_to_its_kernel_is_one(tmp_path: Path) -> None:
    record = dataclasses.replace(another(tiny, 0), choice={KERNEL: "DenseRows"})
    folder = written(tmp_path, tiny, {0: [record]})
    library = tinyml.build(model(tiny()), TARGET, tuning_log=folder, require_tuned=True)
    assert library.metadata["kernels"]["tuned"] == 1


def test_a_damaged_log_is_an_error_of_every_build(complete: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(complete, folder)
    file = folder / TARGET / "dense.json"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TuningLogError, match=r"dense\.json' is not JSON: .* Restore it from version control"):
        tinyml.build(model(several()), TARGET, tuning_log=folder)
    assert tinyml.build(model(tiny()), "cortex-m7", tuning_log=folder).metadata["kernels"]["tuned"] == 0


def test_a_log_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(TuningLogError, match=r"logs' is not there\. Make it: tvm-tinyml tune MODEL --target cortex-m4"):
        tinyml.build(model(tiny()), TARGET, tuning_log=tmp_path / "logs")


def test_ones_own_log_goes_before_the_one_that_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *_ = (
        record for choice in tasks(tiny)[0].choices.every() if (record := measured(tiny, 0, text_of(choice)))
    )
    shipped, own = written(tmp_path / "shipped", tiny, {0: [first]}), written(tmp_path / "own", tiny, {0: [second]})
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(choose, "shipped_log", lambda: shipped)
    choose._shipped.cache_clear()
    assert chosen(tiny()) == {text_of(first.choice)}
    assert chosen(tiny(), tuning_log=own) == {text_of(second.choice)}
    assert chosen(tiny(), tuning_log=tmp_path / "empty") == {text_of(first.choice)}
    assert tinyml.build(model(tiny()), TARGET, require_tuned=True).metadata["kernels"]["tuned"] == 1


def test_what_is_too_old_in_ones_own_log_is_looked_for_in_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = another(tiny, 0)
    old = dataclasses.replace(record, model_version="0")
    shipped, own = written(tmp_path / "shipped", tiny, {0: [record]}), written(tmp_path / "own", tiny, {0: [old]})
    monkeypatch.setattr(choose, "shipped_log", lambda: shipped)
    choose._shipped.cache_clear()
    assert chosen(tiny(), tuning_log=own) == {text_of(record.choice)}


def candidate(name: str, cycles: int, workspace_bytes: int = 0, **code_bytes: int) -> Candidate:
    return Candidate({KERNEL: name}, cycles, workspace_bytes, code_bytes)


def test_code_that_is_there_already_costs_nothing() -> None:
    """Each alone would take its own; together they share."""
    first = [candidate("own", 1000, a=5000), candidate("shared", 1040, s=5000)]
    second = [candidate("own", 1000, b=5000), candidate("shared", 1040, s=5000)]
    only = [candidate("shared", 2000, s=5000)]
    share = 1e-5  # a byte is worth 0.04 cycles
    assert [each.choice[KERNEL] for each in pick([first, second, only], share)] == ["shared"] * 3
    assert [each.choice[KERNEL] for each in pick([first, second], share)] != ["shared", "own"]
    assert [each.choice[KERNEL] for each in pick([first], share)] == ["own"]


def test_code_that_saves_enough_is_taken() -> None:
    operator = [candidate("large", 1000, a=10_000), candidate("small", 1100, b=100)]
    assert pick([operator], 1e-6)[0].choice[KERNEL] == "large"
    assert pick([operator], 1e-5)[0].choice[KERNEL] == "large"
    assert pick([operator], 1e-4)[0].choice[KERNEL] == "small"


def test_of_equals_the_one_with_less_scratch_is_taken() -> None:
    operator = [candidate("more", 1000, 64, a=100), candidate("less", 1000, 32, b=100)]
    assert pick([operator], 1e-5)[0].choice[KERNEL] == "less"
    assert pick([], 1e-5) == []


def test_what_is_tuned_and_does_not_fit_is_told_so(tmp_path: Path) -> None:
    """Not cut into stripes, of which no log knows; and the advice is about all goals."""
    folder = written(tmp_path, tiny, {0: [another(tiny, 0)]})
    options: dict[str, Any] = {"goal": "time", "tuning_log": folder, "ram_limit_bytes": 10}
    with pytest.raises(FitError, match=r"tiny needs .* bytes of RAM with goal time"):
        tinyml.build(model(tiny()), TARGET, require_tuned=True, **options)
