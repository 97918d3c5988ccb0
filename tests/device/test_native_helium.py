"""Armv8.1-M on the native engine: loops, tails, predicates, and what numpy computes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from device.thumb import program

from tvm_tinyml.device import FaultError, Simulator
from tvm_tinyml.device.native_engine import NativeEngine
from tvm_tinyml.device.watch import Event, LineBuffer, Watch

pytestmark = pytest.mark.usefixtures("native")


@pytest.fixture(params=["cortex-m55", "cortex-m85"])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(engine=NativeEngine(request.param)) as simulator:
        yield simulator


def call(simulator: Simulator, body: str, *arguments: int) -> int:
    simulator.load([program("f", body, "cortex-m55")])
    return simulator.call("f", *arguments).value


def place(simulator: Simulator, array: np.ndarray) -> int:
    address = simulator.allocate(array.nbytes)
    simulator.write(address, array.tobytes())
    return address


# --- loops ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_a_loop_runs_as_often_as_it_is_told(simulator: Simulator, count: int) -> None:
    body = "push {r4, lr};movs r1, #0;dls lr, r0;1: adds r1, #3;le lr, 1b;mov r0, r1;pop {r4, pc}"
    simulator.load([program("f", body, "cortex-m55")])
    result = simulator.call("f", count)
    assert result.value == 3 * count
    assert result.instructions == 3 + 2 * count + 2


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 3), (5, 15)])
def test_a_while_loop_may_run_never(simulator: Simulator, count: int, expected: int) -> None:
    body = "push {r4, lr};movs r1, #0;wls lr, r0, 2f;1: adds r1, #3;le lr, 1b;2: mov r0, r1;pop {r4, pc}"
    assert call(simulator, body, count) == expected


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 16, 17, 33])
def test_the_last_round_of_a_loop_with_a_tail_works_on_the_rest(simulator: Simulator, bits: int, count: int) -> None:
    body = f"push {{r4, lr}};movs r2, #0;wlstp.{bits} lr, r0, 2f;vmov.i{bits} q0, #1;"
    body += f"1: vaddva.u{bits} r2, q0;vmov.i{bits} q0, #1;letp lr, 1b;2: vmov.i32 q1, #1;vaddva.u32 r2, q1;"
    # Behind the loop all lanes are active again. The first vmov has a tail, too.
    assert call(simulator, body + "mov r0, r2;pop {r4, pc}", count) == count + 4


def test_a_loop_that_is_left_early_can_drop_its_tail(simulator: Simulator) -> None:
    body = "push {r4, lr};movs r0, #3;dlstp.32 lr, r0;lctp;movs r0, #0;vmov.i32 q0, #1;vaddva.u32 r0, q0;pop {r4, pc}"
    assert call(simulator, body) == 4


def test_a_loop_without_a_counter_runs_until_it_is_left(simulator: Simulator) -> None:
    assert call(simulator, "movs r1, #0;1: adds r1, #1;cmp r1, #9;beq 2f;le 1b;2: mov r0, r1;bx lr") == 9


# --- what numpy computes --------------------------------------------------------------------------------------------

DOT = "push {r4, lr};mov.w r12, #0;dlstp.8 lr, r2;1: vldrb.u8 q0, [r0], #16;vldrb.u8 q1, [r1], #16;"
DOT += "vmladava.s8 r12, q0, q1;letp lr, 1b;mov r0, r12;pop {r4, pc}"


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 1000])
def test_a_dot_product_leaves_out_what_lies_behind_the_tail(
    simulator: Simulator, rng: np.random.Generator, n: int
) -> None:
    simulator.load([program("dot", DOT, "cortex-m55")])
    x, w = (rng.integers(-128, 128, n + 16).astype(np.int8) for _ in range(2))
    result = simulator.call("dot", place(simulator, x), place(simulator, w), n)
    assert result.value == int(x[:n].astype(int) @ w[:n].astype(int))
    assert result.instructions == 3 + 4 * -(-n // 16) + 2


def test_requantization_rounds_as_the_reference_kernels_do(simulator: Simulator, rng: np.random.Generator) -> None:
    """Doubling high multiply with rounding, then a rounding shift that is away from zero only with its correction."""
    x, multipliers = rng.integers(-(2**28), 2**28, 64), rng.integers(2**30, 2**31, 64)
    shifts = -rng.integers(0, 20, 64)
    arrays = [a.astype(np.int32) for a in (x, multipliers, shifts)]
    body = "push {r4, lr};movs r4, #64;dlstp.32 lr, r4;1: vldrw.u32 q0, [r0];vldrw.u32 q1, [r1], #16;"
    body += "vldrw.u32 q2, [r2], #16;vqrdmulh.s32 q0, q0, q1;vand q3, q0, q2;vshr.s32 q3, q3, #31;"
    body += "vqadd.s32 q0, q0, q3;vrshl.s32 q0, q0, q2;vstrw.32 q0, [r0], #16;letp lr, 1b;pop {r4, pc}"
    simulator.load([program("f", body, "cortex-m55")])
    addresses = [place(simulator, a) for a in arrays]
    simulator.call("f", *addresses)
    high = (x * multipliers + (1 << 30)) >> 31
    # Negative numbers are moved by one where there is a shift, which rounds halves away from zero.
    corrected = high - ((high < 0) & (shifts < 0))
    expected = np.where(shifts < 0, (corrected + (1 << np.maximum(-shifts - 1, 0))) >> -shifts, high)
    written = np.frombuffer(simulator.read(addresses[0], 4 * 64), np.int32)
    np.testing.assert_array_equal(written, expected)


def test_structures_are_taken_apart_and_put_together(simulator: Simulator, rng: np.random.Generator) -> None:
    x = rng.integers(0, 256, 64).astype(np.uint8)
    body = "vld40.8 {q0, q1, q2, q3}, [r0];vld41.8 {q0, q1, q2, q3}, [r0];vld42.8 {q0, q1, q2, q3}, [r0];"
    body += "vld43.8 {q0, q1, q2, q3}, [r0];vstrb.8 q1, [r1];vst20.16 {q2, q3}, [r2];vst21.16 {q2, q3}, [r2]!;"
    simulator.load([program("f", body + "mov r0, r2;bx lr", "cortex-m55")])
    source, lane, pairs = place(simulator, x), simulator.allocate(16), simulator.allocate(32)
    assert simulator.call("f", source, lane, pairs).value == pairs + 32
    assert simulator.read(lane, 16) == x[1::4].tobytes()
    halves = [np.frombuffer(x[i::4].tobytes(), np.uint16) for i in (2, 3)]
    assert simulator.read(pairs, 32) == np.stack(halves, 1).tobytes()


@pytest.mark.parametrize("seed", range(3))
def test_a_vpt_block_chooses_between_two_results(simulator: Simulator, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-100, 100, 16).astype(np.int8)
    body = "vldrb.u8 q0, [r0];movs r1, #3;vpte.s8 gt, q0, r1;vmult.i8 q0, q0, r1;vnege.s8 q0, q0;"
    simulator.load([program("f", body + "vstrb.8 q0, [r0];bx lr", "cortex-m55")])
    address = place(simulator, x)
    simulator.call("f", address)
    expected = np.where(x > 3, x * np.int8(3), -x)
    np.testing.assert_array_equal(np.frombuffer(simulator.read(address, 16), np.int8), expected)


@pytest.mark.parametrize(("condition", "value"), [("eq", 7), ("ne", 12), ("hs", 7), ("lo", 12), ("ge", 7), ("lt", 12)])
def test_selects_choose_by_the_flags(simulator: Simulator, condition: str, value: int) -> None:
    assert (
        call(simulator, f"cmp r0, r0;movs r1, #7;movs r2, #11;cmp r0, r0;csinc r0, r1, r2, {condition};bx lr") == value
    )


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["vldrw.u32 q0, [r0]", "vstrh.16 q0, [r0]", "vldrh.u32 q0, [r0]"])
def test_elements_are_aligned(simulator: Simulator, body: str) -> None:
    with pytest.raises(FaultError, match="the access is misaligned"):
        call(simulator, f"{body};bx lr", 0x2000_0001)


def test_an_element_outside_of_memory_is_a_fault_only_where_its_lane_is_active(simulator: Simulator) -> None:
    body = "push {r4, lr};dlstp.32 lr, r1;1: vldrw.u32 q0, [r0];letp lr, 1b;pop {r4, pc}"
    end = NativeEngine("cortex-m55").memory.ram.end
    call(simulator, body, end - 8, 2)
    with pytest.raises(FaultError, match=rf"it reads 4 bytes at {end:#010x}, where no memory is"):
        call(simulator, body, end - 8, 3)


@pytest.mark.parametrize(
    ("features", "body", "name"),
    [
        (["nomve"], "vadd.i8 q0, q0, q0", "VADD"),
        (["nomve.fp"], "vfma.f32 q0, q1, q2", "VFMA"),
        (["nofp"], "vadd.f16 q0, q1, q2", "VADD"),
        (["nodsp"], "vmladav.s8 r0, q0, q0", "VMLADAV"),
    ],
)
def test_a_part_without_vectors_refuses_them(features: list[str], body: str, name: str) -> None:
    with Simulator(engine=NativeEngine("cortex-m55", features=features)) as simulator:
        with pytest.raises(FaultError, match=f"it executes {name}, which this core does not have"):
            call(simulator, f"{body};bx lr")
        assert call(simulator, "push {r4, lr};dls lr, r0;1: nop;le lr, 1b;movs r0, #4;pop {r4, pc}", 2) == 4


def test_the_m33_has_nothing_of_it() -> None:
    with Simulator(engine=NativeEngine("cortex-m33")) as simulator:
        for body, name in (("csel r0, r1, r2, eq", "CSEL"), ("dls lr, r0", "DLS"), ("vdup.8 q0, r0", "VDUP")):
            with pytest.raises(FaultError, match=f"it executes {name}, which this core does not have"):
                call(simulator, f"{body};bx lr")


# --- counts ---------------------------------------------------------------------------------------------------------


def test_lines_of_vector_loads_are_counted() -> None:
    engine = NativeEngine("cortex-m55")
    with Simulator(engine=engine) as simulator:
        body = "vldrw.u32 q0, [r0];vldrb.u16 q1, [r0];vldrb.u8 q2, [r0, #12];bx lr"
        simulator.load([program("f", body, "cortex-m55")])
        flash = engine.memory.flash
        watch = Watch(flash, LineBuffer(8, 4))
        run = engine.run(simulator.symbols["f"], [flash.origin + 0x1000], engine.memory.stack.end, 100, watch)
        assert run.events is not None
        # 16 bytes from 0 and 16 from 12 on: four lines of 8 bytes.
        assert run.events.sum(0)[Event.DATA_MISS] == 4
        assert run.events.sum(0)[: Event.DATA_MISS].tolist() == [0, 0, 0]
