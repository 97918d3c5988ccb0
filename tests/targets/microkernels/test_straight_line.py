"""Registers for straight-line code: what it computes stays the same with any number of them."""

from __future__ import annotations

import numpy as np
import pytest

from tvm_tinyml.targets.cortex_m.microkernels.straight_line import StraightLine, Value


def random_code(rng: np.random.Generator, length: int) -> tuple[StraightLine, int]:
    """Sums of values computed before, some read long after; and how many are stored."""
    code = StraightLine()
    values = [code.given("s9"), *(code(f"load {{}}, {i}") for i in range(6))]
    waiting = list(values)
    for _ in range(length):
        a, b = (values[int(i)] for i in rng.integers(max(0, len(values) - 8), len(values), 2))
        values.append(code("add {}, {}, {}", a, b))
        waiting = [value for value in waiting if value is not a and value is not b] + [values[-1]]
    for value in waiting:
        code.do("store {}", value)
    return code, len(waiting)


def run(lines: list[str], registers: set[str]) -> list[int]:
    """Interpret; an operand that was never written is an error, and so is a register outside of the pool."""
    held, stored = {"s9": 77}, []
    for line in lines:
        name, _, text = line.partition(" ")
        operands = text.split(", ")
        if name == "load":
            held[operands[0]] = 1 << int(operands[1])
        elif name == "add":
            held[operands[0]] = held[operands[1]] + held[operands[2]]
        elif name == "vmov":
            held[operands[0]] = held[operands[1]]
        else:
            stored.append(held[operands[0]])
        assert {register for register in operands if register.startswith("r")} <= registers
    return stored


@pytest.mark.parametrize("seed", range(20))
def test_any_number_of_registers_computes_the_same(seed: int) -> None:
    results = []
    for count in (60, 12, 5, 3):
        code, stores = random_code(np.random.default_rng(seed), 50)
        registers = [f"r{i}" for i in range(count)]
        lines = code.allocate(registers, [f"s{i}" for i in range(10, 80)])
        results.append(run(lines, set(registers)))
        assert len(results[-1]) == stores
    assert all(result == results[0] for result in results)


def test_the_value_needed_last_is_driven_out() -> None:
    code = StraightLine()
    late, soon = code("ldr {}, [r0]"), code("ldr {}, [r0, #4]")
    both = code("add {}, {}, {}", soon, code("ldr {}, [r0, #8]"))
    code.do("str {}, [r1]", both)
    code.do("str {}, [r1, #4]", late)
    lines = ["ldr r2, [r0]", "ldr r3, [r0, #4]", "vmov s0, r2", "ldr r2, [r0, #8]", "add r2, r3, r2", "str r2, [r1]"]
    assert code.allocate(["r2", "r3"], ["s0"]) == [*lines, "vmov r2, s0", "str r2, [r1, #4]"]


def test_a_copy_that_is_still_there_is_not_made_again() -> None:
    """A value moved back keeps its home, and one that is given has it from the beginning."""
    code = StraightLine()
    given = code.given("s5")
    for _ in range(3):
        code.do("str {}, [r1]", given)
        code.do("str {}, [r1]", code("ldr {}, [r0]"))
    lines = code.allocate(["r2"], [])
    assert [line for line in lines if line.startswith("vmov")] == ["vmov r2, s5"] * 3


def test_a_home_is_used_again() -> None:
    code = StraightLine()
    for i in range(3):
        kept = code(f"ldr {{}}, [r0, #{i}]")
        code.do("str {}, [r1]", code("ldr {}, [r0]"))
        code.do("str {}, [r1]", kept)
    assert sum("s0" in line for line in code.allocate(["r2"], ["s0"])) == 6


@pytest.mark.parametrize("homes", [[], ["s0"]])
def test_too_many_values_are_an_error(homes: list[str]) -> None:
    code = StraightLine()
    values: list[Value] = [code(f"ldr {{}}, [r0, #{i}]") for i in range(4)]
    for value in values:
        code.do("str {}, [r1]", value)
    with pytest.raises(AssertionError, match="more values are needed at once"):
        code.allocate(["r2", "r3"], homes)
