"""Which pool a region of memory lies in: what is touched most often goes to the fastest one that has room."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tvm_tinyml.passes.plan_memory import Lifetime, liveness_bound, plan_offsets
from tvm_tinyml.program import ALIGNMENT_BYTES

DEFAULT_POOL = "sram"
"""The one there is when nobody names any."""

SCRATCH_TOUCHES = 8
"""How often a kernel touches a byte of its scratch, where it touches a byte of a tensor once: windows and planes are
packed once and read for every output channel."""

Distances = Mapping[tuple[int, int], int]


def share_out(
    lifetimes: Mapping[int, Lifetime], distances: Distances, touches: Mapping[int, float], limits: Mapping[str, int]
) -> dict[str, list[int]]:
    """Return the regions of each pool.

    Parameters
    ----------
    touches : how often each region is read or written, byte for byte.
    limits : sizes in bytes, the fastest pool first. The last one gets all that has no room in the others.
    """
    *fast, last = limits or [DEFAULT_POOL]
    left = sorted(lifetimes, key=lambda index: (-touches[index], lifetimes[index].size_bytes, index))
    shares: dict[str, list[int]] = {}
    for name in fast:
        members: list[int] = []
        for index in left:
            if liveness_bound(*_ordered([*members, index], lifetimes, distances)) <= limits[name]:
                members.append(index)
        while members and plan_offsets(*_ordered(members, lifetimes, distances))[1] > limits[name]:
            members.pop()
        shares[name] = members
        left = [index for index in left if index not in members]
    return {**shares, last: left}


def only(
    members: Collection[int], lifetimes: Mapping[int, Lifetime], distances: Distances
) -> tuple[dict[int, Lifetime], dict[tuple[int, int], int]]:
    """Return the lifetimes and distances of some regions."""
    inside = set(members)
    return (
        {index: life for index, life in lifetimes.items() if index in inside},
        {pair: distance for pair, distance in distances.items() if inside.issuperset(pair)},
    )


def _ordered(
    members: Collection[int], lifetimes: Mapping[int, Lifetime], distances: Distances
) -> tuple[dict[int, Lifetime], int, dict[tuple[int, int], int]]:
    lives, between = only(members, lifetimes, distances)
    return lives, ALIGNMENT_BYTES, between
