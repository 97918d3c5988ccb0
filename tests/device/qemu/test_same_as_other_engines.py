"""On the same memory map QEMU and the other engines agree on every number and word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from device.qemu.compare import MakeEngine, Pair, jumps_to, pair
from device.thumb import CORES, TABLE_LOOKUP, compile_ir, function, program

from tvm_tinyml.device import EdgeProfile, FaultError, Simulator, assemble
from tvm_tinyml.device.qemu import QemuEngine
from tvm_tinyml.device.watch import Event, LineBuffer, Watch
from tvm_tinyml.errors import DeviceError


@pytest.fixture
def both(make_engine: MakeEngine, engine: Callable[[str], QemuEngine]) -> Pair:
    """Return `pair` for each of the other engines in turn."""
    return pair(make_engine, engine)


# --- programs that return -------------------------------------------------------------------------------------------

# Sorts words by insertion: loops in loops, branches that depend on data.
SORT = (
    "push {r4-r6, lr};movs r2, #1;1: cmp r2, r1;bhs 5f;lsls r3, r2, #2;ldr r4, [r0, r3];2: subs r3, #4;bmi 4f;"
    "ldr r5, [r0, r3];cmp r5, r4;bls 4f;adds r6, r3, #4;str r5, [r0, r6];b 2b;4: adds r3, #4;str r4, [r0, r3];"
    "adds r2, #1;b 1b;5: pop {r4-r6, pc}"
)

# Calls one of 300 functions after the other: many blocks, many edges out of one.
MANY = 300
DISPATCH = "\n".join(
    [
        function(
            "dispatch",
            f"push {{r4-r6, lr}};ldr r4, =table;ldr r5, ={MANY};movs r6, #0;"
            "1: ldmia r4!, {r3};blx r3;adds r6, r6, r0;subs r5, #1;bne 1b;mov r0, r6;pop {r4-r6, pc};.ltorg",
        ),
        *(function(f"leaf{i}", f"movs r0, #{i % 251};.rept {i % 5};nop;.endr;bx lr") for i in range(MANY)),
        '.section .rodata.table,"a",%progbits\n.balign 4\ntable:',
        *(f".word leaf{i}" for i in range(MANY)),
    ]
)

ANYWHERE = {
    "loop": (function("f", "movs r2, #0;1: adds r2, #1;subs r0, #1;bne 1b;mov r0, r2;bx lr"), [1000]),
    "straight": (function("f", ".rept 2000;adds r0, #1;.endr;bx lr"), [5]),
    "stack": (function("f", "push {r0-r7, lr};bl f + 8;pop {r0-r7, pc};push {r4};pop {r4};bx lr"), []),
    "runtime": (function("f", "push {r4, lr};bl __aeabi_uidiv;pop {r4, pc}"), [10**6, 7]),
    "arguments": (function("f", "ldr r1, [sp, #8];add r0, r1;bx lr"), [1, 2, 3, 4, 5, 6, 7]),
    "dispatch": (DISPATCH.replace("dispatch", "f"), []),
}  # fmt: skip
FROM_M3_ON = {
    "conditional": (function("f", "cmp r0, #0;ittt eq;moveq r0, #7;addeq r0, #1;addeq r0, #1;adds r0, #1;bx lr"), [0]),
    "skipped": (function("f", "cmp r0, #0;ittt eq;moveq r0, #7;addeq r0, #1;addeq r0, #1;adds r0, #1;bx lr"), [1]),
    "divide": (function("f", "sdiv r0, r0, r1;bx lr"), [-7, 0]),
    "table branch": (function("f", "tbb [pc, r0];.byte 1, 2;movs r0, #1;movs r0, #2;bx lr"), [1]),
}
FROM_M4_ON = {
    "dsp": (function("f", "smlad r0, r0, r1, r2;sxtb16 r1, r0, ror #8;qadd8 r0, r0, r1;bx lr"), [2**17 + 3, 99, 100]),
    "float": (function("f", "vmov s0, r0;vcvt.f32.s32 s0, s0;vmul.f32 s0, s0, s0;vmov r0, s0;bx lr"), [-12]),
}
PROGRAMS = [
    (core, name)
    for names, cores in ((ANYWHERE, CORES), (FROM_M3_ON, CORES[1:]), (FROM_M4_ON, CORES[2:]))
    for core in cores
    for name in names
]


@pytest.mark.parametrize(("core", "name"), PROGRAMS)
def test_a_program_that_returns_gives_the_same_numbers(both: Pair, core: str, name: str) -> None:
    source, arguments = (ANYWHERE | FROM_M3_ON | FROM_M4_ON)[name]
    results = []
    for simulator in both(core):
        simulator.load([assemble(source, core)])
        result = simulator.call("f", *arguments)
        counts = dict(result.instructions_by_symbol)
        results.append((result.value, result.instructions, counts, result.stack_bytes, jumps_to(result.profile)))
    assert results[0] == results[1]
    assert results[0][1] > 1


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
def test_objects_of_tvm_give_the_same_numbers(both: Pair, core: str) -> None:
    results = []
    for simulator in both(core):
        simulator.load([compile_ir(TABLE_LOOKUP, core), program("increment", "adds r0, #1;bx lr")])
        result = simulator.call("entry", 3)
        stored = simulator.read(simulator.symbols["result"], 4)
        results.append((result.instructions, dict(result.instructions_by_symbol), result.stack_bytes, stored))
    assert results[0] == results[1]
    assert results[0][-1] == (40 + 7 + 1).to_bytes(4, "little")


@pytest.mark.parametrize("core", CORES)
def test_the_order_of_blocks_and_edges_is_the_same(both: Pair, core: str) -> None:
    words = np.random.default_rng(1).integers(0, 2**31, 50, np.uint32)
    profiles = []
    for simulator in both(core):
        simulator.load([assemble(function("sort", SORT))])
        x = simulator.allocate(words.nbytes)
        simulator.write(x, words.tobytes())
        profiles.append(simulator.call("sort", x, len(words)).profile)
        assert simulator.read(x, words.nbytes) == np.sort(words).tobytes()
    for name in EdgeProfile.__dataclass_fields__:
        first, second = (getattr(profile, name) for profile in profiles)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


# --- watched runs ---------------------------------------------------------------------------------------------------

# Reads words all over a table in flash and writes them to RAM, at addresses that are not aligned; calls functions.
WANDER = "\n".join(
    [
        function(
            "wander",
            "push {r4-r6, lr};mov r4, r0;ldr r5, =table;movs r6, #1;"
            "1: movw r0, #25173;mul r6, r6, r0;addw r6, r6, #1;ubfx r0, r6, #7, #9;ldr r2, [r5, r0];"
            "ubfx r3, r6, #3, #6;str r2, [r1, r3];strh r2, [r1, r3];bl near;bl far;subs r4, #1;bne 1b;"
            "mov r0, r6;pop {r4-r6, pc};.ltorg",
        ),
        function("near", ".rept 9;nop.w;.endr;bx lr"),
        function("gap", ".space 3000"),
        function("far", ".rept 40;nop;.endr;bx lr"),
        '.section .rodata.table,"a",%progbits\n.balign 8\ntable: .space 600',
    ]
)
SHAPES = [
    (None, None),
    (LineBuffer(8, 32), LineBuffer(32, 32)),
    (LineBuffer(16, 1), LineBuffer(4, 2)),
    (None, LineBuffer(64, 3)),
    (LineBuffer(4, 100), None),
]


@pytest.mark.parametrize("alignment", [True, False])
@pytest.mark.parametrize(("data", "code"), SHAPES)
def test_a_watched_run_sees_the_same_events(
    make_engine: MakeEngine,
    engine: Callable[[str], QemuEngine],
    data: LineBuffer | None,
    code: LineBuffer | None,
    alignment: bool,
) -> None:
    qemu = engine("cortex-m4")
    watch = Watch(qemu.memory.flash, data, code, alignment)
    found = []
    for each in (make_engine("cortex-m4", qemu.memory), qemu):
        simulator = Simulator(engine=each)
        simulator.load([assemble(WANDER, "cortex-m4")])
        arguments = (simulator.symbols["wander"], [100, qemu.memory.ram.origin], qemu.memory.stack.end, 10**6)
        plain, watched, again = each.run(*arguments), each.run(*arguments, watch), each.run(*arguments, watch)
        assert plain.events is None
        assert watched.events is not None
        assert again.events is not None
        np.testing.assert_array_equal(watched.events, again.events)
        assert watched.events.shape == (len(watched.profile.block_start), len(Event))
        found.append((plain.profile.instructions, watched.profile.instructions, watched.events.sum(0).tolist()))
    assert found[0] == found[1]
    events = found[0][2]
    assert bool(events[Event.WORD_AT_EVEN]) is alignment
    assert bool(events[Event.DATA_MISS]) is (data is not None)
    assert bool(events[Event.CODE_MISS]) is (code is not None)


def test_cycles_are_the_same(both: Pair) -> None:
    pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")
    cycles = []
    for simulator in both("cortex-m4"):
        simulator.load([assemble(function("sort", SORT), "cortex-m4")])
        x = simulator.allocate(40)
        simulator.write(x, bytes(range(40, 0, -1)))
        cycles.append(simulator.call("sort", x, 10, memory="l4r5zi-120").cycles)
    assert cycles[0] == cycles[1]


# --- programs that fault --------------------------------------------------------------------------------------------


def fault(simulator: Simulator, source: str, core: str, *arguments: int) -> FaultError:
    simulator.load([program("before", "nop;bx lr"), program("f", source, core)])
    with pytest.raises(FaultError) as error:
        simulator.call("f", *arguments)
    return error.value


@pytest.mark.parametrize("core", CORES[1:])
@pytest.mark.parametrize(
    ("body", "argument"),
    [
        ("nop;ldr r0, [r0];bx lr", 0x3000_0000),
        ("nop;ldrh r0, [r0, #2];bx lr", 0x3000_0000),
        ("nop;ldr.w r0, [r0, #64];bx lr", 0x5000_0000),
        ("ldrb r0, [r0];bx lr", 0),
        ("strb r0, [r0];bx lr", "flash"),
        ("push {r4, lr};blx r0;pop {r4, pc}", 0x4000_0001),
        ("push {r4, lr};blx r0;pop {r4, pc}", "ram"),
        ("nop;bkpt #0;bx lr", 0),
    ],
)
def test_a_fault_is_told_in_the_same_words(
    both: Pair, engine: Callable[[str], QemuEngine], core: str, body: str, argument: int | str
) -> None:
    memory = engine(core).memory
    places = {"flash": memory.flash.origin + 0x2000, "ram": memory.ram.origin | 1}
    value = places[argument] if isinstance(argument, str) else argument
    first, second = (fault(simulator, body, core, value) for simulator in both(core))
    assert (str(first), first.pc) == (str(second), second.pc)
    assert first.address == second.address


@pytest.mark.parametrize("core", CORES[1:])
@pytest.mark.parametrize(
    "instruction", ["ldmia r0!, {r1, r2}", "ldmia.w r0, {r1, r9}", "ldrd r1, r2, [r0]", "strd r1, r2, [r0]"]
)
def test_several_words_that_are_not_aligned_are_a_fault(both: Pair, core: str, instruction: str) -> None:
    faults = []
    for simulator in both(core):
        simulator.load([program("f", f"push {{r9, lr}};{instruction};pop {{r9, pc}}", core)])
        x = simulator.allocate(16, offset=2)
        with pytest.raises(
            FaultError, match=r"\(f\+0x4\): it accesses several words at .*not a multiple of 4$"
        ) as error:
            simulator.call("f", x)
        faults.append(error.value.pc)
    assert faults[0] == faults[1]


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("budget", [1, 2, 7, 50, 1000])
def test_a_spent_budget_is_told_in_the_same_words(both: Pair, core: str, budget: int) -> None:
    messages = []
    for simulator in both(core):
        simulator.load([assemble(function("sort", SORT))])
        x = simulator.allocate(400)
        simulator.write(x, bytes(range(200)) * 2)
        with pytest.raises(DeviceError, match=f"within its budget of {budget} instructions") as error:
            simulator.call("sort", x, 100, budget=budget)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
