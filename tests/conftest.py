"""What all tests share: options, fixtures, and which tests are skipped by default."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files from what is generated now, then read the diff"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs hardware, unless the ``-m`` expression speaks of it; the summary lists it with this reason."""
    chosen = config.getoption("-m")
    for marker, thing in {"board": "a board on a debug probe", "gpu": "a GPU"}.items():
        if marker in chosen:
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"needs {thing}: run pytest -m {marker}"))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail where a file of tests cannot be imported: examples may be skipped where an extra is missing, tests not."""
    report = yield
    if report.skipped and "unable to import module" in str(report.longrepr):
        report.outcome = "failed"
    return report


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator of random numbers, the same for every test and every run."""
    return np.random.default_rng(0)


@pytest.fixture
def without_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave this test without anything that runs Cortex-M code: neither the extension nor Unicorn."""
    for module in ("tvm_tinyml.device._machine", "unicorn"):
        monkeypatch.setitem(sys.modules, module, None)  # importing it raises


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of models and measurements that lies beside the checkout, or skip.

    ``TVM_TINYML_SHARED`` names another place. The folder is no part of the repository: a clone works without it.
    """
    folder = Path(os.environ.get("TVM_TINYML_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the folder shared beside the checkout (or TVM_TINYML_SHARED)")
    return folder


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a function that compares a text with the golden file of that name in ``golden/`` beside the test.

    A missing file fails: only ``--update-golden`` writes one.
    """
    folder = request.path.parent / "golden"
    update: bool = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        file = folder / name
        if update:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        assert file.is_file(), f"there is no golden file {file.relative_to(ROOT)}: run pytest --update-golden"
        assert text == file.read_text(encoding="utf-8")

    return compare
