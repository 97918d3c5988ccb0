"""Imports go one way: passes and schedules know no target, no board and not each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "passes": ("schedules", "targets", "device", "pipeline"),
    "schedules": ("passes", "targets", "device", "pipeline"),
    "targets": ("device", "pipeline"),
}


def imported_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_go_one_way(folder: str) -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for module in imported_modules(file)
        if module.startswith("tvm_tinyml.") and module.split(".")[1] in FORBIDDEN[folder]
    ]
    assert wrong == []
