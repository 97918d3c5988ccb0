"""What only the native engine does, and what random instructions cannot reach."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from collections.abc import Callable

import numpy as np
import pytest
from device.conftest import MakeEngine
from device.thumb import CORES, function, program

from tvm_tinyml.device import BudgetError, FaultError, Simulator, assemble
from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.device.native_engine import NativeEngine, native_engine_missing
from tvm_tinyml.device.watch import LineBuffer, Watch
from tvm_tinyml.errors import DeviceError

pytestmark = pytest.mark.usefixtures("native")


def call(body: str, *arguments: int, core: str = "cortex-m4", **options: object) -> int:
    """Value of a function that is assembled for the M33, which knows all instructions."""
    with Simulator(engine=NativeEngine(core, **options)) as simulator:  # type: ignore[arg-type]
        simulator.load([program("f", body, "cortex-m33" if "vsel" in body or "lda" in body else "cortex-m7")])
        return simulator.call("f", *arguments).value & 0xFFFF_FFFF


def fault(body: str, *arguments: int, core: str = "cortex-m4", **options: object) -> FaultError:
    with pytest.raises(FaultError) as error:
        call(body, *arguments, core=core, **options)
    return error.value


# --- what cores have ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "name", "lacking", "having"),
    [
        ("mla r0, r0, r0, r0", "MLA", "cortex-m0plus", "cortex-m3"),
        ("cbz r0, 1f;nop;1: nop", "CBZ", "cortex-m0plus", "cortex-m3"),
        ("smlad r0, r0, r0, r0", "SMLAD", "cortex-m3", "cortex-m4"),
        ("ssat16 r0, #3, r0", "SSAT16", "cortex-m3", "cortex-m4"),
        ("vadd.f32 s0, s0, s0", "VADD", "cortex-m3", "cortex-m4"),
        ("vpush {d8};vpop {d8}", "VSTM", "cortex-m3", "cortex-m4"),
        ("vseleq.f32 s0, s0, s0", "VSEL", "cortex-m4", "cortex-m33"),
        ("vrintz.f32 s0, s0", "VRINT", "cortex-m4", "cortex-m7"),
        ("vadd.f64 d0, d0, d0", "VADD", "cortex-m4", "cortex-m7"),
        ("vadd.f64 d0, d0, d0", "VADD", "cortex-m33", "cortex-m7"),
        ("lda r0, [r0]", "LDA", "cortex-m7", "cortex-m33"),
    ],
)
def test_an_instruction_that_a_core_lacks_is_named(instruction: str, name: str, lacking: str, having: str) -> None:
    error = fault(f"{instruction};bx lr", 0x0800_0100, core=lacking)
    assert str(error) == (
        f"{lacking}: the program faults at 0x08000100 (f+0x0): it executes {name}, which this core does not have"
    )
    call(f"{instruction};bx lr", 0x0800_0100, core=having)


@pytest.mark.parametrize(
    ("features", "instruction", "name"),
    [
        (["nodsp"], "smlad r0, r0, r0, r0", "SMLAD"),
        (["nofp"], "vmov s0, r0", "VMOV"),
        (["nofp"], "vrintz.f32 s0, s0", "VRINT"),
        (["nofp.dp"], "vadd.f64 d0, d0, d0", "VADD"),
        (["nodsp", "nofp"], "sxtb16 r0, r0", "SXTB16"),
    ],
)
def test_a_part_without_an_extension_refuses_its_instructions(features: list[str], instruction: str, name: str) -> None:
    call(f"{instruction};bx lr", core="cortex-m7")
    error = fault(f"{instruction};bx lr", core="cortex-m7", features=features)
    assert f"it executes {name}, which this core does not have" in str(error)
    assert call("mla r0, r0, r0, r0;bx lr", 3, core="cortex-m7", features=features) == 12


def test_an_unknown_feature_is_told_with_those_that_are_known() -> None:
    with pytest.raises(
        DeviceError, match=r"^a core cannot be simulated with 'nomul'; known are nodsp, nofp, nofp\.dp, nomve, nomve"
    ):
        NativeEngine("cortex-m4", features=["nomul"])


# --- faults ---------------------------------------------------------------------------------------------------------


def test_an_unpredictable_instruction_is_refused() -> None:
    with Simulator(engine=NativeEngine("cortex-m4")) as simulator:
        simulator.load([program("f", ".hword 0xfb90, 0xfdf1;bx lr", "cortex-m4")])  # sdiv sp, r0, r1
        with pytest.raises(FaultError) as error:
            simulator.call("f")
    assert str(error.value) == (
        "cortex-m4: the program faults at 0x08000100 (f+0x0): it executes an instruction whose effect is unpredictable "
        "by the architecture manual; the code there is fb90 fdf1"
    )


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("body", ["bx r0", "blx r0", "push {r0};pop {pc}"])
def test_a_jump_to_an_even_address_is_a_fault(core: str, body: str) -> None:
    error = fault(body, 0x0800_0100, core=core)
    assert str(error).endswith("it jumps to 0x08000100, an even address: that would be Arm code")
    assert error.address == 0x0800_0100


@pytest.mark.parametrize("bit", [22, 23, 24, 25, 26])
def test_a_mode_of_floating_point_that_is_not_simulated_is_a_fault(bit: int) -> None:
    error = fault("vmsr fpscr, r0;bx lr", 1 << bit)
    assert str(error) == (
        f"cortex-m4: the program faults at 0x08000100 (f+0x0): it writes {1 << bit:#010x} to FPSCR: only rounding to "
        "nearest, with denormals, is simulated"
    )


@pytest.mark.parametrize("body", ["mrs r0, control", "msr psp, r0"])
def test_what_is_not_simulated_says_so(body: str) -> None:
    assert "it uses a special register or a security state, which the simulator does not have" in str(fault(body))


@pytest.mark.parametrize("body", ["ldrex r0, [r0]", "ldrexh r0, [r0]", "strex r1, r0, [r0]"])
def test_exclusive_accesses_are_aligned_on_every_core(body: str) -> None:
    assert str(fault(f"{body};bx lr", 0x2000_0001)).endswith("the access is misaligned")


@pytest.mark.parametrize("check_alignment", [False, True])
def test_acquire_and_release_are_aligned(check_alignment: bool) -> None:
    error = fault("lda r0, [r0];bx lr", 0x2000_0002, core="cortex-m33", check_alignment=check_alignment)
    assert str(error).endswith("the access is misaligned")


def test_a_word_that_hangs_over_the_end_of_memory_is_a_fault() -> None:
    end = MemoryMap().ram.end
    assert call("ldr r0, [r0];bx lr", end - 4) == 0
    assert "it reads 4 bytes at" in str(fault("ldr r0, [r0];bx lr", end - 3))


def test_code_that_runs_off_the_end_of_flash_is_a_fault() -> None:
    memory = MemoryMap(flash=Region("flash", 0x0800_0000, 4096))
    with Simulator(engine=NativeEngine("cortex-m4", memory)) as simulator:
        simulator.load([program("f", "b .+0xef8;.space 0xef6;nop;nop", "cortex-m4")])
        simulator.write(0x0800_0FFC, bytes.fromhex("00bf00bf"))
        with pytest.raises(FaultError, match="0x08001000: it jumps to a place where no code is"):
            simulator.call("f")


# --- arithmetic that Unicorn gets wrong or that the host decides ----------------------------------------------------


def test_smlad_sets_q_only_when_the_whole_sum_overflows() -> None:
    body = "smlad r0, r0, r0, r1;mrs r0, apsr;ubfx r0, r0, #27, #1;bx lr"
    assert call(body, 0x8000_8000, 0xFFFF_FFFF) == 0  # 2**31 - 1
    assert call(body, 0x8000_8000, 0) == 1  # 2**31


def test_the_stack_pointer_is_always_a_multiple_of_4() -> None:
    assert call("mov r1, sp;subs r0, r1, #5;mov sp, r0;mov r0, sp;mov sp, r1;subs r0, r1, r0;bx lr") == 8
    assert call("mov r1, sp;strb r0, [sp, #-1]!;mov r0, sp;mov sp, r1;subs r0, r1, r0;bx lr") == 4


@pytest.mark.parametrize(
    ("body", "flag"),
    [
        ("vdiv.f32 s0, s1, s1", 1),  # 0 / 0: invalid
        ("vmov.f32 s0, #1.0;vdiv.f32 s0, s0, s1", 2),  # division by 0
        ("vmov s0, r0;vmul.f32 s0, s0, s0", 4 | 16),  # overflow, inexact
        ("vmov s0, r1;vmul.f32 s0, s0, s0", 8 | 16),  # underflow, inexact
        ("vmov s0, r0;vcvt.s32.f32 s0, s0", 1),  # out of range: invalid
        ("vmov.f32 s0, #1.5;vcvt.s32.f32 s0, s0", 16),
        ("vmov.f32 s0, #1.0;vadd.f32 s0, s0, s0", 0),
    ],
)
def test_exceptions_of_floating_point_are_collected_and_cleared(body: str, flag: int) -> None:
    large, tiny = 0x7F00_0000, 0x0100_0000
    read = "vmrs r0, fpscr;ubfx r0, r0, #0, #8"
    assert call(f"vsub.f32 s1, s1, s1;{body};{read};bx lr", large, tiny) == flag
    assert call(f"vsub.f32 s1, s1, s1;{body};movs r2, #0;vmsr fpscr, r2;{read};bx lr", large, tiny) == 0


def test_the_host_s_own_rounding_changes_nothing() -> None:
    """As a library does that was compiled to flush denormals, or a program that rounds up."""
    libm = ctypes.CDLL(None)
    if not hasattr(libm, "fesetround"):
        pytest.skip("the C library has no fesetround")
    third = "vmov.f32 s0, #1.0;vmov.f32 s1, #3.0;vdiv.f32 s0, s0, s1;vmov r0, s0;bx lr"
    upward = 0x0040_0000 if os.uname().machine == "aarch64" else 0x800
    expected = call(third)
    try:
        assert libm.fesetround(upward) == 0
        assert call(third) == expected
        assert libm.fegetround() == upward  # and is put back
    finally:
        libm.fesetround(0)


@pytest.mark.parametrize("core", ["cortex-m7", "cortex-m33"])
def test_a_fused_product_is_rounded_once_and_a_plain_one_twice(core: str) -> None:
    # (1 + 2**-12)**2 - (1 + 2**-11) is 2**-24, which the first rounding of vmla loses.
    load = "vmov s1, r0;vmov s0, r1;vneg.f32 s0, s0"
    arguments = (0x3F80_0800, 0x3F80_1000)
    assert call(f"{load};vfma.f32 s0, s1, s1;vmov r0, s0;bx lr", *arguments, core=core) == 0x3380_0000
    assert call(f"{load};vmla.f32 s0, s1, s1;vmov r0, s0;bx lr", *arguments, core=core) == 0


# --- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [508, 509, 510, 511, 512, 513])
@pytest.mark.parametrize("condition", [0, 1])
def test_an_it_block_is_not_split_by_the_length_of_a_block(before: int, condition: int) -> None:
    # Wide instructions and flags that change in front of the last condition would show a forgotten state.
    body = f"movs r1, #0;.rept {before};add.w r1, r1, #1;.endr;cmp r0, #0;itete eq;moveq r2, #1;movne r2, #2;"
    body += "addeq r1, #10;addne r1, #20;adds r0, r1, r2;bx lr"
    assert call(body, condition) == before + (22 if condition else 11)


def test_a_branch_that_an_it_block_skips_goes_on_behind_it() -> None:
    body = "cmp r0, #0;itt ne;movne r0, #7;bxne lr;movs r0, #9;bx lr"
    assert [call(body, x) for x in (0, 5)] == [9, 7]


def test_a_block_whose_instructions_exceed_the_budget_does_not_begin() -> None:
    with Simulator(engine=NativeEngine("cortex-m4")) as simulator:
        simulator.load([program("f", "str r1, [r0];bx lr")])
        x = simulator.allocate(4)
        with pytest.raises(BudgetError, match=r"it was at 0x08000100 \(f\+0x0\)"):
            simulator.call("f", x, 1, budget=1)
        assert simulator.read(x, 4) == b"\xa5" * 4


def test_code_is_decoded_again_only_when_flash_was_written() -> None:
    with Simulator(engine=NativeEngine("cortex-m4")) as simulator:
        simulator.load([program("f", "movs r0, #1;bx lr")])
        assert [simulator.call("f").value for _ in range(2)] == [1, 1]
        simulator.write(simulator.allocate(4), b"abcd")
        assert simulator.call("f").value == 1
        simulator.write(simulator.symbols["f"], bytes.fromhex("0220"))  # movs r0, #2
        assert simulator.call("f").value == 2


def test_line_buffers_of_one_run_are_empty_in_the_next_and_may_change() -> None:
    engine = NativeEngine("cortex-m4")
    with Simulator(engine=engine) as simulator:
        simulator.load([program("f", "ldr r1, [r0];ldr r1, [r0, #4];ldr r1, [r0, #64];bx lr")])
        flash = engine.memory.flash

        def misses(data: LineBuffer | None, code: LineBuffer | None = None) -> list[int]:
            watch = Watch(flash, data, code)
            run = engine.run(simulator.symbols["f"], [flash.origin], engine.memory.stack.end, 100, watch)
            assert run.events is not None
            return run.events.sum(0).tolist()[3:]

        assert misses(LineBuffer(8, 4)) == misses(LineBuffer(8, 4)) == [2, 0, 0]
        assert misses(LineBuffer(4, 4)) == [3, 0, 0]
        assert misses(LineBuffer(128, 1), LineBuffer(4, 8)) == [1, 1, 1]
        assert misses(None) == [0, 0, 0]


@pytest.mark.parametrize("capacity", [1, 2, 3, 7])
def test_lines_are_replaced_as_the_reference_in_python_does(
    native: MakeEngine, unicorn_engine: MakeEngine, rng: np.random.Generator, capacity: int
) -> None:
    offsets = rng.integers(0, 12, 200) * 8 + rng.integers(0, 8, 200)
    body = ";".join(f"ldr r1, [r0, #{offset}]" for offset in offsets) + ";bx lr"
    counts = []
    for make in (native, unicorn_engine):
        engine = make("cortex-m4")
        with Simulator(engine=engine) as simulator:
            simulator.load([program("f", body, "cortex-m4")])
            watch = Watch(engine.memory.flash, LineBuffer(8, capacity), LineBuffer(16, capacity))
            run = engine.run(simulator.symbols["f"], [0x0800_1000], engine.memory.stack.end, 10**4, watch)
            assert run.events is not None
            counts.append(run.events.sum(0).tolist())
    assert counts[0] == counts[1]


# --- the engine in Python -------------------------------------------------------------------------------------------


def _write_and_read(engine: NativeEngine, answer: Callable[[bytes], None]) -> None:
    engine.write(engine.memory.ram.origin, b"child")
    answer(engine.read(engine.memory.ram.origin, 5))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_process_has_its_own_memory() -> None:
    context = multiprocessing.get_context("fork")
    engine = NativeEngine("cortex-m4")
    engine.write(engine.memory.ram.origin, b"first")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_write_and_read, args=(engine, writer.send))
    child.start()
    assert reader.recv() == b"child"
    child.join()
    assert engine.read(engine.memory.ram.origin, 5) == b"first"


def test_without_the_extension_the_engine_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tvm_tinyml.device._machine", None)
    assert "tvm_tinyml.device._machine" in native_engine_missing()
    with pytest.raises(
        DeviceError, match=r"^the native simulator is not built \(.*install tvm_tinyml with a C compiler"
    ):
        NativeEngine("cortex-m4")


def test_two_engines_do_not_disturb_each_other() -> None:
    source = assemble(function("f", "str r1, [r0];ldr r0, [r0];bx lr"))
    with Simulator(engine=NativeEngine("cortex-m4")) as a, Simulator(engine=NativeEngine("cortex-m0plus")) as b:
        for simulator in (a, b):
            simulator.load([source])
        x = [simulator.allocate(4) for simulator in (a, b)]
        assert [s.call("f", p, v).value for s, p, v in zip((a, b), x, (1, 2), strict=True)] == [1, 2]
        assert a.read(x[0], 4) == (1).to_bytes(4, "little")
