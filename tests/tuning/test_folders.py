"""Locks, and work on whole folders of logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.tuning.made import TARGET, files, key, random_log, record
from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning import lock
from tvm_tinyml.tuning.folders import merge_folders, prune_folder, targets_in
from tvm_tinyml.tuning.lock import exclusive
from tvm_tinyml.tuning.log import TuningLog

HOLD = """
import sys
from tvm_tinyml.tuning.lock import exclusive
with exclusive(sys.argv[1], "cortex-m4"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def log(folder: Path, target: str = TARGET, channels: int = 64, **fields: int) -> None:
    made = TuningLog.load(folder, target)
    made.add(key(channels=channels), [record(**fields)], 1)
    made.save()


def test_a_second_writer_is_refused_while_there_is_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(TuningLogError) as caught, exclusive(tmp_path, TARGET):
            pass
        assert str(caught.value) == (
            f"Tuning log '{tmp_path / TARGET}' is being written by another process ({other.pid}). "
            "Wait for it, or tune into another folder and merge the two."
        )
        with exclusive(tmp_path, "cortex-m7"), exclusive(tmp_path / "other", TARGET):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with exclusive(tmp_path, TARGET):
        pass


def test_a_lock_is_for_one_writer_in_a_process_too(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, TARGET),
        pytest.raises(TuningLogError, match=rf"another process \({os.getpid()}\)"),
        exclusive(tmp_path, TARGET),
    ):
        pass
    with exclusive(tmp_path, TARGET):
        pass


def test_without_flock_the_message_says_which_file_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_FLOCK", False)
    path = tmp_path / TARGET / ".lock"
    with exclusive(tmp_path, TARGET):
        with pytest.raises(TuningLogError) as caught, exclusive(tmp_path, TARGET):
            pass
        assert f"another process ({os.getpid()})" in str(caught.value)
        assert str(caught.value).endswith(f" If none is running, one was killed: remove '{path}'.")
        assert path.exists()
    assert not path.exists()
    path.write_bytes(b"\xff no number")
    with pytest.raises(TuningLogError, match=r"by another process\. Wait"), exclusive(tmp_path, TARGET):
        pass


def test_a_place_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningLogError, match="cannot be written: "), exclusive(tmp_path / "file", TARGET):
        pass
    (tmp_path / TARGET / ".lock").mkdir(parents=True)
    with pytest.raises(TuningLogError, match="cannot be written: Is a directory"), exclusive(tmp_path, TARGET):
        pass


def test_folders_are_merged_for_all_targets(tmp_path: Path) -> None:
    into, a, b = tmp_path / "into", tmp_path / "a", tmp_path / "b"
    log(a, channels=1)
    log(a, "cortex-m7", channels=1)
    log(b, channels=1, instructions=3, code_bytes=3)
    log(b, channels=2)
    assert merge_folders(into, [a, b]) == {"cortex-m4": 2, "cortex-m7": 1}
    assert targets_in(into) == ["cortex-m4", "cortex-m7"]
    entry = TuningLog.load(into, TARGET).find(key(channels=1))
    assert entry is not None
    assert [found.code_bytes for found in entry.records] == [3]


def test_the_order_of_merging_does_not_show(tmp_path: Path, rng: np.random.Generator) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        random_log(folder, rng).save()
    merge_folders(tmp_path / "1", folders)
    merge_folders(tmp_path / "2", folders[::-1])
    for folder in folders:
        merge_folders(tmp_path / "3", [folder, tmp_path / "3"] if folder != folders[0] else [folder])
    assert files(tmp_path / "1") == files(tmp_path / "2") == files(tmp_path / "3")


def test_one_damaged_log_and_nothing_is_merged(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    log(a)
    log(b)
    (b / TARGET / "dense.json").write_text("{}")
    with pytest.raises(TuningLogError, match="is no tuning log"):
        merge_folders(tmp_path / "into", [a, b])
    assert not (tmp_path / "into").exists()


def test_a_folder_without_logs_is_told(tmp_path: Path) -> None:
    log(tmp_path / "a")
    with pytest.raises(TuningLogError, match=r"none' cannot be read: No such file or directory"):
        merge_folders(tmp_path / "into", [tmp_path / "none"])
    with pytest.raises(TuningLogError, match=r"cortex-m4' holds no tuning log: there is no <target>/<operator>\.json"):
        merge_folders(tmp_path / "into", [tmp_path / "a" / TARGET])


def test_a_log_that_is_being_written_is_not_merged_into_and_not_pruned(tmp_path: Path) -> None:
    log(tmp_path / "a")
    log(tmp_path / "into", channels=3)
    before = files(tmp_path)
    with exclusive(tmp_path / "into", TARGET):
        with pytest.raises(TuningLogError, match="is being written"):
            merge_folders(tmp_path / "into", [tmp_path / "a"])
        with pytest.raises(TuningLogError, match="is being written"):
            prune_folder(tmp_path / "into", TARGET, lambda key: False)
    assert files(tmp_path) == before


def test_a_folder_is_pruned(tmp_path: Path) -> None:
    log(tmp_path, channels=1)
    log(tmp_path, channels=2)
    assert prune_folder(tmp_path, TARGET, lambda kept: kept == key(channels=2)) == 1
    assert [entry.key for entry in TuningLog.load(tmp_path, TARGET)] == [key(channels=2)]
