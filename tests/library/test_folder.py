"""An output folder appears whole or not at all, whatever fails and when."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tvm_tinyml.artifacts.folder import check_folder, is_ours, write_file, write_folder
from tvm_tinyml.errors import OutputError

MARK = json.dumps({"model": "m", "target": "t", "layers": [], "version": "0"})
OLD = {"metadata.json": MARK, "include/old.h": "old", "lib/old.a": b"\0\1", "both": "old"}
NEW = {"metadata.json": MARK, "include/new.h": "new", "src/new.c": "größer", "both": "new"}
STEPS_NEW, STEPS_REPLACE = 5, 12
"""Files written and folders renamed: 4 + 1; 4 files, 4 old entries away, 4 new ones to their place."""


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def fail_at(step: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let one of the steps raise; the list counts them."""
    count = [0]

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == step + 1:
                raise error
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "write_bytes", counted(Path.write_bytes))
    monkeypatch.setattr(os, "replace", counted(os.replace))
    return count


def test_files_are_written_with_their_folders(tmp_path: Path) -> None:
    write_folder(tmp_path / "a" / "b", NEW)
    assert (tmp_path / "a" / "b" / "src" / "new.c").read_text(encoding="utf-8") == "größer"
    assert set(content(tmp_path)) == {f"a/b/{name}" for name in (*NEW, "include", "src")} | {"a", "a/b"}


def test_a_folder_of_ours_and_an_empty_one_are_replaced_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "fresh", NEW)
    for start in (OLD, {}):
        folder = tmp_path / f"with_{len(start)}"
        folder.mkdir()
        write_folder(folder, start)
        write_folder(folder, NEW)
        assert content(folder) == content(tmp_path / "fresh")


def test_the_folder_itself_stays_when_its_content_is_replaced(tmp_path: Path) -> None:
    """It may be a mount point, someone's current folder, or have rights of its own."""
    write_folder(tmp_path / "o", OLD)
    (tmp_path / "o").chmod(0o750)
    before = (tmp_path / "o").stat()
    write_folder(tmp_path / "o", NEW)
    after = (tmp_path / "o").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("there", "step"), [*((False, s) for s in range(STEPS_NEW)), *((True, s) for s in range(STEPS_REPLACE))]
)
def test_a_failure_at_any_step_leaves_what_was_there(
    there: bool, step: int, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there:
        write_folder(tmp_path / "a" / "b", OLD)
    before = content(tmp_path)
    with monkeypatch.context() as patch:
        fail_at(step, error, patch)
        with pytest.raises((OutputError, KeyboardInterrupt)) as caught:
            write_folder(tmp_path / "a" / "b", NEW)
    assert content(tmp_path) == before
    if isinstance(error, OSError):
        assert (
            str(caught.value) == f"Output folder '{tmp_path / 'a' / 'b'}' cannot be written: No space left on device."
        )


@pytest.mark.parametrize(("there", "steps"), [(False, STEPS_NEW), (True, STEPS_REPLACE)])
def test_those_were_all_steps(there: bool, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if there:
        write_folder(tmp_path / "o", OLD)
    count = fail_at(-1, OSError(), monkeypatch)
    write_folder(tmp_path / "o", NEW)
    assert count == [steps]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": "m", "target": "t"}', "\xff"])
def test_a_metadata_file_alone_does_not_make_a_folder_ours(text: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_bytes(text.encode("latin1"))
    assert not is_ours(tmp_path)
    with pytest.raises(
        OutputError, match=r"was not written by tvm-tinyml \(entries: 1, metadata\.json; no metadata\.json"
    ):
        check_folder(tmp_path)


def test_of_many_foreign_entries_some_are_named(tmp_path: Path) -> None:
    for name in "edcba":
        (tmp_path / name).touch()
    with pytest.raises(OutputError, match=r"\(entries: 5, a, b, c, \.\.\.; no metadata\.json of ours\)"):
        write_folder(tmp_path, NEW)


def test_a_name_that_is_too_long_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        write_folder(tmp_path / ("n" * 300), NEW)
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "goal")
    write_folder(tmp_path / "link", NEW)
    assert (tmp_path / "goal" / "metadata.json").is_file()


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    write_file(file, b"old")
    for step in range(2):
        with monkeypatch.context() as patch:
            fail_at(step, OSError(5, "Input/output error"), patch)
            with pytest.raises(OutputError, match=r"Output file '.*f' cannot be written: Input/output error\."):
                write_file(file, b"new")
        assert content(tmp_path) == {"f": b"old"}
    write_file(file, b"new")
    assert content(tmp_path) == {"f": b"new"}
