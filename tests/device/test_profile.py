"""What a run counts, the same by every engine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from device.conftest import MakeEngine
from device.thumb import function

from tvm_tinyml.device import BudgetError, EdgeProfile, ElfObject, Simulator, assemble
from tvm_tinyml.device.counter import may_be_misaligned
from tvm_tinyml.device.engine import instruction_offsets

# Sorts words by insertion: loops in loops, data-dependent branches.
SORT = """push {r4-r6, lr}
movs r2, #1
.Louter:
cmp r2, r1
bhs .Ldone
lsls r3, r2, #2
ldr r4, [r0, r3]
.Linner:
subs r3, #4
bmi .Lplace
ldr r5, [r0, r3]
cmp r5, r4
bls .Lplace
adds r6, r3, #4
str.w r5, [r0, r6]
b .Linner
.Lplace:
adds r3, #4
str r4, [r0, r3]
adds r2, #1
b .Louter
.Ldone:
pop {r4-r6, pc}""".replace("\n", ";")

# Calls one of 1500 small functions by an index that runs through all of them: many blocks, many edges out of one.
MANY = 1500
DISPATCH = "\n".join(
    [
        function(
            "dispatch",
            "push {r4-r6, lr};ldr r4, =table;ldr r5, =1500;movs r6, #0;"
            ".Lnext: ldmia r4!, {r3};blx r3;adds r6, r6, r0;subs r5, #1;bne .Lnext;mov r0, r6;pop {r4-r6, pc};.ltorg",
        ),
        *(function(f"leaf{i}", f"movs r0, #{i % 251};.rept {i % 5};nop;.endr;bx lr") for i in range(MANY)),
        '.section .rodata.table,"a",%progbits\n.balign 4\ntable:',
        *(f".word leaf{i}" for i in range(MANY)),
    ]
)


@pytest.fixture
def simulator(make_engine: MakeEngine) -> Iterator[Simulator]:
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        yield simulator


def sort(simulator: Simulator, count: int, budget: int = 10**9) -> EdgeProfile:
    simulator.load([assemble(function("sort", SORT), "cortex-m4")])
    x = simulator.allocate(4 * count)
    words = np.random.default_rng(1).integers(0, 2**31, count, np.uint32)
    simulator.write(x, words.tobytes())
    result = simulator.call("sort", x, count, budget=budget)
    assert np.array_equal(np.frombuffer(simulator.read(x, 4 * count), np.uint32), np.sort(words))
    return result.profile


def fields(profile: EdgeProfile) -> list[list[int]]:
    return [getattr(profile, name).tolist() for name in EdgeProfile.__dataclass_fields__]


def test_engines_count_the_same(native: MakeEngine, unicorn_engine: MakeEngine) -> None:
    with Simulator(engine=native("cortex-m4")) as fast, Simulator(engine=unicorn_engine("cortex-m4")) as slow:
        assert fields(sort(fast, 60)) == fields(sort(slow, 60))
        for simulator in (fast, slow):
            simulator.load([assemble(DISPATCH)])
        a, b = fast.call("dispatch"), slow.call("dispatch")
        assert a.instructions_by_symbol == b.instructions_by_symbol
        assert a.instructions == b.instructions


@pytest.mark.parametrize("budget", [1, 2, 7, 50, 1000, 12345])
def test_engines_stop_at_the_same_place(native: MakeEngine, unicorn_engine: MakeEngine, budget: int) -> None:
    messages = []
    for make in (native, unicorn_engine):
        with Simulator(engine=make("cortex-m4")) as simulator, pytest.raises(BudgetError) as error:
            sort(simulator, 300, budget)
        messages.append((str(error.value), error.value.pc, error.value.budget))
    assert messages[0] == messages[1]


def test_the_budget_is_exact(simulator: Simulator) -> None:
    needed = sort(simulator, 40).instructions
    assert sort(simulator, 40, budget=needed).instructions == needed
    with pytest.raises(BudgetError):
        sort(simulator, 40, budget=needed - 1)


def test_tables_grow_with_the_program(simulator: Simulator) -> None:
    simulator.load([assemble(DISPATCH)])
    result = simulator.call("dispatch")
    assert result.value == sum(i % 251 for i in range(MANY))
    leaves = {name: n for name, n in result.instructions_by_symbol.items() if name.startswith("leaf")}
    assert leaves == {f"leaf{i}": 2 + i % 5 for i in range(MANY)}
    assert result.instructions_by_symbol["dispatch"] == 4 + MANY * 5 + 2
    assert len(result.profile.edge_source) > 2 * MANY


def test_counts_start_at_zero_with_each_call(simulator: Simulator) -> None:
    first = fields(sort(simulator, 30))
    simulator.load([assemble(DISPATCH)])
    simulator.call("dispatch")
    assert fields(sort(simulator, 30)) == first


def test_edges_into_and_out_of_a_block_balance(simulator: Simulator) -> None:
    profile = sort(simulator, 50)
    out = np.zeros(len(profile.block_start), np.uint64)
    np.add.at(out, profile.edge_source[profile.edge_source >= 0], profile.edge_count[profile.edge_source >= 0])
    missing = profile.block_executions - out
    assert missing.sum() == 1  # only the block that returned to the caller is entered once more than it is left
    assert profile.edge_count[profile.edge_source < 0].tolist() == [1]


def test_an_edge_with_more_targets_than_a_block_remembers_is_counted(simulator: Simulator) -> None:
    """A return goes back to five callers in turn."""
    calls = ";".join(["bl leaf;adds r0, #1"] * 5)
    source = function("f", f"push {{r4, lr}};movs r0, #0;{calls};pop {{r4, pc}}") + "\n" + function("leaf", "bx lr")
    simulator.load([assemble(source)])
    profile = simulator.call("f").profile
    leaf = profile.block_start.tolist().index(simulator.symbols["leaf"])
    assert profile.edge_count[profile.edge_source == leaf].tolist() == [1] * 5
    assert profile.edge_count[profile.edge_target == leaf].tolist() == [1] * 5


def test_instructions_are_told_by_the_top_five_bits() -> None:
    for top in range(32):
        code = (top << 11).to_bytes(2, "little") + bytes(2)
        assert instruction_offsets(code) == ([0] if top in (0b11101, 0b11110, 0b11111) else [0, 2])


def test_only_single_loads_and_stores_may_be_misaligned() -> None:
    encodings = {
        "ldr r0, [r1]": True, "ldr r0, [r1, r2]": True, "ldr r0, [sp, #4]": True, "ldr.w r0, [r1, #100]": True,
        "strh r0, [r1]": True, "str.w r0, [r1, r2, lsl #2]": True, "ldrsh.w r0, [r1]": True,
        "ldmia r0, {r1, r2}": False, "push {r0, r1}": False, "pop {r0, r1}": False, "ldrd r0, r1, [r2]": False,
        "ldmia.w r0, {r1, r8}": False, "vldr s0, [r0]": False, "vstmia r0, {s0}": False, "ldrex r0, [r1]": False,
    }  # fmt: skip
    for text, expected in encodings.items():
        code = assemble(f'.section .text.x,"ax",%progbits\n.global x\nx: {text}', "cortex-m4")
        section = next(s for s in ElfObject.parse(code).sections if s.name == ".text.x")
        assert may_be_misaligned(int.from_bytes(section.data[:2], "little")) is expected, text


def test_the_native_engine_is_fast(native: MakeEngine) -> None:
    """Unicorn with a Python callback for each block reaches 5 million instructions a second, this one some hundreds."""
    with Simulator(engine=native("cortex-m4")) as simulator:
        simulator.load([assemble(function("f", "1: adds r1, #1;adds r1, #1;adds r1, #1;subs r0, #1;bne 1b;bx lr"))])
        simulator.call("f", 1000)
        start = time.process_time()  # other processes do not count
        result = simulator.call("f", 4_000_000)
        assert result.instructions / (time.process_time() - start) > 50e6
