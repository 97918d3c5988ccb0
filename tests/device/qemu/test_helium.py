"""Cortex-M55: vectors, predicated tails, low-overhead loops: what numpy computes, in the instructions written."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from device.thumb import function, program
from numpy.typing import NDArray

from tvm_tinyml.device import FaultError, Simulator, assemble
from tvm_tinyml.device.qemu import QemuEngine
from tvm_tinyml.device.watch import Event, LineBuffer, Watch

Ints = NDArray[np.int_]


@pytest.fixture
def simulator(qemu: Callable[[str], Simulator]) -> Simulator:
    return qemu("cortex-m55")


def place(simulator: Simulator, array: NDArray[np.generic]) -> int:
    address = simulator.allocate(array.nbytes)
    simulator.write(address, array.tobytes())
    return address


# int dot(const int8_t *x, const int8_t *w, int n): 3 instructions before the loop, 4 in it, 2 behind.
DOT = """push {r4, lr}
mov.w r12, #0
dlstp.8 lr, r2
1: vldrb.u8 q0, [r0], #16
vldrb.u8 q1, [r1], #16
vmladava.s8 r12, q0, q1
letp lr, 1b
mov r0, r12
pop {r4, pc}""".replace("\n", ";")


@pytest.mark.parametrize("n", [1, 15, 16, 17, 100, 1000])
def test_a_dot_product_leaves_out_what_lies_behind_the_tail(
    simulator: Simulator, rng: np.random.Generator, n: int
) -> None:
    simulator.load([program("dot", DOT, "cortex-m55")])
    x, w = (rng.integers(-128, 128, n + 16).astype(np.int8) for _ in range(2))
    result = simulator.call("dot", place(simulator, x), place(simulator, w), n)
    assert result.value == int(x[:n].astype(int) @ w[:n].astype(int))
    rounds = -(-n // 16)
    assert result.instructions == 3 + 4 * rounds + 2
    assert result.stack_bytes == 8


# void widen(const int8_t *x, int16_t *y, int n): y = 3 x, 8 at a time.
WIDEN = """push {r4, lr}
movs r3, #3
dlstp.16 lr, r2
1: vldrb.s16 q0, [r0], #8
vmul.i16 q0, q0, r3
vstrh.u16 q0, [r1], #16
letp lr, 1b
pop {r4, pc}""".replace("\n", ";")


@pytest.mark.parametrize("n", [1, 7, 8, 9, 61])
def test_bytes_are_widened_and_nothing_is_written_behind_the_tail(
    simulator: Simulator, rng: np.random.Generator, n: int
) -> None:
    simulator.load([program("widen", WIDEN, "cortex-m55")])
    x = rng.integers(-128, 128, n).astype(np.int8)
    y = place(simulator, np.full(n + 8, 77, np.int16))
    result = simulator.call("widen", place(simulator, x), y, n)
    assert result.instructions == 3 + 4 * -(-n // 8) + 1
    written = np.frombuffer(simulator.read(y, 2 * n + 16), np.int16)
    np.testing.assert_array_equal(written, [*(3 * x.astype(int)), *[77] * 8])


# void narrow(const int32_t *x, int8_t *y, int n): the low bytes, 4 at a time.
NARROW = "push {r4, lr};dlstp.32 lr, r2;1: vldrw.u32 q0, [r0], #16;vstrb.32 q0, [r1], #4;letp lr, 1b;pop {r4, pc}"


@pytest.mark.parametrize("n", [1, 4, 30])
def test_words_are_narrowed_to_bytes(simulator: Simulator, rng: np.random.Generator, n: int) -> None:
    simulator.load([program("narrow", NARROW, "cortex-m55")])
    x = rng.integers(-(2**31), 2**31, n).astype(np.int32)
    y = simulator.allocate(n)
    result = simulator.call("narrow", place(simulator, x), y, n)
    assert result.instructions == 2 + 3 * -(-n // 4) + 1
    assert simulator.read(y, n) == x.astype(np.uint32).astype(np.uint8).tobytes()
    simulator.check_guards()


# void scale(int32_t *x, int32_t multiplier, int rounds): 4 at a time, in a loop without predication.
SCALE = """push {r4, lr}
dls lr, r2
1: vldrw.u32 q0, [r0]
vqrdmulh.s32 q0, q0, r1
vstrw.32 q0, [r0], #16
le lr, 1b
pop {r4, pc}""".replace("\n", ";")


def doubling_high_product(x: Ints, multiplier: int) -> Ints:
    """(2 x m + 2**31) >> 32 in 64 bits, saturated."""
    return np.minimum((x.astype(np.int64) * multiplier + 2**30) >> 31, 2**31 - 1)


@pytest.mark.parametrize("multiplier", [2**30, 2**31 - 1, -(2**31), 1518500250, -1])
def test_high_products_are_rounded_and_saturated(
    simulator: Simulator, rng: np.random.Generator, multiplier: int
) -> None:
    simulator.load([program("scale", SCALE, "cortex-m55")])
    x = rng.integers(-(2**31), 2**31, 32)
    x[:6] = [-(2**31), 2**31 - 1, 0, 1, -1, 3]
    address = place(simulator, x.astype(np.int32))
    result = simulator.call("scale", address, multiplier, len(x) // 4)
    assert result.instructions == 2 + 4 * (len(x) // 4) + 1
    scaled = np.frombuffer(simulator.read(address, 4 * len(x)), np.int32)
    np.testing.assert_array_equal(scaled, doubling_high_product(x, multiplier))


def test_a_predicated_block_computes_only_the_chosen_lanes(simulator: Simulator, rng: np.random.Generator) -> None:
    body = "vldrb.u8 q0, [r0];vpt.s8 lt, q0, zr;vnegt.s8 q0, q0;vstrb.8 q0, [r0];bx lr"
    simulator.load([program("absolute", body, "cortex-m55")])
    x = rng.integers(-127, 128, 16).astype(np.int8)
    address = place(simulator, x)
    assert simulator.call("absolute", address).instructions == 5
    np.testing.assert_array_equal(np.frombuffer(simulator.read(address, 16), np.int8), np.abs(x))


def test_floats_are_multiplied_in_four_lanes(simulator: Simulator, rng: np.random.Generator) -> None:
    simulator.load([program("f", "vldrw.u32 q0, [r0];vmul.f32 q0, q0, q0;vstrw.32 q0, [r0];bx lr", "cortex-m55")])
    x = rng.standard_normal(4).astype(np.float32)
    address = place(simulator, x)
    assert simulator.call("f", address).instructions == 4
    np.testing.assert_array_equal(np.frombuffer(simulator.read(address, 16), np.float32), x * x)


def test_a_fault_in_a_predicated_block_leaves_no_predicate_behind(simulator: Simulator) -> None:
    bad = function("bad", "movs r1, #1;vctp.32 r1;vpstt;vldrwt.u32 q0, [r0];vaddt.i32 q0, q0, q0;bx lr")
    good = function("good", "movs r0, #1;vdup.32 q1, r0;vaddv.u32 r0, q1;bx lr")
    simulator.load([assemble(bad + "\n" + good, "cortex-m55")])
    with pytest.raises(FaultError):
        simulator.call("bad", 0x3000_0000)
    assert simulator.call("good").value == 4


def test_the_core_has_dsp_and_floating_point_as_well(simulator: Simulator) -> None:
    body = "smlad r0, r0, r1, r2;vmov s0, r0;vcvt.f64.s32 d1, s0;vadd.f64 d1, d1, d1;vcvt.s32.f64 s0, d1;vmov r0, s0"
    simulator.load([program("f", body + ";bx lr", "cortex-m55")])
    result = simulator.call("f", 0x0002_0003, 0x0004_0005, 100)
    assert (result.value, result.instructions) == (246, 7)


def test_a_watched_run_sees_the_lines_that_vectors_touch(
    simulator: Simulator, engine: Callable[[str], QemuEngine]
) -> None:
    table = '.section .rodata.table,"a",%progbits\n.balign 64\n.global table\ntable: .space 128'
    simulator.load([assemble(function("dot", DOT) + "\n" + table, "cortex-m55")])
    core = engine("cortex-m55")
    x, w = simulator.symbols["table"], simulator.allocate(128)
    for n, lines in ((64, 8), (61, 8), (40, 5), (128, 16)):
        watch = Watch(core.memory.flash, data=LineBuffer(8, 4))
        run = core.run(simulator.symbols["dot"], [x, w, n], core.memory.stack.end, 10**6, watch)
        assert run.events is not None
        events = run.events.sum(0).tolist()
        assert events[Event.DATA_MISS] == lines
        assert sum(events) == lines


def test_a_fault_in_a_vector_load_names_the_address(simulator: Simulator) -> None:
    simulator.load([program("f", "nop;vldrb.u8 q0, [r0];bx lr", "cortex-m55")])
    with pytest.raises(FaultError, match=r"\(f\+0x2\): it accesses 0x30000000, where no memory is$") as error:
        simulator.call("f", 0x3000_0000)
    assert error.value.address == 0x3000_0000


@pytest.mark.parametrize("instruction", ["vldrb.u8 q0, [r0]", "dls lr, r0"])
def test_the_m33_has_none_of_it(qemu: Callable[[str], Simulator], instruction: str) -> None:
    simulator = qemu("cortex-m33")
    simulator.load([program("f", f"nop;{instruction};bx lr", "cortex-m55")])
    with pytest.raises(FaultError, match=r"\(f\+0x2\): "):
        simulator.call("f")
