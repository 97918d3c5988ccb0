"""What microkernels demand of addresses: said by every generator, and held by those that only promise bytes."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest

from tvm_tinyml.targets.cortex_m import microkernels
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel


def generators() -> Iterator[tuple[str, Callable[..., Microkernel]]]:
    """Functions, and methods of dataclasses, that return a microkernel."""
    for module_info in pkgutil.iter_modules(microkernels.__path__):
        module = importlib.import_module(f"{microkernels.__name__}.{module_info.name}")
        holders = [
            module,
            *(c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__),
        ]
        for holder in holders:
            for name, function in inspect.getmembers(holder, inspect.isfunction):
                returns = inspect.get_annotations(function).get("return")
                if returns == "Microkernel" and function.__module__ == module.__name__ and not name.startswith("_"):
                    yield f"{module_info.name}.{name}", function


ALL = dict(generators())


def test_there_are_generators() -> None:
    assert {"gemm.gemm_pairs", "depthwise.microkernel", "scalar_planes.pack_plane", "helium_runs.helium_runs"} <= set(
        ALL
    )


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("product.")])
def test_every_generator_says_what_is_aligned(name: str) -> None:
    text = inspect.getdoc(ALL[name]) or ""
    assert re.search(r"align|see `\w+`|are those of `[\w.]+`", text), text
