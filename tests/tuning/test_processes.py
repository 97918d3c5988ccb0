"""Calls in other processes: whatever happens to one is its outcome, and all end with the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.tuning.trouble import do
from tvm_tinyml.tuning.processes import Processes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def processes() -> Iterator[Processes[str, object]]:
    """Return two processes with two seconds for a call."""
    found = Processes(do, 2, timeout_seconds=2)
    yield found
    found.close()


def outcomes(processes: Processes[str, object], *calls: str) -> dict[str, object]:
    """Return results by argument, or the errors in their place."""
    return {call: future.exception() or future.result() for call, future in processes.call(calls)}


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: list[int], seconds: float = 5) -> list[int]:
    """Return the processes that are still there after a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(is_alive, pids)):
        time.sleep(0.05)
    return [pid for pid in pids if is_alive(pid)]


def started(folder: Path, count: int) -> list[int]:
    """Wait until so many processes have left their numbers in a folder."""
    end = time.monotonic() + 20
    while len(list(folder.iterdir())) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return [int(file.name) for file in folder.iterdir()]


def test_every_argument_has_its_result(processes: Processes[str, object]) -> None:
    calls = [f"call {i}" for i in range(40)]
    assert outcomes(processes, *calls) == {call: call for call in calls}
    pids = {future.result() for _, future in processes.call(["id"] * 10)}
    assert len(pids) <= 2
    assert os.getpid() not in {pid for pid, _ in pids}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [*((wrong, ChildProcessError) for wrong in ("crash", "leave", "lambda")), ("sleep", TimeoutError)],
)
def test_a_call_that_goes_wrong_is_its_own_outcome_only(
    wrong: str, error: type[Exception], processes: Processes[str, object]
) -> None:
    found = outcomes(processes, "a", wrong, "b", "c", "d")
    assert isinstance(found.pop(wrong), error)
    assert found == {name: name for name in "abcd"}
    assert outcomes(processes, "again") == {"again": "again"}


def test_one_that_nothing_inside_can_stop_is_stopped_from_outside(processes: Processes[str, object]) -> None:
    begin = time.monotonic()
    found = outcomes(processes, "hold", "a")
    assert isinstance(found["hold"], TimeoutError)
    assert time.monotonic() - begin < 10


def test_what_a_call_prints_is_no_result(processes: Processes[str, object], capfd: pytest.CaptureFixture[str]) -> None:
    assert outcomes(processes, "print", "a") == {"print": "print", "a": "a"}
    assert capfd.readouterr() == ("", "")


def test_what_cannot_be_sent_is_an_error_of_this_process(processes: Processes[str, object]) -> None:
    ((_, future),) = processes.call([lambda: 1])  # type: ignore[list-item]
    assert not isinstance(future.exception(), (ChildProcessError, TimeoutError, type(None)))
    assert outcomes(processes, "a") == {"a": "a"}


def test_ctrl_c_does_not_reach_them(processes: Processes[str, object]) -> None:
    ((_, future),) = processes.call(["id"])
    pid, session = future.result()  # type: ignore[misc]
    assert session == pid != os.getsid(0)


def test_closing_kills_calls_under_way_and_starts_none_of_the_rest(tmp_path: Path) -> None:
    processes = Processes(do, 2, timeout_seconds=60)
    calls = processes.call(["a", *[f"sleep {tmp_path}"] * 8])
    assert next(calls)[0] == "a"
    pids = started(tmp_path, 2)
    begin = time.monotonic()
    processes.close()
    assert time.monotonic() - begin < 3
    assert wait_until_gone(pids) == []
    assert len(list(tmp_path.iterdir())) == 2


def test_a_loop_that_is_left_early_leaves_nothing_to_do(processes: Processes[str, object]) -> None:
    for call, _ in processes.call(["a", *["sleep"] * 20]):
        assert call == "a"
        break
    begin = time.monotonic()
    processes.close()
    assert time.monotonic() - begin < 3


PARENT = """
import sys
from tests.tuning.trouble import do
from tvm_tinyml.tuning.processes import Processes

for _ in Processes(do, 3, timeout_seconds=600).call(["id", *sys.argv[1:]]):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_with_the_process_that_started_them(number: signal.Signals, tmp_path: Path) -> None:
    """Also in the midst of a call: two sleep, one counts on and on, and one of them waits for another call."""
    calls = [f"sleep {tmp_path}", f"spin {tmp_path}"]
    command = [sys.executable, "-c", PARENT, *calls]
    parent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path.parent)
    pids = started(tmp_path, 2)
    parent.send_signal(number)
    parent.wait(10)
    assert wait_until_gone(pids) == []
