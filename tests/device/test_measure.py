"""Measuring candidates: each gets its figures or a clear error, and the next one is measured all the same."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from device.thumb import function
from simulated import needs_simulator

from tvm_tinyml.device import (
    BudgetError,
    FaultError,
    KernelBench,
    KernelCall,
    Measurement,
    MismatchError,
    Operand,
    Role,
    Simulator,
    assemble,
)
from tvm_tinyml.errors import DeviceError

pytestmark = needs_simulator

# out[i] = x[i] + table[i] for 64 words: r0 = x, r1 = table, r2 = out, r3 = scratch.
LOOP = "push {r4-r6, lr};movs r6, #64;1: ldm r0!, {r4};ldm r1!, {r5};adds r4, r5;stm r2!, {r4};subs r6, #1;bne 1b;"
ADD = LOOP + "pop {r4-r6, pc}"
BROKEN = {
    "runs away": "b .",
    "reads where no memory is": "movs r0, #0;ldr r0, [r0];bx lr",
    "jumps nowhere": "movs r0, #1;bx r0",
    "writes to flash": "str r0, [r1];bx lr",
    "writes one word too many": LOOP + "str r4, [r2];pop {r4-r6, pc}",
    "writes nothing": "bx lr",
    "is no instruction": "udf #0",
}


def call(rng: np.random.Generator) -> KernelCall:
    x, table = (rng.integers(0, 2**31, 64, np.uint32) for _ in range(2))
    operands = [
        Operand(Role.INPUT, x),
        Operand(Role.CONSTANT, table),
        Operand(Role.OUTPUT, x + table),
        Operand(Role.SCRATCH, np.empty(32, np.uint8)),
    ]
    return KernelCall("kernel", operands, budget_instructions=10_000)


def candidate(body: str) -> list[bytes]:
    return [assemble(function("kernel", body))]


def measured(body: str, memory: str, rng: np.random.Generator) -> Measurement:
    with KernelBench(Simulator("cortex-m4"), memory) as bench:
        return bench.measure(candidate(body), call(rng))


def test_a_kernel_is_checked_and_measured(rng: np.random.Generator) -> None:
    result = measured(ADD, "zero-wait", rng)
    assert result.instructions == 2 + 64 * 6 + 1
    # PUSH 1+4, MOVS 1; LDM of one register 2, twice, ADDS 1, STM 2, SUBS 1, BNE 1+1; the last BNE 1; POP 1+4, PC 2
    assert result.cycles.total == 5 + 1 + 64 * (2 + 2 + 1 + 2 + 1 + 2) - 1 + 7
    assert result.stack_bytes == 16


def test_constants_lie_in_flash_and_the_rest_does_not(rng: np.random.Generator) -> None:
    result = measured(ADD, "l4r5zi-120", rng)
    assert result.cycles.stalls["constants"] == 64 * 4 // 8 * 6


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_candidate_is_named_and_the_next_one_measured(fault: str, rng: np.random.Generator) -> None:
    wanted = call(rng)
    with KernelBench(Simulator("cortex-m4"), "l4r5zi-120") as bench:
        before = bench.measure(candidate(ADD), wanted)
        with pytest.raises(DeviceError) as error:
            bench.measure(candidate(BROKEN[fault]), wanted)
        assert bench.measure(candidate(ADD), wanted) == before
    kinds = {"runs away": BudgetError, "writes nothing": MismatchError, "writes one word too many": DeviceError}
    assert type(error.value) is kinds.get(fault, FaultError)
    assert "kernel" in str(error.value) or fault == "writes one word too many"


def test_a_wrong_byte_is_found_and_counted(rng: np.random.Generator) -> None:
    wrong = LOOP + "subs r2, #7;ldrb r3, [r2];adds r3, #1;strb r3, [r2];pop {r4-r6, pc}"
    with pytest.raises(MismatchError) as error:
        measured(wrong, "zero-wait", rng)
    assert (error.value.differing, error.value.compared) == (1, 256)
    assert "kernel 'kernel' writes 1 of 256 bytes other than expected; the first is byte 249: " in str(error.value)


def test_an_object_that_is_damaged_is_an_error_of_that_candidate(rng: np.random.Generator) -> None:
    with KernelBench(Simulator("cortex-m4")) as bench:
        with pytest.raises(DeviceError, match="object 0"):
            bench.measure([candidate(ADD)[0][:100]], call(rng))
        assert bench.measure(candidate(ADD), call(rng)).instructions == 387


def test_constants_that_do_not_fit_flash_are_refused(rng: np.random.Generator) -> None:
    huge = KernelCall("kernel", [Operand(Role.CONSTANT, np.zeros(16 << 20, np.uint8))])
    with KernelBench(Simulator("cortex-m4")) as bench, pytest.raises(DeviceError, match="16777216 bytes of constants"):
        bench.measure(candidate(ADD), huge)


def in_another_process(seed: int) -> Measurement:
    return measured(ADD, "l4r5zi-120", np.random.default_rng(seed))


def test_another_process_measures_the_same() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (there,) = pool.map(in_another_process, [3])
    assert there == in_another_process(3)
