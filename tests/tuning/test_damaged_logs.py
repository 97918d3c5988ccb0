"""A log that is damaged, or made to do harm, is refused with a message that says where and what to do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tuning.made import TARGET, key, random_log, record
from tvm_tinyml.cli import BAD_USE, _explain
from tvm_tinyml.errors import TinyMLError, TuningLogError
from tvm_tinyml.tuning import log as log_module
from tvm_tinyml.tuning.log import TuningLog

Change = Callable[[Any], Any]

ENTRY = r"conv2d\.json', entry 1 \(conv2d \[1,25,5,64\] \[64,1,1,64\] \[64\]\) "
RECORD = ENTRY + "has a record 0 that "


def good() -> dict[str, Any]:
    """Return the content of a file: two entries."""
    entries = [
        {"key": key(channels=channels), "trials": 7, "default": None, "records": [record().to_json()]}
        for channels in (32, 64)
    ]
    return {"format": 1, "target": TARGET, "operator": "conv2d", "entries": entries}


def put(value: Any, *place: Any) -> Change:
    """Return a change that puts a value at a place."""

    def change(content: Any) -> Any:
        inner = content
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = value
        return content

    return change


def without(*place: Any) -> Change:
    def change(content: Any) -> Any:
        inner = content
        for step in place[:-1]:
            inner = inner[step]
        del inner[place[-1]]
        return content

    return change


SECOND = ("entries", 1)
FIRST_RECORD = (*SECOND, "records", 0)

CONTENTS: dict[str, tuple[Change, str]] = {
    "a list": (lambda _: [], "is no tuning log: it has no 'format'"),
    "another file": (lambda _: {"model": "kws"}, "is no tuning log: it has no 'format'"),
    "a later format": (put(2, "format"), "has format 2, and this version of tvm-tinyml reads 1"),
    "a format that is true": (put(True, "format"), "has True for 'format'"),
    "a format that is text": (put("1", "format"), "has '1' for 'format'"),
    "another target": (put("cortex-m7", "target"), "is of target 'cortex-m7', and lies where that of 'cortex-m4'"),
    "another operator": (put("dense", "operator"), "is of operator 'dense', and lies where that of 'conv2d' belongs"),
    "no entries": (without("entries"), "has no 'entries'"),
    "entries by name": (put({}, "entries"), "has 'entries' that are no list"),
    "an unknown field": (put("x", "run"), "has 'run', which is not known"),
    "an entry that is none": (put(7, "entries", 1), r"entry 1 \(without a key\) is 7 where \{default, key, records,"),
    "an entry without key": (without(*SECOND, "key"), r"entry 1 \(without a key\) has no 'key'"),
    "an entry with more": (put(1, *SECOND, "code"), ENTRY + "has 'code', which is not known"),
    "an entry of another operator": (put("dense", *SECOND, "key", "operator"), "entry 1 .*is of operator 'dense'"),
    "a key with a path": (put("../../x", *SECOND, "key", "operator"), "entry 1 .* key that names no operator"),
    "a key with null": (put(None, *SECOND, "key", "layout"), r"entry 1 .*has None for 'key\.layout'"),
    "a key twice": (lambda c: put(c["entries"][0], *SECOND)(c), "entry 1 .* has the key of an entry before it"),
    "no default": (without(*SECOND, "default"), ENTRY + "has no 'default'"),
    "a default that is none": (put(3, *SECOND, "default"), ENTRY + "has a record default that is 3 where"),
    "no trials": (put(0, *SECOND, "trials"), ENTRY + "has 0 for 'trials'"),
    "trials below none": (put(-5, *SECOND, "trials"), ENTRY + "has -5 for 'trials'"),
    "no records": (put([], *SECOND, "records"), ENTRY + "has no list of 1 to 1000 records"),
    "too many records": (put([record().to_json()] * 1001, *SECOND, "records"), ENTRY + "has no list of 1 to 1000"),
    "records by name": (put({}, *SECOND, "records"), ENTRY + "has no list of 1 to 1000 records"),
    "a record without cycles": (without(*FIRST_RECORD, "cycles"), RECORD + "has no 'cycles'"),
    "a record with more": (put("rm", *FIRST_RECORD, "trace"), RECORD + "has 'trace', which is not known"),
    "a record that is text": (put("x", *FIRST_RECORD), RECORD + r"is 'x' where \{choice, code_bytes, cycles, "),
    "cycles as text": (put("12", *FIRST_RECORD, "cycles", "zero-wait"), RECORD + r"has '12' for 'cycles\.zero-wait'"),
    "cycles below none": (put(-1, *FIRST_RECORD, "cycles", "zero-wait"), RECORD + r"has -1 for 'cycles\.zero-wait'"),
    "no cycles": (put(0, *FIRST_RECORD, "cycles", "zero-wait"), RECORD + r"has 0 for 'cycles\.zero-wait'"),
    "bytes that are true": (put(True, *FIRST_RECORD, "code_bytes"), RECORD + "has True for 'code_bytes'"),
    "a choice that is a list": (put([], *FIRST_RECORD, "choice"), RECORD + "has a choice that is no object"),
    "a choice without kernel": (put({}, *FIRST_RECORD, "choice"), RECORD + r"has None for 'choice\.kernel'"),
    "a knob that is a list": (put([1], *FIRST_RECORD, "choice", "tiles"), RECORD + r"has 'choice\.tiles', which is n"),
    "letters for a terminal": (put("\x1b[2J", *FIRST_RECORD, "tool"), RECORD + r"has '\\x1b\[2J' for 'tool'"),
    "half a letter": (put("\ud800", *FIRST_RECORD, "tvm"), RECORD + r"has '\\ud800' for 'tvm'"),
    "a long text": (put("x" * 1001, *FIRST_RECORD, "tvm"), RECORD + r"has 'x{50,60}\.\.\. for 'tvm'"),
}

TEXT = json.dumps(good())

BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON: Expecting value in line 1, column 1"),
    "cut off": (TEXT.encode()[:-30], "is not JSON: "),
    "more behind it": (TEXT.encode() + b"x", "is not JSON: Extra data in line 1"),
    "no text": (TEXT.encode().replace(b"int8", b"int\xff", 1), r"is not UTF-8: byte \d+ is 0xff"),
    "another encoding": (TEXT.encode("utf-16"), "is not UTF-8: byte 0 is 0xff"),
    "a mark before it": (b"\xef\xbb\xbf" + TEXT.encode(), "is not JSON: Unexpected UTF-8 BOM"),
    "zeros": (bytes(1000), "is not JSON: "),
    "no number": (TEXT.replace("1000", "NaN", 1).encode(), "has the number 'NaN'; only whole ones"),
    "an infinite number": (TEXT.replace("1000", "-Infinity", 1).encode(), "has the number '-Infinity'"),
    "a number that is not whole": (TEXT.replace("1000", "1e3", 1).encode(), "has the number '1e3'; only whole ones"),
    "a huge number": (TEXT.replace("1000", "9" * 100_000, 1).encode(), "has a number of 100000 digits"),
    "a number that is a bit too large": (TEXT.replace("1000", str(2**53 + 1)).encode(), "has 9007199254740993 for"),
    "deep lists": (b"[" * 100_000, "is nested too deeply"),
    "deep objects": (b'{"format":' * 100_000, "is nested too deeply"),
    "a deep key": (TEXT.replace("[64]", "[" * 50 + "]" * 50, 1).encode(), r"entry 0 .*which is nested too deeply"),
    "a name twice": (TEXT.replace('"trials": 7', '"trials": 7, "trials": 8').encode(), "has 'trials' twice in one"),
    "a program": (b"__import__('os').system('false')", "is not JSON: "),
    "a pickle": (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.", "is not UTF-8: byte 0 is 0x80"),
    "marks of a merge": (TEXT.encode() + b"\n<<<<<<< HEAD\n", "is not JSON: Extra data in line 2, column 1"),
}


def place(folder: Path) -> Path:
    path = folder / TARGET / "conv2d.json"
    path.parent.mkdir(parents=True)
    return path


def refused(folder: Path, text: str) -> None:
    path = folder / TARGET / "conv2d.json"
    with pytest.raises(TuningLogError, match=text) as caught:
        TuningLog.load(folder, TARGET)
    message = str(caught.value)
    assert message.startswith(f"Tuning log '{path}'")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 500 + len(str(path))
    assert re.search(r"(Restore|Remove|cannot be read: ).*\.$", message), message


def test_the_file_that_is_damaged_below_is_good(tmp_path: Path) -> None:
    place(tmp_path).write_text(TEXT)
    assert len(TuningLog.load(tmp_path, TARGET)) == 2


@pytest.mark.parametrize("name", CONTENTS)
def test_content_that_is_none_of_ours(name: str, tmp_path: Path) -> None:
    change, text = CONTENTS[name]
    place(tmp_path).write_text(json.dumps(change(good())))
    refused(tmp_path, text)


@pytest.mark.parametrize("name", BYTES)
def test_bytes_that_are_none_of_ours(name: str, tmp_path: Path) -> None:
    data, text = BYTES[name]
    place(tmp_path).write_bytes(data)
    refused(tmp_path, text)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with place(tmp_path).open("wb") as file:
        file.truncate(log_module.MOST_BYTES + 1)
    refused(tmp_path, "is larger than 67108864 bytes")


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    place(tmp_path).mkdir()
    refused(tmp_path, "is not a file")


@pytest.mark.skipif(os.name != "posix", reason="no pipes or links")
def test_what_is_no_file(tmp_path: Path) -> None:
    path = place(tmp_path)
    os.mkfifo(path)
    refused(tmp_path, "is not a file")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(tmp_path, "is not a file")
    path.unlink()
    path.symlink_to(path)
    refused(tmp_path, "cannot be read: Too many levels of symbolic links")
    path.unlink()
    path.symlink_to("nowhere")
    refused(tmp_path, "cannot be read: No such file or directory")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = place(tmp_path)
    path.write_text(TEXT)
    path.chmod(0)
    refused(tmp_path, "cannot be read: Permission denied")


def test_a_copy_under_another_name(tmp_path: Path) -> None:
    place(tmp_path).with_name("conv2d (copy).json").write_text(TEXT)
    with pytest.raises(TuningLogError, match=r"conv2d \(copy\)\.json' is of operator 'conv2d', and lies where"):
        TuningLog.load(tmp_path, TARGET)


TARGETS = ("", ".", "..", "../x", "a/b", "a\\b", "/etc", "Cortex", "a\0", "a\n", "a..b", "x" * 101)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_no_path(target: str, tmp_path: Path) -> None:
    with pytest.raises(TuningLogError, match="A tuning log has no target named ") as caught:
        TuningLog.load(tmp_path, target)
    assert str(caught.value).isprintable()


def test_a_byte_that_changed_is_refused_or_gives_another_good_log(tmp_path: Path, rng: np.random.Generator) -> None:
    random_log(tmp_path / "whole", rng, 4).save()
    source = next((tmp_path / "whole" / TARGET).iterdir())
    data, path = source.read_bytes(), tmp_path / TARGET / source.name
    path.parent.mkdir()
    loaded = 0
    for _ in range(300):
        changed = bytearray(data)
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            log = TuningLog.load(tmp_path, TARGET)
        except TuningLogError:
            continue
        loaded += 1
        log.folder = tmp_path
        assert all(1 <= len(entry.records) <= 8 for entry in log)
        log.save()
        assert list(TuningLog.load(tmp_path, TARGET)) == list(log)
    assert 0 < loaded < 300  # a digit may become another digit


def test_a_file_that_was_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = place(tmp_path)
    log = TuningLog(tmp_path, TARGET)
    log.add(key(), [record()], 1)
    log.save()
    data = path.read_bytes()
    for length in range(len(data) - 1):  # the last byte is the end of the line
        path.write_bytes(data[:length])
        with pytest.raises(TuningLogError):
            TuningLog.load(tmp_path, TARGET)


def test_the_command_line_calls_it_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert issubclass(TuningLogError, TinyMLError)
    assert _explain(TuningLogError("Tuning log 'x' is damaged.")) == BAD_USE == 2
    assert capsys.readouterr().err == "tvm-tinyml: Tuning log 'x' is damaged.\n"
