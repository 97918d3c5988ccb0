"""The journal: nothing that was reported is lost, one torn line is repaired, other damage is told."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning.made import TARGET, key, random_record, record
from tvm_tinyml.errors import TuningLogError
from tvm_tinyml.tuning import journal as journal_module
from tvm_tinyml.tuning.journal import Failure, History, Journal, Trial, restore
from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import digest_of

ASKED = {"kernel": "ConvGemm", "tiles": 99}
FAILURE = Failure("mismatch: 3 of 12 bytes", model_version="1", tvm="0.27.0.post1", tool="0.1.0")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return a journal with two keys and three trials: six lines."""
    with Journal(tmp_path, TARGET) as written:
        written.append(key(), ASKED, record())
        written.append(key(), ASKED, FAILURE)
        written.append(key("dense"), ASKED, record())
    return written


def count(history: History) -> int:
    return sum(len(trials) for trials in history.trials.values())


def test_what_is_appended_is_read(journal: Journal) -> None:
    history = journal.read()
    assert history.of(key()) == [Trial(digest_of(key()), ASKED, outcome) for outcome in (record(), FAILURE)]
    assert history.of(key("dense")) == [Trial(digest_of(key("dense")), ASKED, record())]
    assert history.of(key("add")) == ()
    assert list(history.keys.values()) == [key(), key("dense")]


def test_another_process_goes_on_where_one_ended(journal: Journal, tmp_path: Path) -> None:
    with Journal(tmp_path, TARGET) as again:
        again.append(key(), ASKED, record(code_bytes=1))
        again.append(key("add"), ASKED, record())
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    kinds = "target key record failure key record record key record".split()
    assert [sorted(line)[-1] for line in lines] == kinds
    assert count(journal.read()) == 5


def test_the_form_of_the_lines(journal: Journal, golden: Any) -> None:
    golden("trials.jsonl", journal.path.read_text())


def test_a_trial_is_on_the_disk_when_it_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: sizes.append(os.fstat(file).st_size))
    journal = Journal(tmp_path, TARGET)
    for i in range(1, 4):
        journal.append(key(), ASKED, record(code_bytes=i))
        assert sizes[-1] == journal.path.stat().st_size


def test_no_journal_has_no_trials(tmp_path: Path) -> None:
    assert Journal(tmp_path / "none", TARGET).read() == History()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("two\nlines \t here", "two lines here"),
        ("größe", "gr\\xf6\\xdfe"),
        ("\x1b[2J", "?[2J"),
        ("", "unknown"),
        ("ab " * 200, ("ab " * 200)[:200].strip()),
        ("\ud800", "\\ud800"),
    ],
)
def test_any_error_text_is_cut_to_a_line(text: str, kept: str, tmp_path: Path) -> None:
    failure = Failure(text, "1", "2", "3")
    assert failure.error == kept
    journal = Journal(tmp_path, TARGET)
    journal.append(key(), ASKED, failure)
    assert journal.read().of(key())[0].outcome == failure


def test_a_last_line_that_was_cut_off_anywhere_is_left_out_and_repaired(journal: Journal, tmp_path: Path) -> None:
    data = journal.path.read_bytes()
    last = data.rfind(b"\n", 0, -1) + 1
    before = journal.read().of(key())
    for length in range(last, len(data)):
        journal.path.write_bytes(data[:length])
        history = journal.read()
        assert history.of(key()) == before
        assert history.of(key("dense")) == ()
    with Journal(tmp_path, TARGET) as again:
        again.append(key("dense"), ASKED, record())
    assert journal.path.read_bytes() == data


def test_the_first_line_can_be_cut_off_as_well(journal: Journal, tmp_path: Path) -> None:
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[:10])
    assert journal.read() == History()
    with Journal(tmp_path, TARGET) as again:
        again.append(key(), ASKED, record())
    assert data.startswith(journal.path.read_bytes())


def test_a_journal_that_is_being_written_can_be_read(tmp_path: Path) -> None:
    with Journal(tmp_path, TARGET) as writer:
        for i in range(1, 5):
            writer.append(key(), ASKED, record(code_bytes=i))
            assert count(Journal(tmp_path, TARGET).read()) == i


OTHER = json.dumps({"digest": "0" * 16, "choice": ASKED, "record": record().to_json()})
LINES: dict[str, tuple[int, str, str]] = {
    "cut off": (2, '{"choice":{"ker', r"line 3 is not JSON: .* in line 3, column "),
    "empty": (1, "", "line 2 is not JSON: Expecting value in line 2, column 1"),
    "no object": (2, "[]", "line 3 is no object"),
    "zeros": (2, "\0" * 100, "line 3 is not JSON"),
    "not UTF-8": (3, "\udcff", "line 4 is not UTF-8: byte 0 is 0xff"),
    "deep": (3, "[" * 60_000, "line 4 is nested too deeply"),
    "too long": (3, " " * 70_000, "line 4 is longer than 65536 bytes"),
    "another format": (0, '{"format":9,"target":"cortex-m4"}', "line 1 has format 9, and this version .* reads 1"),
    "another target": (0, '{"format":1,"target":"cortex-m7"}', "line 1 is of target 'cortex-m7', and lies where"),
    "more in the first": (0, '{"format":1,"target":"cortex-m4","run":1}', "line 1 has 'run', which is not known"),
    "no first line": (0, OTHER, "line 1 has None for 'format'"),
    "another key": (1, json.dumps({"digest": "0" * 16, "key": key()}), "line 2 has digest '0000000000000000' for"),
    "no key": (1, OTHER, "line 2 is of key 0000000000000000, which no line before it has"),
    "no digest": (2, OTHER.replace("0000", "x", 1), "line 3 has 'x000000000000' for a digest"),
    "both": (2, OTHER[:-1] + ', "failure": {}}', "line 3 has 'record', which is not known"),
    "neither": (2, '{"digest":"","choice":{}}', "line 3 has no 'record'"),
    "bad record": (2, OTHER.replace("800", "-8"), "line 3 has -8 for 'instructions'"),
    "bad failure": (2, OTHER.replace('"record": {', '"failure": {"error": 1, '), "line 3 has 'choice', which is not"),
    "no reason": (2, OTHER.split(', "record"')[0] + ', "failure": {"error": ""}}', "line 3 has no 'model_version'"),
    "NaN": (2, OTHER.replace("800", "NaN"), "line 3 has the number 'NaN'"),
}


@pytest.mark.parametrize("name", LINES)
def test_damage_elsewhere_is_told_with_its_line(name: str, journal: Journal) -> None:
    index, line, text = LINES[name]
    lines = journal.path.read_bytes().split(b"\n")
    lines[index] = line.encode("utf-8", "surrogateescape")
    journal.path.write_bytes(b"\n".join(lines))
    damaged = journal.path.read_bytes()
    with pytest.raises(TuningLogError, match=text) as caught:
        journal.read()
    assert str(caught.value).startswith(f"Tuning journal '{journal.path}', line {index + 1} ")
    assert "Remove the line, or the file" in str(caught.value)
    with pytest.raises(TuningLogError, match=text):
        journal.append(key(), ASKED, record())
    assert journal.path.read_bytes() == damaged


def test_another_file_without_an_end_of_line_is_not_taken_for_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, TARGET)
    journal.path.parent.mkdir()
    journal.path.write_bytes(b"x" * 70_000)
    with pytest.raises(TuningLogError, match="line 1 is longer than 65536 bytes"):
        journal.append(key(), ASKED, record())
    assert journal.path.read_bytes() == b"x" * 70_000


def test_a_byte_that_changed_is_told_or_gives_another_trial(journal: Journal, rng: np.random.Generator) -> None:
    data = journal.path.read_bytes()
    read = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        journal.path.write_bytes(changed)
        try:
            read += count(journal.read()) > 0
        except TuningLogError:
            continue
    assert 0 < read < 300


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, TARGET)
    journal.path.mkdir(parents=True)
    with pytest.raises(TuningLogError, match="is not a file"):
        journal.append(key(), ASKED, record())
    journal.path.rmdir()
    with journal.path.open("wb") as file:
        file.truncate(2000)
    monkeypatch.setattr(journal_module, "MOST_BYTES", 1999)
    with pytest.raises(TuningLogError, match="is larger than 1999 bytes"):
        journal.read()


@pytest.mark.parametrize("written", [0, 1, 100, None])
def test_a_disk_that_is_full_costs_only_the_trial(
    written: int | None, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = journal.read()
    write, sync = os.write, os.fsync

    def full(file: int, data: bytes) -> int:
        if written == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:written])

    def fail(file: int) -> None:
        sync(file)
        raise OSError(errno.EIO, "Input/output error")

    with Journal(tmp_path, TARGET) as again:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            if written is None:
                patch.setattr(os, "fsync", fail)
            with pytest.raises(TuningLogError, match=r"trials\.jsonl' cannot be written: "):
                again.append(key("add"), ASKED, record())
        assert before.trials.items() <= again.read().trials.items()
        again.append(key("add"), ASKED, record(code_bytes=7))
    assert again.read().of(key("add"))[-1].outcome == record(code_bytes=7)


def test_what_was_measured_and_not_saved_is_restored(tmp_path: Path, rng: np.random.Generator) -> None:
    saved, unsaved = TuningLog(tmp_path, TARGET), TuningLog(tmp_path, TARGET)
    with Journal(tmp_path, TARGET) as journal:
        found = []
        for i in range(40):
            outcome = random_record(rng) if i % 3 else FAILURE
            journal.append(key(), {"kernel": "ConvGemm", "tiles": i % 30}, outcome)
            found += [outcome] if i % 3 else []
            if i == 20:
                saved.add(key(), found, 21)
        journal.append(key("dense"), ASKED, FAILURE)
    unsaved.add(key(), found, 30)  # choices, of which ten were measured twice
    restore(saved, journal.read())
    assert list(saved) == list(unsaved)
    restore(saved, journal.read())
    assert list(saved) == list(unsaved)


def test_trials_of_an_older_timing_model_do_not_count(tmp_path: Path) -> None:
    log, journal = TuningLog(tmp_path, TARGET), Journal(tmp_path, TARGET)
    for version, tiles in (("1", 1), ("1", 2), ("2", 3), ("2", 4), ("2", 5), ("1", 6)):
        journal.append(key(), {"kernel": "ConvGemm", "tiles": tiles}, record(model_version=version))
    restore(log, journal.read())
    entry = log.find(key())
    assert entry is not None
    assert (entry.trials, [found.model_version for found in entry.records]) == (3, ["2"])
