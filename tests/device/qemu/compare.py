"""Simulators to compare, and what is compared of a profile."""

from __future__ import annotations

from collections.abc import Callable

from tvm_tinyml.device import EdgeProfile, Engine, Simulator
from tvm_tinyml.device.qemu import QemuEngine

MakeEngine = Callable[..., Engine]
Pair = Callable[[str], list[Simulator]]


def pair(make_engine: MakeEngine, engine: Callable[[str], QemuEngine]) -> Pair:
    """Return a function that gives two simulators of a core: of another engine, and of QEMU."""
    return lambda core: [
        Simulator(engine=make_engine(core, engine(core).memory, check_alignment=True)),
        Simulator(engine=engine(core)),
    ]


def jumps_to(profile: EdgeProfile) -> dict[int, int]:
    """How often each address was jumped to. Engines may split long blocks differently; that makes no difference."""
    ends = (profile.block_start + profile.block_size_bytes)[profile.edge_source]  # of no meaning for the first edge
    entered = profile.block_start[profile.edge_target]
    jumps = (profile.edge_source < 0) | (entered != ends)
    counts: dict[int, int] = {}
    for address, count in zip(entered[jumps].tolist(), profile.edge_count[jumps].tolist(), strict=True):
        counts[address] = counts.get(address, 0) + count
    return counts
