"""Tuning a network: what is found is written down, nothing is measured twice, and nothing that is wrong stays."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tvm_tinyml as tinyml
from benchmarks.int8_graph import Network
from tests.tuning.conftest import InProcess
from tests.tuning.networks import TARGET, model, several, tiny, twins
from tvm_tinyml.choice import KERNEL, Choice, text_of
from tvm_tinyml.errors import DeviceError, TargetError, TuningLogError
from tvm_tinyml.targets.cortex_m import cortex_m
from tvm_tinyml.tuning import measure
from tvm_tinyml.tuning import task as task_module
from tvm_tinyml.tuning.cost_model import CostModel
from tvm_tinyml.tuning.journal import Failure, Journal
from tvm_tinyml.tuning.key import KERNELS_VERSION
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.measure import FLASH, NO_WAIT, Job, Outcome, Refused
from tvm_tinyml.tuning.records import Key, Record, key_text
from tvm_tinyml.tuning.space import Choices
from tvm_tinyml.tuning.task import EXHAUSTIVE, Task
from tvm_tinyml.tuning.tune import Progress, TuneOptions, tasks_for, tune

pytestmark = pytest.mark.usefixtures("in_process")

Tune = Callable[..., Progress]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def run(network: Network, folder: Path, report: Callable[[Progress], None] | None = None, **options: Any) -> Progress:
    return tune(model(network), TARGET, folder, TuneOptions(**options), report)


def files(folder: Path) -> dict[str, bytes]:
    """Return the log, without what is one machine's."""
    return {file.name: file.read_bytes() for file in sorted((folder / TARGET).glob("*.json"))}


def forget(folder: Path) -> None:
    """Remove the journal."""
    (folder / TARGET / "trials.jsonl").unlink()


def edit(folder: Path, change: Callable[[dict[str, Any]], None], operator: str = "dense") -> None:
    """Change the first entry of an operator by hand."""
    path = folder / TARGET / f"{operator}.json"
    content = json.loads(path.read_text())
    change(content["entries"][0])
    path.write_text(json.dumps(content))


def tunable(network: Network) -> list[Task]:
    return [task for task in tasks_for(model(network), cortex_m(TARGET), FLASH) if task.tunable]


def test_every_operator_with_a_choice_gets_an_entry_and_none_is_slower_than_before(folder: Path) -> None:
    progress = run(several(), folder, trials=24)
    log = TuningLog.load(folder, TARGET)
    tasks = tunable(several())
    assert len(log) == len(tasks) >= 4
    for task in tasks:
        entry = log.find(task.key)
        assert entry is not None
        assert entry.default is not None
        assert task.best_of(entry.records).cycles[FLASH] <= entry.default.cycles[FLASH]
        assert {FLASH, NO_WAIT} == {*entry.default.cycles}
        assert all(task.choices.has(record.choice) for record in entry.records)
    assert progress.cycles <= progress.default_cycles
    assert progress.trials == 24
    assert sum(len(task.known) for task in progress.tasks) + len(progress.tasks) - len(tasks) == 24


def test_everything_that_was_measured_is_in_the_journal(folder: Path, in_process: type[InProcess]) -> None:
    progress = run(twins(), folder, trials=20)
    history = Journal(folder, TARGET).read()
    written = [trial for trials in history.trials.values() for trial in trials]
    assert len(written) == len(in_process.jobs) - sum(not task.tunable for task in progress.tasks)
    asked = {text_of(job.choice) for job in in_process.jobs if job.choice}
    assert asked <= {text_of(trial.choice) for trial in written}
    failures = [trial.outcome for trial in written if isinstance(trial.outcome, Failure)]
    assert len(failures) == progress.refused == sum(progress.reasons.values())
    assert {failure.error.split(":")[0] for failure in failures} == {*progress.reasons}


def test_what_was_measured_for_one_network_teaches_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what gave no kernel; a key that no operator has is passed over."""
    taught: list[tuple[str, float | None]] = []

    class Spy(CostModel):
        def add(self, key: Key, choice: Choice, ratio: float | None) -> None:
            super().add(key, choice, ratio)
            taught.append((key_text(key), ratio))

    run(several(), folder, trials=30)
    history = Journal(folder, TARGET).read()
    with Journal(folder, TARGET) as journal:
        strange = {"operator": "conv2d", "shapes": [], "kernels": KERNELS_VERSION}
        trial = next(t for found in history.trials.values() for t in found if isinstance(t.outcome, Record))
        assert isinstance(trial.outcome, Record)
        journal.append(strange, trial.choice, trial.outcome)
    edit_log = TuningLog.load(folder, TARGET)
    edit_log.add(strange, [trial.outcome], 1, trial.outcome)
    edit_log.save()
    monkeypatch.setattr("tvm_tinyml.tuning.tune.CostModel", Spy)
    own = {key_text(task.key) for task in tunable(twins())}
    progress = run(twins(), folder, trials=4)
    others = [(text, ratio) for text, ratio in taught if text not in own]
    foreign = [digest for digest, key in history.keys.items() if key_text(key) not in own]
    measured = [trial for digest in foreign for trial in history.trials[digest]]
    assert len(others) == len(measured) > 20
    assert [ratio is None for _, ratio in others] == [isinstance(trial.outcome, Failure) for trial in measured]
    assert progress.known == 0, "they are no trials of this network"


def test_running_again_measures_nothing_that_is_known(folder: Path, in_process: type[InProcess]) -> None:
    first = run(twins(), folder, trials=20)
    known = {text_of(job.choice) for job in in_process.jobs if job.choice}
    before = files(folder)
    again = run(twins(), folder, trials=len(first.tasks) + 10)
    jobs = in_process.jobs
    assert [job.choice for job in jobs[: len(first.tasks)]] == [None] * len(first.tasks), "the yardstick, and a check"
    assert known.isdisjoint(text_of(job.choice) for job in jobs if job.choice)
    assert len(jobs) == len(first.tasks) + 10
    assert again.known == first.trials - len(first.tasks)
    assert again.stale == []
    assert again.cycles <= first.cycles
    assert again.default_cycles == first.default_cycles
    run(twins(), folder, trials=1)
    assert files(folder) == files(folder) if again.cycles < first.cycles else before


def test_a_small_space_is_exhausted_and_then_there_is_nothing_to_do(
    folder: Path, in_process: type[InProcess]
) -> None:
    progress = run(tiny(), folder, trials=10**6)
    (task,) = progress.tasks
    assert task.choices.size <= EXHAUSTIVE
    assert task.done
    assert {*task.known} == {text_of(choice) for choice in task.choices.every()}
    before = files(folder)
    again = run(tiny(), folder, trials=10**6)
    assert (again.trials, len(in_process.jobs)) == (1, 1)
    assert files(folder) == before


def test_resume_counts_what_earlier_runs_measured(folder: Path) -> None:
    run(twins(), folder, trials=10)
    assert run(twins(), folder, trials=10, resume=True).trials == 2, "both operators without a choice"
    more = run(twins(), folder, trials=14, resume=True)
    assert more.trials + more.known == 14


def test_no_more_trials_than_asked_for(folder: Path) -> None:
    for trials in (1, 7):
        progress = run(twins(), folder / str(trials), trials=trials)
        assert progress.trials == max(trials, len(progress.tasks))


def test_minutes_end_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def later(_: Progress) -> None:
        now[0] += 10

    progress = run(several(), folder, later, trials=10**6, minutes=4)
    assert 240 <= progress.seconds < 240 + 17 * 10, "after the batch in which time is up"
    assert progress.left_seconds(TuneOptions(minutes=4)) == 0
    assert len(TuningLog.load(folder, TARGET)) == len(tunable(several()))


def test_enough_is_enough(folder: Path) -> None:
    cycles: list[int] = []
    whole = run(twins(), folder / "whole", lambda p: cycles.append(p.cycles), trials=20)
    assert whole.trials == 20
    for name, target in (("default", whole.default_cycles), ("best", whole.cycles)):
        progress = run(twins(), folder / name, trials=20, target_cycles=target)
        assert progress.cycles <= target
        reached = next(i for i, each in enumerate(cycles, 1) if i >= len(whole.tasks) and each <= target)
        assert reached <= progress.trials <= max(reached + 16, len(whole.tasks))
    assert run(twins(), folder / "default", trials=10**6, target_cycles=10**9).trials == len(whole.tasks)


def test_it_stops_where_nothing_better_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_module, "PATIENCE", 1)
    progress = run(twins(), folder, trials=10**6)
    assert all(task.done for task in progress.tasks)
    large = max(progress.tasks, key=lambda task: task.choices.size)
    assert len(large.known) < large.choices.size
    assert large.best[-2] - large.best[-1] < 0.0005 * large.best[-2]
    gains = [before - after for before, after in itertools.pairwise(large.best[:-1])]
    assert all(gain >= 0.0005 * before for gain, before in zip(gains, large.best, strict=False))


def test_layers_that_are_alike_are_tuned_once(folder: Path) -> None:
    first, second = run(twins(), folder, trials=4).tasks
    assert (len(first.layers), len(second.layers)) == (2, 1)
    progress = run(twins(), folder, trials=4)
    assert progress.cycles == 2 * progress.tasks[0].cycles + progress.tasks[1].cycles


def test_two_runs_with_one_seed_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever worker is the first to be done."""
    run(twins(), tmp_path / "a", trials=40, seed=3)
    measure_in_order = InProcess.measure

    def backwards(self: InProcess, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        yield from reversed(list(measure_in_order(self, jobs)))

    monkeypatch.setattr(InProcess, "measure", backwards)
    run(twins(), tmp_path / "b", trials=40, seed=3)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    journals = [(tmp_path / name / TARGET / "trials.jsonl").read_text().splitlines() for name in "ab"]
    assert journals[0] != journals[1]
    assert sorted(journals[0]) == sorted(journals[1])


def test_what_a_stopped_run_left_in_the_journal_comes_into_the_log(folder: Path) -> None:
    run(twins(), folder, trials=12)
    whole = files(folder)
    for file in (folder / TARGET).glob("*.json"):
        file.unlink()
    progress = run(twins(), folder, trials=1)
    assert progress.known == 10
    assert files(folder) == whole


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "cycles": lambda entry: entry["records"][0]["cycles"].update({FLASH: 7, NO_WAIT: 7}),
    "more cycles": lambda entry: entry["records"][0]["cycles"].update({FLASH: 10**9, NO_WAIT: 10**9}),
    "workspace": lambda entry: entry["records"][0].update(workspace_bytes=123456),
    "code": lambda entry: entry["records"][0].update(code_bytes=1),
    "a choice": lambda entry: entry["records"][0]["choice"].update(channels=1234),
    "a kernel": lambda entry: entry["records"][0]["choice"].update(kernel="Nobody"),
}


@pytest.mark.parametrize("with_journal", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_by_hand_is_found_and_replaced(name: str, with_journal: bool, folder: Path) -> None:
    run(tiny(), folder, trials=100)
    before = files(folder)
    edit(folder, CHANGES[name])
    if not with_journal:
        forget(folder)
    progress = run(tiny(), folder, trials=100)
    assert progress.stale == [progress.tasks[0].name]
    assert files(folder) == before
    assert run(tiny(), folder, trials=100).stale == []


def test_a_record_that_holds_is_kept_without_its_journal(folder: Path, in_process: type[InProcess]) -> None:
    run(tiny(), folder, trials=100)
    before = files(folder)
    forget(folder)
    progress = run(tiny(), folder, trials=1)
    recorded = TuningLog.load(folder, TARGET).find(progress.tasks[0].key)
    assert recorded is not None
    assert progress.stale == []
    assert progress.tasks[0].default is not None
    others = [record.choice for record in recorded.records if record.choice != progress.tasks[0].default.choice]
    assert [job.choice for job in in_process.jobs] == [None, *others]
    assert files(folder) == before


def test_a_journal_of_other_kernels_is_not_trusted(folder: Path, in_process: type[InProcess]) -> None:
    """Nobody has changed a version number, but what the compiler does by itself takes other cycles now."""
    run(tiny(), folder, trials=100)
    whole = files(folder)
    journal = folder / TARGET / "trials.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        for memory in line.get("record", {}).get("cycles", {}):
            line["record"]["cycles"][memory] *= 3
    journal.write_text("".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines))
    for file in (folder / TARGET).glob("*.json"):
        file.unlink()
    progress = run(tiny(), folder, trials=100)
    assert progress.stale == [progress.tasks[0].name]
    assert progress.known == 0
    assert files(folder) == whole
    again = run(tiny(), folder, trials=100)
    assert (again.stale, again.trials) == ([], 1)
    assert len(in_process.jobs) == 1


def test_a_log_of_a_newer_version_is_left_alone(folder: Path) -> None:
    run(tiny(), folder, trials=100)

    def newer(entry: dict[str, Any]) -> None:
        for record in (*entry["records"], entry["default"]):
            record["model_version"] = "99"

    edit(folder, newer)
    forget(folder)
    before = [entry.records for entry in TuningLog.load(folder, TARGET)]
    with pytest.raises(TuningLogError, match=r"has records of timing model 99 and TVM .*, and this is"):
        run(tiny(), folder, trials=100)
    assert [entry.records for entry in TuningLog.load(folder, TARGET)] == before


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("mismatch: 3 of 10 bytes", False),
        ("crash: KeyError: 'x'", False),
        ("crash: the process ended", True),
        ("timeout: more than 60 s", True),
    ],
)
def test_where_it_may_have_been_the_machine_a_choice_is_tried_again(
    reason: str, again: bool, folder: Path, in_process: type[InProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        right = InProcess.measure

        def fail(self: InProcess, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
            for job, outcome in right(self, jobs):
                yield job, Refused(job.choice, reason) if job.choice else outcome

        patch.setattr(InProcess, "measure", fail)
        assert run(tiny(), folder, trials=100).refused > 0
    progress = run(tiny(), folder, trials=100)
    assert (progress.trials > 1) is again
    assert (progress.known > 0) is not again
    assert run(tiny(), folder, trials=100).trials == 1
    assert len(in_process.jobs) == 1


def test_prune_drops_what_the_network_has_not(folder: Path) -> None:
    run(tiny(), folder, trials=3)
    run(twins(), folder, trials=3)
    assert len(TuningLog.load(folder, TARGET)) == 3
    forget(folder)
    run(twins(), folder, trials=3, prune=True)
    assert {entry.text for entry in TuningLog.load(folder, TARGET)} == {
        entry.text for entry in TuningLog.load(folder, TARGET) if any(entry.key == t.key for t in tunable(twins()))
    }
    assert len(TuningLog.load(folder, TARGET)) == 2


def test_where_there_is_no_choice_there_is_no_log(folder: Path, in_process: type[InProcess]) -> None:
    from tests.library.builds import model as known

    in_process.jobs = []
    progress = tune(known("through"), TARGET, folder)
    assert (progress.tasks, progress.trials, in_process.jobs) == ((), 0, [])
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"trials": 0}, "Option trials takes a number above 0, and 0 is given."),
        ({"trials": -5}, "Option trials takes a number above 0, and -5 is given."),
        ({"minutes": 0.0}, "Option minutes takes a number above 0, and 0.0 is given."),
        ({"minutes": float("nan")}, "Option minutes takes a number above 0, and nan is given."),
        ({"target_cycles": -1}, "Option target_cycles takes a number above 0, and -1 is given."),
        ({"workers": 0}, "Option workers takes a number above 0, and 0 is given."),
        ({"seed": -1}, "Option seed takes a number from 0 to 2147483647, and -1 is given."),
        ({"seed": 2**31}, "Option seed takes a number from 0 to 2147483647, and 2147483648 is given."),
        ({"memory": "flash"}, "Tuning counts cycles in memory l4r5zi-120 or zero-wait, not 'flash'."),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TargetError) as caught:
        TuneOptions(**options)
    assert str(caught.value) == text


def test_an_operator_that_cannot_be_measured_at_all_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: InProcess, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        return ((job, Refused(job.choice, "mismatch: 1 of 10 bytes")) for job in jobs)

    monkeypatch.setattr(InProcess, "measure", refuse)
    text = r"dense \[1,3\] .* cannot be measured for cortex-m4: mismatch: 1 of 10 bytes"
    with pytest.raises(DeviceError, match=text):
        run(tiny(), folder)


def test_two_cannot_tune_into_one_log(folder: Path) -> None:
    with exclusive(folder, TARGET), pytest.raises(TuningLogError, match="is being written by another process"):
        run(tiny(), folder)
    with exclusive(folder, "cortex-m7"):
        run(tiny(), folder, trials=3)


class Enough(Exception):
    """Raised by a report."""


@pytest.mark.parametrize("after", [1, 2, 6, 21])
def test_stopped_at_any_trial_log_and_journal_are_complete(after: int, folder: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.trials == after:
            raise Enough

    with contextlib.suppress(Enough):
        run(twins(), folder, stop, trials=100)
    history, log = Journal(folder, TARGET).read(), TuningLog.load(folder, TARGET)
    assert sum(map(len, history.trials.values())) == after
    for digest, trials in history.trials.items():
        records = [trial.outcome for trial in trials if isinstance(trial.outcome, Record)]
        entry = log.find(history.keys[digest])
        assert entry is not None
        best = min(record.cycles[FLASH] for record in records)
        assert min(record.cycles[FLASH] for record in entry.records) == best
    resumed = run(twins(), folder, trials=after + 3, resume=True)
    assert resumed.known + 2 >= min(after, 2)


def test_another_memory_may_prefer_another_choice(folder: Path) -> None:
    progress = run(twins(), folder, trials=20, memory=NO_WAIT)
    assert all(task.memory == NO_WAIT for task in progress.tasks)
    for task in progress.tasks:
        assert task.cycles == min(record.cycles[NO_WAIT] for record in task.records)


def test_large_operators_are_tuned_in_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their choices are those that the part and the whole have, and their cycles those of the whole, about."""
    from benchmarks.int8_graph import Int8Graph

    graph = Int8Graph(0, samples=2)
    y = graph.depthwise(graph.conv(graph.input((1, 40, 16, 4), (0.1, -3)), 8, (3, 3)), (3, 3))
    network = graph.finish("tall", y)
    whole = run(network, folder / "whole", trials=2)
    monkeypatch.setattr(measure, "MOST_MACS", 15_000)
    before = tasks_for(model(network), cortex_m(TARGET), FLASH)
    assert all(measure.part_of(task.workload) is not task.workload for task in before)
    progress = run(network, folder, trials=30)
    for task, reference in zip(progress.tasks, whole.tasks, strict=True):
        assert task.key == reference.key
        assert task.choices.size <= reference.choices.size
        assert task.default is not None
        assert reference.default is not None
        assert 0.85 < task.default.cycles[FLASH] / reference.default.cycles[FLASH] < 1.15
        assert task.choices.has(task.default.choice)
        assert reference.choices.has(task.default.choice)
    assert any(a.choices.size < b.choices.size for a, b in zip(progress.tasks, whole.tasks, strict=True))
    library = tinyml.build(model(network), TARGET, goal="time", tuning_log=folder, require_tuned=True)
    assert library.metadata["kernels"]["tuned"] >= 1
    assert run(network, folder, trials=2).stale == []
    forget(folder)
    assert run(network, folder, trials=2).stale == []


def test_a_default_that_only_a_part_has_is_left_to_the_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = tasks_for(model(tiny()), cortex_m(TARGET), FLASH)
    spaces = task.choices.spaces
    fewer = {kernel: {name: values[:2] for name, values in space.items()} for kernel, space in spaces.items()}
    monkeypatch.setattr("tvm_tinyml.tuning.space.Kernels.choices", lambda *_: Choices(fewer))
    progress = run(tiny(), folder, trials=100)
    default = progress.tasks[0].default
    assert default is not None
    assert default.choice == {KERNEL: "DenseRows"}
    assert run(tiny(), folder, trials=100).stale == []


def test_the_interface_of_the_package_does_the_same(tmp_path: Path, in_process: type[InProcess]) -> None:
    reports: list[int] = []
    progress = tinyml.tune(
        model(twins()), TARGET, tuning_log=tmp_path / "a", trials=12, report=lambda p: reports.append(p.trials)
    )
    assert reports == list(range(1, 13))
    assert len(in_process.jobs) == 12
    run(twins(), tmp_path / "b", trials=12)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert progress.task is not None
    shutil.rmtree(tmp_path / "a")
