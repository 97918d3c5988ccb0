"""What tests of the tuner share: measuring in this process, and a package that comes without a log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tvm_tinyml.choice import text_of
from tvm_tinyml.tuning import check, choose, tune
from tvm_tinyml.tuning.measure import Job, Outcome, measure_safely

_measured: dict[tuple[object, ...], Outcome] = {}


class InProcess:
    """Measures in this process, what was measured before not again: costs do not change."""

    jobs: list[Job]

    def __init__(self, _count: int | None = None) -> None:
        type(self).jobs = []

    def measure(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            self.jobs.append(job)
            name = (job.workload, job.target, job.choice and text_of(job.choice), job.budget_instructions)
            if name not in _measured:
                _measured[name] = measure_safely(job)
            yield job, _measured[name]

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> type[InProcess]:
    """Let tuning and checking measure in this process; `jobs` is what the last of them measured."""
    monkeypatch.setattr(tune, "Workers", InProcess)
    monkeypatch.setattr(check, "Workers", InProcess)
    return InProcess


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave this test without the log that comes with the package."""
    empty = tmp_path_factory.mktemp("shipped")
    monkeypatch.setattr(choose, "shipped_log", lambda: Path(empty))
    choose._shipped.cache_clear()
    yield
    choose._shipped.cache_clear()
