"""What one inference costs, in all and by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.device.simulator import CallResult
from tvm_tinyml.device.timing import Cycles, MemoryTiming, by_group
from tvm_tinyml.session import Session


@dataclass(frozen=True)
class LayerProfile:
    """What one layer cost: its kernel called alone on the same data, with empty buffers before the flash.

    Attributes
    ----------
    macs : multiply-accumulates.
    cycles : of the core and the memory, by the timing model.
    cycles_by_function : the same by function: the kernel itself and each of its microkernels.
    instructions : executed.
    instructions_by_group : the same in ``load``, ``store``, ``multiply``, ``widen``, ``branch`` and ``other``.
    flash_stall_cycles : of the cycles, those that the flash made the core wait.
    """

    name: str
    op: str
    macs: int
    cycles: int
    cycles_by_function: Mapping[str, int]
    instructions: int
    instructions_by_group: Mapping[str, int]
    flash_stall_cycles: int


@dataclass(frozen=True)
class Profile:
    """What one inference cost, by the timing model: say the figures with core, memory and model version.

    Attributes
    ----------
    target : name of the core with what the part lacks.
    memory : name of the memory that code and constants lie in.
    clock_hz : of the board whose memory that is; None if the memory is no board's.
    on : ``sim`` or another engine that counted.
    model_version : of the timing model.
    cycles, instructions : of the whole ``run``, calls between the layers included.
    flash_stall_cycles : of the cycles, those that the flash made the core wait.
    stack_bytes : deepest use of the stack in that run.
    layers : in the order of calls.
    """

    target: str
    memory: str
    clock_hz: int | None
    on: str
    model_version: str
    cycles: int
    instructions: int
    flash_stall_cycles: int
    stack_bytes: int
    layers: tuple[LayerProfile, ...]


def profile(
    session: Session, metadata: Metadata, inputs: Sequence[NDArray[Any]], memory: MemoryTiming, on: str
) -> Profile:
    """Run one inference as a whole, then layer by layer."""
    call = session.run(inputs, memory).call
    cycles = _cycles(call)
    calls = session.run_layers(inputs, memory)
    return Profile(
        target=metadata["target"],
        memory=memory.name,
        clock_hz=memory.clock_hz,
        on=on,
        model_version=cycles.model,
        cycles=cycles.total,
        instructions=call.instructions,
        flash_stall_cycles=cycles.flash_stall_cycles,
        stack_bytes=call.stack_bytes,
        layers=tuple(_layer(layer, call) for layer, call in zip(metadata["layers"], calls, strict=True)),
    )


def _layer(layer: Mapping[str, Any], call: CallResult | None) -> LayerProfile:
    name, op, macs = layer["name"], layer["op"], layer["macs"]
    if call is None:
        return LayerProfile(name, op, macs, 0, {}, 0, by_group(()), 0)
    cycles = _cycles(call)
    groups = by_group(cycles.instructions.items())
    costs = cycles.total, cycles.by_function, call.instructions, groups, cycles.flash_stall_cycles
    return LayerProfile(name, op, macs, *costs)


def _cycles(call: CallResult) -> Cycles:
    assert call.cycles is not None, "a call that is given a memory counts cycles"
    return call.cycles
