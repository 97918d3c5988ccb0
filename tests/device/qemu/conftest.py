"""One QEMU for each core, shared by all tests of this folder; they are skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tvm_tinyml.device import Simulator
from tvm_tinyml.device.qemu import QemuEngine, qemu_missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Callable[[str], QemuEngine]]:
    """Return a function that gives the engine of a core."""
    if reason := qemu_missing():
        pytest.skip(reason)
    engines: dict[str, QemuEngine] = {}

    def of(core: str) -> QemuEngine:
        if core not in engines:
            engines[core] = QemuEngine(core)
        return engines[core]

    yield of
    for each in engines.values():
        each.close()


@pytest.fixture
def qemu(engine: Callable[[str], QemuEngine]) -> Callable[[str], Simulator]:
    """Return a function that gives a simulator of a core; it is not to be closed."""
    return lambda core: Simulator(engine=engine(core))
