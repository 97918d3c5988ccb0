"""The command line called in process, and a folder with something to call it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.library.builds import library, network
from tvm_tinyml.cli import main


class Outcome(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


Run = Callable[..., Outcome]
Refused = Callable[..., str]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # what the parser does
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder: models, arrays, a compiled library in ``out``."""
    monkeypatch.chdir(tmp_path)
    for name in ("small", "pair"):
        Path(f"{name}.tflite").write_bytes(network(name).data)
    library("small", emit="both").write("out")
    np.savez("x.npz", input_0=np.zeros((1, 4, 5, 2), np.int8))
    return tmp_path


def content(folder: Path) -> dict[str, bytes | None]:
    """Return what lies in a folder and below: files by path with their bytes, folders with None."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(cli: Run, here: Path) -> Refused:
    """Return a function that runs a command which must fail with one line, change no file, and return that line."""

    def run(*arguments: object, code: int = 2) -> str:
        before = content(here)
        outcome = cli(*arguments)
        assert (outcome.code, outcome.out) == (code, ""), outcome
        assert outcome.err.startswith("tvm-tinyml")
        assert outcome.err.count("\n") == 1, outcome.err
        assert outcome.err.endswith("\n")
        assert content(here) == before
        return outcome.err

    return run
