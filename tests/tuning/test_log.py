"""The log's files: the same bytes for the same content, merged in any order, written whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning.made import TARGET, files, key, random_log, record
from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning import log as log_module
from tvm_tinyml.tuning.log import TuningLog


def saved(log: TuningLog) -> dict[str, bytes]:
    log.save()
    return files(log.folder)


def test_what_is_saved_is_loaded(tmp_path: Path, rng: np.random.Generator) -> None:
    log = random_log(tmp_path, rng)
    log.save()
    again = TuningLog.load(tmp_path, TARGET)
    assert list(again) == list(log)
    assert len(again) == len(log) > 5
    for entry in log:
        assert again.find(entry.key) == entry
    assert again.find(key(channels=999)) is None


def test_one_file_for_each_kind_of_operator(tmp_path: Path) -> None:
    log = TuningLog(tmp_path, "cortex-m4+nofp")
    for operator in ("dense", "conv2d"):
        log.add(key(operator), [record()], 1)
    assert list(saved(log)) == ["cortex-m4+nofp/conv2d.json", "cortex-m4+nofp/dense.json"]


def test_the_form_of_a_file(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    log = TuningLog(tmp_path, TARGET)
    fast = record(choice={"kernel": "Winograd"}, cycles={"zero-wait": 700, "l4r5zi-120": 900}, workspace_bytes=9000)
    log.add(key(), [record(), fast], 240, record())
    log.add(key(channels=32), [record()], 12)
    golden("conv2d.json", saved(log)[f"{TARGET}/conv2d.json"].decode())


def test_a_folder_that_is_not_there_is_an_empty_log(tmp_path: Path) -> None:
    log = TuningLog.load(tmp_path / "none", TARGET)
    assert list(log) == []
    log.save()
    assert not (tmp_path / "none").exists()


def test_the_order_of_adding_does_not_show(tmp_path: Path, rng: np.random.Generator) -> None:
    entries = list(random_log("x", rng))
    contents = []
    for name in ("a", "b", "c"):
        log = TuningLog(tmp_path / name, TARGET)
        for i in rng.permutation(len(entries)):
            entry = entries[i]
            shuffled = {str(name): entry.key[name] for name in rng.permutation(list(entry.key))}
            log.add(shuffled, [entry.records[j] for j in rng.permutation(len(entry.records))], entry.trials)
        contents.append(saved(log))
    assert contents[0] == contents[1] == contents[2]


def test_adding_twice_is_adding_once(tmp_path: Path) -> None:
    log = TuningLog(tmp_path, TARGET)
    log.add(key(), [record()], 5)
    once = saved(log)
    log.add(key(), [record()], 5)
    assert saved(log) == once


def test_merging_is_commutative_associative_and_idempotent(tmp_path: Path, rng: np.random.Generator) -> None:
    for i in range(4):
        a, b, c = (list(random_log("x", rng)) for _ in range(3))
        place = tmp_path / str(i)

        def union(name: str, *parts: list[Any], place: Path = place) -> list[Any]:
            whole = TuningLog(place / name, TARGET)
            for part in parts:
                other = TuningLog(place / "x", TARGET)
                for entry in part:
                    other.add(entry.key, entry.records, entry.trials)
                whole.merge(other)
            whole.save()
            return list(whole)

        union("ab", a, b)
        union("ba", b, a)
        union("(ab)c", union("1", a, b), c)
        union("a(bc)", a, union("2", b, c))
        union("abb", a, b, b)
        bytes_of = {path.name: files(path) for path in place.iterdir()}
        assert bytes_of["ab"] == bytes_of["ba"] == bytes_of["abb"] != bytes_of["(ab)c"]
        assert bytes_of["(ab)c"] == bytes_of["a(bc)"]


def test_logs_of_two_targets_are_not_merged(tmp_path: Path) -> None:
    with pytest.raises(TuningLogError, match="of target 'cortex-m7' and cannot be merged into one of 'cortex-m4'"):
        TuningLog(tmp_path, "cortex-m4").merge(TuningLog(tmp_path, "cortex-m7"))


def test_nothing_is_written_when_nothing_changed(tmp_path: Path, rng: np.random.Generator) -> None:
    random_log(tmp_path, rng).save()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    numbers = {path: path.stat().st_ino for path in before}
    log = TuningLog.load(tmp_path, TARGET)
    log.save()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    log.add(key("dense", 1), [record(cycles={"zero-wait": 1, "l4r5zi-120": 1}, workspace_bytes=0)], 1)
    log.save()
    assert [path.stem for path in before if path.stat().st_ino != numbers[path]] == ["dense"]


def test_pruning_drops_what_is_not_kept_and_its_files(tmp_path: Path) -> None:
    log = TuningLog(tmp_path, TARGET)
    for operator, channels in (("conv2d", 1), ("conv2d", 2), ("dense", 1)):
        log.add(key(operator, channels), [record()], 1)
    log.save()
    log = TuningLog.load(tmp_path, TARGET)
    assert log.prune(lambda key: key["operator"] == "conv2d" and key["shapes"][2] == [64]) == 1
    assert list(saved(log)) == [f"{TARGET}/conv2d.json"]
    assert len(TuningLog.load(tmp_path, TARGET)) == 2
    assert log.prune(lambda key: False) == 2
    assert saved(log) == {}
    assert len(TuningLog.load(tmp_path, TARGET)) == 0


def test_records_that_a_text_merge_put_together_are_reduced(tmp_path: Path) -> None:
    log = TuningLog(tmp_path, TARGET)
    log.add(key(), [record()], 1)
    log.save()
    path = tmp_path / TARGET / "conv2d.json"
    content = json.loads(path.read_bytes())
    worse = record(code_bytes=9999, choice={"kernel": "Other"}).to_json()
    content["entries"][0]["records"].insert(0, worse)
    path.write_text(json.dumps(content))
    assert TuningLog.load(tmp_path, TARGET).find(key()) == log.find(key())


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TuningLog(tmp_path, TARGET)
    log.add(key(), [record()], 1)
    before = saved(log)
    log.add(key(channels=3), [record()], 1)

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        expected = TuningLogError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(expected) as caught:
            log.save()
    if isinstance(error, OSError):
        assert str(caught.value) == (
            f"Tuning log '{tmp_path / TARGET / 'conv2d.json'}' cannot be written: No space left on device."
        )
    assert files(tmp_path) == before
    log.save()
    assert len(TuningLog.load(tmp_path, TARGET)) == 2


def test_what_a_killed_writer_left_is_no_hindrance(tmp_path: Path) -> None:
    log = TuningLog(tmp_path, TARGET)
    log.add(key(), [record()], 1)
    (tmp_path / TARGET).mkdir()
    (tmp_path / TARGET / ".conv2d.json.new").write_text('{"format"')
    assert list(TuningLog.load(tmp_path, TARGET)) == []
    assert list(saved(log)) == [f"{TARGET}/conv2d.json"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights elsewhere")
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    log = TuningLog(tmp_path / "log", TARGET)
    log.add(key(), [record()], 1)
    log.save()
    path = tmp_path / "log" / TARGET / "conv2d.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    log.add(key(channels=3), [record()], 1)
    log.save()
    assert path.is_symlink()
    assert len(TuningLog.load(tmp_path / "log", TARGET)) == 2


def test_a_file_that_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TuningLog(tmp_path, TARGET)
    log.add(key(), [record()], 1)
    monkeypatch.setattr(log_module, "MOST_BYTES", 100)
    with pytest.raises(TuningLogError, match=r"would have \d+ bytes, and 100 are the limit\. Prune it\."):
        log.save()
    assert files(tmp_path) == {}


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    with pytest.raises(TuningLogError, match="cannot be read: Not a directory"):
        TuningLog.load(tmp_path / "log", TARGET)
    log = TuningLog(tmp_path / "log", TARGET)
    log.add(key(), [record()], 1)
    with pytest.raises(TuningLogError, match="cannot be written: "):
        log.save()


def test_logs_are_read_and_written_without_tvm() -> None:
    program = """
import sys
import tvm_tinyml.tuning.folders, tvm_tinyml.tuning.journal, tvm_tinyml.tuning.lock, tvm_tinyml.tuning.log
print([name for name in ("tvm", "numpy", "xgboost") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout == "[]\n", result.stderr
