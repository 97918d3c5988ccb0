"""Compiled networks give the same on the native engine and on Unicorn: bytes, instructions, edges, cycles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from device.conftest import MakeEngine
from device.thumb import CORES

from tests.library.builds import library, network
from tvm_tinyml import session
from tvm_tinyml.device import CallResult, EdgeProfile, Simulator
from tvm_tinyml.device.timing import load_memory


def jumps(profile: EdgeProfile) -> dict[tuple[int, int], int]:
    """(end of the source, start of the target) -> count, without what only splits a stretch of straight code."""
    ends = (profile.block_start + profile.block_size_bytes)[profile.edge_source].tolist()
    targets = profile.block_start[profile.edge_target].tolist()
    counts: Counter[tuple[int, int]] = Counter()
    for source, end, target, count in zip(
        profile.edge_source.tolist(), ends, targets, profile.edge_count.tolist(), strict=True
    ):
        if source >= 0 and end != target:
            counts[end, target] += count
    return counts


@pytest.fixture
def infer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[bytes], CallResult]]:
    """Return a function that runs a network on an engine."""

    def run(make_engine: MakeEngine, name: str, core: str, memory: str | None) -> tuple[list[bytes], CallResult]:
        simulator = Simulator(engine=make_engine(core))
        monkeypatch.setattr(session, "make_simulator", lambda *_, **__: simulator)
        built = library(name, core)
        opened = session.Session(built.metadata, built.objects)
        timing = load_memory(memory) if memory else None
        done = opened.run([array[0] for array in [network(name).random_inputs(1)]], timing)
        opened.close()
        return [output.tobytes() for output in done.outputs], done.call

    return run


@pytest.mark.parametrize("core", CORES)
def test_a_network_takes_the_same_way(
    infer: Callable[..., tuple[list[bytes], CallResult]], native: MakeEngine, unicorn_engine: MakeEngine, core: str
) -> None:
    (ours, a), (theirs, b) = (infer(make, "kws", core, None) for make in (native, unicorn_engine))
    assert ours == theirs
    assert a.instructions_by_symbol == b.instructions_by_symbol
    assert a.stack_bytes == b.stack_bytes
    assert jumps(a.profile) == jumps(b.profile)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("memory", ["zero-wait", "l4r5zi-120"])
def test_a_small_network_takes_the_same_cycles(
    infer: Callable[..., tuple[list[bytes], CallResult]],
    native: MakeEngine,
    unicorn_engine: MakeEngine,
    core: str,
    memory: str,
) -> None:
    pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")
    (_, a), (_, b) = (infer(make, "small", core, memory) for make in (native, unicorn_engine))
    assert a.cycles == b.cycles
    assert a.cycles is not None
    assert a.cycles.total > a.instructions / 2
    assert np.array_equal(a.profile.block_start[0], b.profile.block_start[0])
