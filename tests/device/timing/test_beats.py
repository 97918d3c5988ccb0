"""Cores with Helium, by hand: half of a vector in each of two cycles, and another unit may take over in between.

What LLVM's models say (ARMScheduleM55.td, ARMScheduleM85.td). The time of a sequence ends when its last instruction has
been issued.
"""

from __future__ import annotations

import pytest
from device.thumb import function

from tvm_tinyml.device import ElfObject, assemble
from tvm_tinyml.device.timing import load_core
from tvm_tinyml.device.timing.decode import Instruction

pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")

M55, M85 = "cortex-m55", "cortex-m85"
BOTH = pytest.mark.parametrize("core", [M55, M85])


def decoded(core: str, body: str) -> tuple[Instruction, ...]:
    parsed = ElfObject.parse(assemble(function("f", body), core))
    return load_core(core).decode(next(s.data for s in parsed.sections if s.name == ".text.f"), 0)


def cycles(core: str, body: str) -> int:
    return sum(load_core(core).pipeline.cycles(decoded(core, body)))


def turn(core: str, body: str) -> float:
    """Cycles of a turn of a loop in full swing: what a second turn adds to a first one, with the jump between."""
    code, pipeline = decoded(core, body), load_core(core).pipeline
    return sum(pipeline.cycles(code * 2, len(code) - 1)) - sum(pipeline.cycles(code))


def each(core: str, body: str, times: int = 20) -> float:
    """Cycles of a sequence that is written out many times."""
    return (cycles(core, ";".join([body] * 2 * times)) - cycles(core, ";".join([body] * times))) / times


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        "vadd.i8 q0, q1, q2",
        "vmul.i8 q0, q1, q2",
        "vldrb.u8 q0, [r0]",
        "vstrb.8 q0, [r0]",
        "vadd.i8 q0, q0, q1",  # its own result: the first half is there when the unit is free again
        "vmla.i8 q0, q1, r0",
        "vmladava.s8 r0, q1, q2",
        "vfma.f32 q0, q1, q2",
    ],
)
def test_a_vector_takes_two_cycles_of_its_unit(core: str, body: str) -> None:
    assert each(core, body) == 2


@BOTH
def test_two_units_overlap(core: str) -> None:
    assert each(core, "vadd.i8 q0, q1, q2;vmul.i8 q3, q4, q5") == 2
    assert each(core, "vldrb.u8 q0, [r0];vadd.i8 q1, q2, q3;vmul.i8 q3, q4, q5") == 3  # each needs a cycle to be issued


def test_the_examples_in_llvms_model_of_the_m55() -> None:
    # VLDR 1 2, VADD 2 3, VMUL 3 4, VSTR 4 5
    assert cycles(M55, "vldrw.u32 q0, [r0];vadd.i32 q1, q0, q0;vmul.i32 q2, q3, q3;vstrw.32 q4, [r1]") == 4
    # VLDR 1 2, VLDRB 3 4, VADD 4 5, VSTR 5 6
    assert cycles(M55, "vldrw.u32 q0, [r0];vldrb.u8 q1, [r1];vadd.i32 q2, q0, q1;vstrw.32 q3, [r2]") == 5


DOT = "vldrb.u8 q0, [r0], #16;vldrb.u8 q1, [r1], #16;vmladava.s8 r2, q0, q1"


@BOTH
def test_a_dot_product_of_sixteen_takes_four_cycles(core: str) -> None:
    # Two loads of 2 cycles each; the sum overlaps with the second one and with the next turn's first. LE: nothing.
    assert turn(core, f"{DOT};le lr, #-16") == turn(core, f"{DOT};letp lr, #-16") == 4
    # Four products for each vector of weights: 2 cycles for each load and for each product, overlapped
    four = ";".join(f"vldrb.u8 q{i}, [r{i}], #16;vmladava.s8 r{2 * i + 4}, q{i}, q7" for i in range(4))
    assert turn(core, f"vldrb.u8 q7, [r12], #16;{four};le lr, #-40") == 2 * 5


def test_the_end_of_a_low_overhead_loop_costs_nothing() -> None:
    loop = "adds r0, r1;add.w r2, r3, r4"
    assert turn(M55, f"{loop};le lr, #-8") == 2
    # M55: SUBS and BNE are a pair, the branch that is taken one cycle more
    assert turn(M55, f"1: {loop};subs r5, #1;bne 1b") == 2 + 1 + 1
    # M85: two pairs, a branch that is predicted costs nothing
    assert turn(M85, f"{loop};le lr, #-8") == 1
    assert turn(M85, f"1: {loop};subs r5, #1;bne 1b") == 2
    for core in (M55, M85):
        code = decoded(core, "adds r0, r1;le lr, #-8")
        assert load_core(core).pipeline.cycles(code) == [1, 0]


@pytest.mark.parametrize(
    ("first", "second", "m55", "m85"),
    [
        ("vadd.i8 q0, q1, q2", "vmul.i8 q3, q0, q1", 1, 1),
        ("vmul.i8 q0, q1, q2", "vadd.i8 q3, q0, q1", 2, 2),
        ("vldrb.u8 q0, [r0]", "vadd.i8 q3, q0, q1", 1, 1),
        ("vmulh.s8 q0, q1, q2", "vqmovnb.s16 q3, q0", 2, 2),
        ("vfma.f32 q0, q1, q2", "vadd.i32 q3, q0, q0", 2, 4),
        ("vmladava.s8 r0, q1, q2", "add.w r1, r0, r2", 2, 4),
        ("vmladava.s8 r0, q1, q2", "vmladava.s8 r0, q3, q4", 2, 2),
        ("vmaxv.s8 r0, q1", "add.w r1, r0, r2", 4, 4),
        ("vmov.s8 r0, q1[3]", "add.w r1, r0, r2", 1, 4),
        ("ldrb r0, [r1]", "vmla.i8 q0, q1, r0", 2, 1),  # M85: vectors read general registers a cycle later
        ("vmul.i8 q0, q1, q2", "vstrb.8 q0, [r0]", 1, 1),  # stores read vectors later
        ("vqmovnb.s16 q0, q1", "vstrb.8 q0, [r0]", 3, 1),  # M55: not forwarded
        ("vcmp.s8 gt, q0, q1", "vpsel q2, q3, q4", 1, 1),
        ("ldr.w r0, [r1]", "add.w r2, r0, r3", 2, 1),
        ("smlad r0, r1, r2, r0", "smlad r0, r3, r4, r0", 2, 1),  # M55: no forwarding to the accumulator
        ("add.w r0, r1, r2", "vldrb.u8 q0, [r0]", 1, 2),  # M85: addresses one cycle early
        ("csel r0, r1, r2, eq", "add.w r3, r0, r1", 1, 2),
    ],
)
def test_latencies(first: str, second: str, m55: int, m85: int) -> None:
    assert (cycles(M55, f"{first};{second}"), cycles(M85, f"{first};{second}")) == (m55 + 1, m85 + 1)


def test_pairs_of_an_m55_are_short_and_one_is_simple() -> None:
    assert cycles(M55, "adds r0, #1;ands r1, r2") == cycles(M55, "ands r1, r2;adds r0, #1") == 1
    assert cycles(M55, "ands r0, r3;orrs r1, r2") == 2
    assert cycles(M55, "add.w r0, r1, r2;adds r3, #1") == 2
    assert cycles(M55, "vadd.i8 q0, q1, q2;adds r3, #1") == 2


def test_an_m85_issues_a_vector_behind_something_else_in_the_same_cycle() -> None:
    assert cycles(M85, "add.w r0, r1, r2;add.w r3, r4, r5") == 1
    assert cycles(M85, "ldr r0, [r1];ldr r2, [r3]") == 1
    assert cycles(M85, "add.w r0, r1, r2;vadd.i8 q0, q1, q2") == 1
    assert cycles(M85, "vadd.i8 q0, q1, q2;add.w r0, r1, r2") == 2  # it ends the group
    assert cycles(M85, "uxtb r0, r1;vadd.i8 q0, q1, q2") == 2  # both need slot 0
    assert each(M85, "vand q0, q1, q2") == 1  # either unit: nothing waits but the ports


@pytest.mark.parametrize(
    ("body", "m55", "m85"),
    [
        ("vldrw.u32 q0, [r0, q1]", 2, 2),  # four words, two at once
        ("vldrh.u16 q0, [r0, q1]", 4, 4),
        ("vstrb.8 q0, [r0, q1]", 8, 8),
        ("vldrw.u32 q0, [r0, q1];vadd.i8 q2, q3, q4", 2, 3),  # M85: nothing overlaps
    ],
)
def test_gathering_moves_two_elements_a_cycle(body: str, m55: int, m85: int) -> None:
    assert (each(M55, body), each(M85, body)) == (m55, m85)


def test_offsets_in_a_vector_are_needed_early() -> None:
    # M55: 4 cycles before other operands. M85: 2 before, and the gathering itself takes 2.
    assert cycles(M55, "vadd.i32 q0, q1, q2;vldrw.u32 q3, [r0, q0]") == (1 + 4) + 1
    assert cycles(M85, "vadd.i32 q0, q1, q2;vldrw.u32 q3, [r0, q0]") == (1 + 2) + 2


@BOTH
def test_registers_are_moved_two_at_once(core: str) -> None:
    assert cycles(core, "ldm r0!, {r1-r4}") == cycles(core, "vpush {d8-d9}") == 2


def test_nobody_has_compared_them_with_a_board() -> None:
    assert [load_core(core).error_percent for core in (M55, M85)] == [None, None]
