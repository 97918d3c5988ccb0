"""The manuals' numbers, written out. M4: Arm DDI 0439; M3: DDI 0337; M0+: DDI 0484C.

P, the refill of the pipeline, is 1 to 3 in the manuals; the tables say 1 for a direct branch and 2 for any other.
"""

from __future__ import annotations

import pytest
from device.timing.measure import cycles, number, run
from simulated import needs_simulator

pytestmark = needs_simulator

M0, M3, M4 = "cortex-m0plus", "cortex-m3", "cortex-m4"


@pytest.mark.parametrize("core", [M0, M3, M4])
def test_a_delay_loop_takes_three_cycles_a_turn(core: str) -> None:
    # SUBS 1, BNE taken 1+P = 2 (M0+: 2); the last BNE is not taken: 1
    assert cycles(core, "1: subs r0, #1;bne 1b", number(100)) == 99 * (1 + 2) + 1 + 1


@pytest.mark.parametrize("core", [M3, M4])
@pytest.mark.parametrize(
    ("body", "total"),
    [
        ("ldr r0, [r1];ldr r1, [r3]", 3),
        ("ldr r0, [r1, r5];str r0, [r3, #20]", 3),
        ("ldr r0, [r1, r5];str r1, [r3, r5]", 3),
        ("ldr r0, [r1, r5];ldr r1, [r3];ldr r2, [r3, #4]", 4),
    ],
)
def test_the_manuals_examples_of_loads_in_a_row(core: str, body: str, total: int) -> None:
    """Section 3.3.2: "normally three cycles total" and so on; r5 is 0 here."""
    assert cycles(core, body, 0, 0, 0, 0) == total


def test_a_chain_of_loads_is_not_pipelined() -> None:
    # The data is all zero, so the second load would read address 0: let each word point to itself.
    body = "str r0, [r0];ldr r0, [r0];ldr r0, [r0];ldr r0, [r0];ldr r0, [r0]"
    assert cycles(M4, body, 0) == 1 + 4 * 2
    assert cycles(M0, body, 0) == 2 + 4 * 2


def test_on_an_m0plus_each_load_and_store_takes_two_cycles() -> None:
    assert cycles(M0, "ldr r1, [r0];ldr r2, [r0, #4];str r1, [r0, #8];ldrb r3, [r0]", 0) == 4 * 2


@pytest.mark.parametrize(
    ("body", "total"),
    [
        ("str r1, [r0]", 1),  # "always one cycle"
        ("str r1, [r0, r5]", 2),  # with an offset in a register
        ("str r1, [r0];ldr r1, [r0]", 1 + 2),  # "nothing can be pipelined after the store"
        ("adds r0, #4;ldr r1, [r0]", 1 + 2 + 1),  # "no forwarding path": an address from data processing
        ("adds r1, #4;ldr r1, [r0]", 1 + 2),
        ("adds r0, #4;str r1, [r0]", 1 + 1 + 1),
        ("ldrd r2, r3, [r0]", 3),  # 1+N
        ("ldr r1, [r0];ldrd r2, r3, [r0]", 2 + 3),  # "cannot be pipelined"
    ],
)
def test_stores_and_addresses(body: str, total: int) -> None:
    assert cycles(M4, body, 0) == total


@pytest.mark.parametrize("core", [M0, M3, M4])
def test_multiple_loads_and_stores_take_one_cycle_and_one_for_each_register(core: str) -> None:
    assert cycles(core, "ldm r0!, {r1, r2, r3}", 0) == 1 + 3
    assert cycles(core, "stm r0!, {r1, r2, r3}", 0) == 1 + 3
    assert cycles(core, "push {r4-r7};pop {r4-r7}") == 2 * (1 + 4)


@pytest.mark.parametrize("core", [M0, M3, M4])
def test_a_return_by_pop_refills_the_pipeline(core: str) -> None:
    # M3, M4: 1+N+P = 1+2+2; M0+: 3+N = 3+2
    assert run(core, "push {r4, lr};pop {r4, pc}").total == (1 + 2) + 5


@pytest.mark.parametrize("core", [M0, M3, M4])
def test_branches_taken_and_not(core: str) -> None:
    body = "cmp r0, #0;beq 1f;nop;1:"
    assert cycles(core, body, number(0)) == 1 + 2
    assert cycles(core, body, number(1)) == 1 + 1 + 1
    assert cycles(core, "b 1f;nop;1:") == 2


def test_a_call_and_its_return() -> None:
    body = "mov r3, lr;bl g;bx r3;g: bx lr"
    # M4: BL 1+1, BX 1+2 twice; M0+: BL 3, BX 2 twice
    assert run(M4, body).total == 1 + 2 + 3 + 3
    assert run(M0, body).total == 1 + 3 + 2 + 2


def test_a_wide_instruction_at_no_multiple_of_4_delays_the_branch_to_it() -> None:
    assert cycles(M4, "b 1f;nop;1: add.w r0, r0, r1") == 2 + 1
    assert cycles(M4, "b 1f;nop;nop;1: add.w r0, r0, r1") == 2 + 1 + 1
    assert cycles(M4, "nop;add.w r0, r0, r1") == 1 + 1  # no branch


def test_a_switch() -> None:
    # TBB 2+P = 4, to the second place
    assert cycles(M4, "tbb [pc, r0];.byte (1f-.)/2, (2f-.+1)/2;1: nop;2:", number(1)) == 4


@pytest.mark.parametrize("count", [1, 8, 100])
def test_a_chain_of_smlad_takes_one_cycle_each(count: int) -> None:
    assert cycles(M4, ";".join(["smlad r0, r1, r2, r0"] * count)) == count


def test_multiplications_and_divisions() -> None:
    times = {
        "muls r0, r1": (1, 1), "mla r0, r1, r2, r3": (1, 2), "smull r0, r1, r2, r3": (1, 4),
        "smlal r0, r1, r2, r3": (1, 5), "sdiv r0, r1, r2": (7, 7), "ssat r0, #8, r1, asr #3": (1, 1),
    }  # fmt: skip
    for body, (m4, m3) in times.items():
        assert (cycles(M4, body), cycles(M3, body)) == (m4, m3), body
    assert cycles(M0, "muls r0, r1, r0") == 1


def test_if_then_is_folded_and_what_it_skips_counts() -> None:
    assert cycles(M4, "cmp r0, #0;ite eq;moveq r0, r1;movne r0, r2", number(0)) == 1 + 0 + 1 + 1


def test_floating_point() -> None:
    """Table 7-1: VADD, VMUL 1, one more when the next instruction uses the result; VMLA 3, VDIV 14, VLDR 2."""
    times = {
        "vadd.f32 s0, s1, s2;vadd.f32 s3, s4, s5": 1 + 1, "vadd.f32 s0, s1, s2;vadd.f32 s3, s0, s5": 1 + 1 + 1,
        "vmul.f32 s0, s1, s2": 1, "vmla.f32 s0, s1, s2": 3, "vfma.f32 s0, s1, s2;vfma.f32 s0, s1, s2": 3 + 1 + 3,
        "vdiv.f32 s0, s1, s2": 14, "vldr s0, [r0]": 2, "vldr s0, [r0];vldr s1, [r0, #4]": 3, "vstr s0, [r0]": 2,
        "vldmia r0, {s0-s4}": 1 + 5, "vldmia r0, {d0, d1}": 1 + 4, "vmov r1, s0": 1, "vldr d0, [r0]": 3,
    }  # fmt: skip
    for body, total in times.items():
        assert cycles(M4, body, 0) == total, body


@pytest.mark.parametrize("core", [M3, M4])
def test_accesses_that_are_not_aligned(core: str) -> None:
    """Performed as two halfwords: 1 more; as byte, halfword, byte: 2 more; a halfword as two bytes: 1 more."""
    for offset, more in ((0, 0), (1, 2), (2, 1), (3, 2)):
        loaded, stored = (run(core, f"{body} r1, [r0];bx lr", offset) for body in ("ldr", "str"))
        assert (loaded.total, stored.total) == (2 + 3 + more, 1 + 3 + more)
        assert dict(loaded.stalls) == dict(stored.stalls) == ({"unaligned": more} if more else {})
    assert [run(core, "ldrh r1, [r0];bx lr", offset).total for offset in range(4)] == [5, 6, 5, 6]
    assert [run(core, "ldrb r1, [r0];bx lr", offset).total for offset in range(4)] == [5] * 4


def test_a_block_split_where_no_branch_is_costs_nothing() -> None:
    assert cycles(M4, ".rept 2000;add.w r0, r0, r1;.endr") == 2000
