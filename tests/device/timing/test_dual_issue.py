"""Cores that issue pairs: LLVM's model of the M7, our assumptions about the M33."""

from __future__ import annotations

import pytest
from device.timing.measure import number, run
from simulated import needs_simulator

pytestmark = needs_simulator

M7, M33 = "cortex-m7", "cortex-m33"


def steady(core: str, body: str, turns: int = 100) -> float:
    """Cycles of a turn of a loop, whose counter and branch are part of it."""
    few, many = (run(core, f"1: {body};subs r0, #1;bne 1b;bx lr", number(n), 0, 0, 0).total for n in (turns, 2 * turns))
    return (many - few) / turns


def test_a_delay_loop_takes_one_cycle_on_an_m7_and_two_on_an_m33() -> None:
    few, many = (run(M7, "1: subs r0, #1;bne 1b;bx lr", number(n)).total for n in (100, 200))
    assert many - few == 100
    few, many = (run(M33, "1: subs r0, #1;bne 1b;bx lr", number(n)).total for n in (100, 200))
    assert many - few == 200


@pytest.mark.parametrize(
    ("body", "turn"),
    [
        ("add r4, r5;add r6, r7", 2),  # a pair, then the counter and the branch
        ("add r4, r5;add r4, r6", 3),  # the second waits for the first; counter and branch join nothing
        ("ldr r4, [r1];ldr r5, [r2]", 2),  # two loads at once
        ("str r4, [r1];str r5, [r2]", 3),  # one store at a time
        ("smlad r4, r5, r6, r4;smlad r7, r5, r6, r7", 3),  # one multiplier; the first pairs with nothing in front
        ("ldr r4, [r1];ldr r5, [r2];smlad r6, r4, r5, r6", 3),  # a word is there for the next cycle
        ("ldrh r4, [r1];smlad r6, r4, r5, r6", 4),  # a halfword one later
        ("sdiv r4, r5, r6", 8),
    ],
)
def test_pairs_of_an_m7(body: str, turn: int) -> None:
    assert steady(M7, body) == turn


def test_an_m33_pairs_short_instructions_of_which_one_is_simple() -> None:
    def ten(body: str) -> int:
        return run(M33, ";".join([body] * 10 + ["bx lr"])).total - run(M33, "bx lr").total

    assert ten("adds r4, r5;adds r6, r7") == 10
    assert ten("ands r4, r5;adds r6, r7") == 10
    assert ten("ands r4, r5;orrs r6, r7") == 19  # the last one goes with the return
    assert ten("add.w r4, r4, r5;add.w r6, r6, r7") == 20


def test_a_load_delays_its_use_on_an_m33_by_a_cycle() -> None:
    used, unused = (run(M33, f"ldr r2, [r1];adds r4, {register};bx lr", 0, 0).total for register in ("r2", "r3"))
    assert used == unused + 1


def test_a_chain_of_loads_takes_the_latency_of_each() -> None:
    # M7: the word in the next cycle, as an address one cycle later still. M33: 2.
    for core in (M7, M33):
        few, many = (run(core, "str r0, [r0];" + "ldr r0, [r0];" * n + "bx lr", 0).total for n in (4, 14))
        assert many - few == 10 * 2, core


def test_a_branch_of_an_m7_that_goes_both_ways_is_mispredicted_for_the_rarer_one() -> None:
    # Taken for every fourth number: 25 of 100 go the other way, 6 cycles each; the loop's own branch once.
    body = "1: lsls r2, r0, #30;beq 2f;nop;2: subs r0, #1;bne 1b;bx lr"
    assert dict(run(M7, body, number(100)).stalls) == {"branches": 6 * (25 + 1)}
    assert dict(run(M33, body, number(100)).stalls) == {}
