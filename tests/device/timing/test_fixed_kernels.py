"""A dozen small kernels with fixed cycles on every core: the ruler does not move unless somebody means to move it.

To change the model on purpose: change ``MODEL_VERSION``, run ``pytest --update-golden``, read the difference.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from device.thumb import CORES, function
from simulated import needs_simulator

from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.timing import MODEL_VERSION, Cycles, load_memory
from tvm_tinyml.tables import table

pytestmark = needs_simulator

# r0: 64 words of data in RAM, r1: a table of 64 words in flash, r2: 64. Armv6-M: every core runs them.
KERNELS = {
    "sum": "movs r3, #0;1: ldm r0!, {r1};adds r3, r1;subs r2, #1;bne 1b;mov r0, r3;bx lr",
    "dot": "push {r4-r6, lr};movs r3, #0;1: ldr r4, [r0];ldr r5, [r1];muls r4, r5;adds r3, r4;adds r0, #4;adds r1, #4;"
    "subs r2, #1;bne 1b;mov r0, r3;pop {r4-r6, pc}",
    "dot of bytes": "push {r4-r6, lr};movs r3, #0;movs r6, #0;1: ldrsb r4, [r0, r6];ldrsb r5, [r1, r6];muls r4, r5;"
    "adds r3, r4;adds r6, #1;cmp r6, r2;bne 1b;mov r0, r3;pop {r4-r6, pc}",
    "copy": "1: ldr r3, [r1];str r3, [r0];adds r0, #4;adds r1, #4;subs r2, #1;bne 1b;bx lr",
    "copy by fours": "push {r4-r6, lr};1: ldm r1!, {r3-r6};stm r0!, {r3-r6};subs r2, #4;bne 1b;pop {r4-r6, pc}",
    "clamp": "push {r4, lr};1: ldr r3, [r0];asrs r3, r3, #4;cmp r3, #127;ble 2f;movs r3, #127;2: mvns r4, r3;"
    "cmp r4, #127;ble 3f;movs r3, #127;mvns r3, r3;3: stm r0!, {r3};subs r2, #1;bne 1b;pop {r4, pc}",
    "largest": "ldr r3, [r0];1: ldr r1, [r0];cmp r1, r3;ble 2f;mov r3, r1;2: adds r0, #4;subs r2, #1;bne 1b;mov r0, r3;"
    "bx lr",
    "sort": "push {r4-r6, lr};movs r4, #16;1: movs r5, #15;mov r6, r0;2: ldr r2, [r6];ldr r3, [r6, #4];cmp r2, r3;"
    "bls 3f;str r3, [r6];str r2, [r6, #4];3: adds r6, #4;subs r5, #1;bne 2b;subs r4, #1;bne 1b;pop {r4-r6, pc}",
    "look up": "push {r4, lr};movs r3, #0;1: ldrb r4, [r0, r3];lsls r4, r4, #26;lsrs r4, r4, #24;ldr r4, [r1, r4];"
    "strb r4, [r0, r3];adds r3, #1;cmp r3, r2;bne 1b;pop {r4, pc}",
    "transpose": "push {r4-r6, lr};movs r2, #0;1: movs r3, #0;2: lsls r4, r2, #3;adds r4, r3;ldrb r5, [r0, r4];"
    "lsls r4, r3, #3;adds r4, r2;adds r4, #64;strb r5, [r0, r4];adds r3, #1;cmp r3, #8;bne 2b;adds r2, #1;cmp r2, #8;"
    "bne 1b;pop {r4-r6, pc}",
    "checksum": "push {r4, lr};movs r3, #0;1: ldrb r4, [r0];eors r3, r4;movs r4, #8;2: lsrs r3, r3, #1;bcc 3f;"
    "ldr r1, =0xedb88320;eors r3, r1;3: subs r4, #1;bne 2b;adds r0, #1;subs r2, #1;bne 1b;mov r0, r3;pop {r4, pc};"
    ".ltorg",
    "calls": "push {r4, lr};mov r4, r2;1: bl 2f;subs r4, #1;bne 1b;pop {r4, pc};2: adds r0, r0, r4;bx lr",
    "memset and memcpy": "push {r4, r5, r6, lr};mov r4, r0;mov r5, r1;movs r1, #7;bl memset;mov r0, r4;mov r1, r5;"
    "movs r2, #101;bl memcpy;pop {r4, r5, r6, pc}",
    "division": "push {r4-r6, lr};mov r4, r0;mov r5, r2;1: ldr r0, [r4];movs r1, #10;bl __aeabi_uidiv;stm r4!, {r0};"
    "subs r5, #1;bne 1b;pop {r4-r6, pc}",
}  # fmt: skip
MEMORIES = ("zero-wait", "l4r5zi-120")
ALL = (*CORES, "cortex-m55", "cortex-m85")


def words() -> bytes:
    """64 words of a fixed sequence."""
    values, state = [], 1
    for _ in range(64):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state)
    return b"".join(value.to_bytes(4, "little") for value in values)


def measure(core: str) -> dict[tuple[str, str], Cycles]:
    measured = {}
    with Simulator(core) as simulator:
        for name, body in KERNELS.items():
            # Armv6-M code for all: the M0+ has no division, so there the runtime's takes its place.
            simulator.load([assemble(function("kernel", body))])
            simulator.write(0x0810_0000, words())
            for memory in MEMORIES:
                simulator.reset_ram()
                data = simulator.allocate(256)
                simulator.write(data, words())
                cycles = simulator.call("kernel", data, 0x0810_0000, 64, memory=memory).cycles
                assert cycles is not None
                measured[name, memory] = cycles
    return measured


def test_cycles_of_small_kernels(golden: Callable[[str, str], None]) -> None:
    pytest.importorskip("tvm_tinyml.device._machine", reason="needs the C extension: Unicorn has no Helium")
    columns = {core: measure(core) for core in ALL}
    text = f"model {MODEL_VERSION}\n"
    for memory in MEMORIES:
        rows = [(name, *(columns[core][name, memory].total for core in ALL)) for name in KERNELS]
        text += f"\n{table((memory, *ALL), rows)}\n"
    golden("small_kernels.txt", text)


def test_the_same_run_takes_the_same_cycles() -> None:
    assert measure("cortex-m7") == measure("cortex-m7")


@pytest.mark.parametrize("core", CORES)
def test_functions_add_up_and_so_do_classes_and_stalls(core: str) -> None:
    for cycles in measure(core).values():
        assert cycles.total == sum(cycles.by_function.values())
        assert cycles.total == sum(cycles.by_class.values()) + sum(cycles.stalls.values())
        assert (cycles.core, cycles.model) == (core, MODEL_VERSION)
    divided = measure(core)["division", "zero-wait"]
    assert {"kernel"} < set(divided.by_function)


def test_a_memory_that_waits_is_never_faster() -> None:
    for core in CORES:
        measured = measure(core)
        for name in KERNELS:
            waiting, plain = measured[name, "l4r5zi-120"], measured[name, "zero-wait"]
            stalls = sum(cycles for reason, cycles in waiting.stalls.items() if reason in ("code", "constants"))
            assert waiting.total == plain.total + stalls
            assert load_memory("zero-wait").name == plain.memory
