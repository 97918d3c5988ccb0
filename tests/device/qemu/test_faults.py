"""What ends a run, told with the place; and that the next run is as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from device.thumb import CORES, function, program

from tvm_tinyml.device import BudgetError, FaultError, Simulator, assemble
from tvm_tinyml.device.qemu import QemuEngine
from tvm_tinyml.errors import DeviceError

ALL = (*CORES, "cortex-m55")
Make = Callable[[str], Simulator]

GOOD = function("good", "movs r2, #0;1: adds r2, #3;subs r0, #1;bne 1b;mov r0, r2;bx lr")


def check_good(simulator: Simulator) -> None:
    result = simulator.call("good", 10)
    assert (result.value, result.instructions, result.stack_bytes) == (30, 33, 0)


@pytest.mark.parametrize("core", ALL)
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("udf #1", r"\(f\+0x2\): it executes an undefined instruction; the code there is de01 4770"),
        ("bkpt #0", r"\(f\+0x2\): it meets a breakpoint \(BKPT\)"),
        ("svc #1", r"\(f\+0x2\): it asks an operating system for a service \(SVC\)"),
        ("wfi", r"\(f\+0x2\): it waits for an event that no device will send \(WFI or WFE\)"),
    ],
)
def test_a_fault_spoils_no_later_run(qemu: Make, core: str, body: str, reason: str) -> None:
    simulator = qemu(core)
    simulator.load([assemble(GOOD), program("f", f"nop;{body};bx lr")])
    check_good(simulator)
    with pytest.raises(FaultError, match=rf"^{core}: the program faults at 0x.* {reason}$"):
        simulator.call("f")
    check_good(simulator)


@pytest.mark.parametrize("core", ALL)
def test_a_program_that_never_returns_stops_at_the_same_place_every_time(qemu: Make, core: str) -> None:
    simulator = qemu(core)
    simulator.load([program("spin", "movs r0, #0;1: adds r0, #1;b 1b"), assemble(GOOD)])
    messages = set()
    for _ in range(3):
        with pytest.raises(BudgetError) as error:
            simulator.call("spin", budget=100_001)
        assert error.value.pc == simulator.symbols["spin"] + 2
        messages.add(str(error.value))
        check_good(simulator)
    assert len(messages) == 1


@pytest.mark.parametrize("core", ALL)
def test_the_budget_is_exact(qemu: Make, core: str) -> None:
    simulator = qemu(core)
    simulator.load([assemble(GOOD)])
    assert simulator.call("good", 1000, budget=3003).instructions == 3003
    with pytest.raises(BudgetError):
        simulator.call("good", 1000, budget=3002)


@pytest.mark.parametrize("core", ALL[1:])
def test_a_stack_overflow_is_a_fault_in_the_right_function(qemu: Make, core: str) -> None:
    simulator = qemu(core)
    simulator.load([program("recurse", "push {r0-r7, lr};bl recurse;pop {r0-r7, pc}"), assemble(GOOD)])
    with pytest.raises(
        FaultError, match=r"\(recurse\+0x0\): it accesses 0x.*, where no memory is; the stack is"
    ) as error:
        simulator.call("recurse")
    assert error.value.address is not None
    assert -64 < error.value.address - simulator._memory.stack.origin < 0
    check_good(simulator)


def test_the_m0_has_no_registers_that_tell_of_a_fault(qemu: Make) -> None:
    simulator = qemu("cortex-m0plus")
    for body, argument in (("ldr r0, [r0]", 0x3000_0000), ("ldr r0, [r0]", 0x2001_0001), ("strb r0, [r0]", 0x2000)):
        simulator.load([program("f", f"nop;{body};bx lr")])
        with pytest.raises(
            FaultError, match=r"\(f\+0x2\): this core does not tell why; the code there is (68|70)00 4770"
        ):
            simulator.call("f", argument)


@pytest.mark.parametrize("target", ["ram", "stack"])
def test_the_m0_does_not_execute_data_either(qemu: Make, target: str) -> None:
    simulator = qemu("cortex-m0plus")
    simulator.load([program("f", "push {r4, lr};blx r0;pop {r4, pc}")])
    place = getattr(simulator._memory, target).origin
    with pytest.raises(FaultError, match=rf"at {place:#010x}: it jumps to a place where no code is; .*\(f\+0x4\)$"):
        simulator.call("f", place | 1)


def test_what_happens_behind_the_budget_does_not_matter(qemu: Make) -> None:
    simulator = qemu("cortex-m4")
    for end in ("bx lr", "udf #0", "wfi;bx lr", "ldr r0, [r0];bx lr"):
        simulator.load([program("f", f"movs r0, #9;lsls r0, #28;b 1f;1: nop;{end}")])
        with pytest.raises(BudgetError) as error:
            simulator.call("f", budget=4)
        assert error.value.pc == simulator.symbols["f"] + 6


@pytest.mark.parametrize("core", ALL[1:])
def test_arm_code_is_told(qemu: Make, core: str) -> None:
    simulator = qemu(core)
    simulator.load([assemble(GOOD), program("f", "push {r4, lr};blx r0;pop {r4, pc}")])
    good = simulator.symbols["good"]
    with pytest.raises(
        FaultError, match=rf"\(good\+0x0\): it jumps to {good:#010x}, an even address: that would be Arm"
    ):
        simulator.call("f", good)


@pytest.mark.parametrize("body", ["vadd.f32 s0, s1, s2", "vldr s0, [r0]"])
def test_floating_point_on_a_core_without_is_a_fault(qemu: Make, body: str) -> None:
    simulator = qemu("cortex-m3")
    simulator.load([program("f", f"{body};bx lr", "cortex-m4")])
    with pytest.raises(FaultError, match="the core has no unit for this instruction"):
        simulator.call("f")


@pytest.mark.parametrize("instruction", ["smuad r0, r1, r2", "uxtah r0, r1, r2", "ssat16 r0, #3, r1"])
def test_dsp_instructions_on_the_m3_are_a_fault(qemu: Make, instruction: str) -> None:
    simulator = qemu("cortex-m3")
    simulator.load([program("f", f"nop;{instruction};bx lr", "cortex-m4"), assemble(GOOD)])
    for _ in range(2):
        with pytest.raises(FaultError, match=r"\(f\+0x2\): it executes a DSP instruction"):
            simulator.call("f")
    check_good(simulator)


def test_no_state_of_the_processor_survives_a_call(qemu: Make) -> None:
    rounding = "vmrs r1, fpscr;orr r1, r1, #0xC00000;vmsr fpscr, r1;vmov s5, r1;cpsid i;vmrs r0, fpscr;bx lr"
    look = "vmrs r0, fpscr;vmov r1, s5;orr r0, r0, r1;mrs r1, primask;orr r0, r0, r1;orr r0, r0, r7;bx lr"
    for core in ("cortex-m4", "cortex-m33"):
        simulator = qemu(core)
        simulator.load([assemble(function("change", rounding) + "\n" + function("look", look), "cortex-m4")])
        before = simulator.call("look").value
        assert simulator.call("change").value == before | 0xC00000
        assert simulator.call("look").value == before


def test_new_code_at_an_old_address_is_what_runs(qemu: Make) -> None:
    simulator = qemu("cortex-m4")
    for value in (1, 2, 1, 3):
        simulator.load([program("f", f"movs r0, #{value};bx lr")])
        assert simulator.call("f").value == value
    simulator.write(simulator.symbols["f"], bytes.fromhex("2a20"))  # movs r0, #42
    assert simulator.call("f").value == 42


def test_variables_last_until_ram_is_reset(qemu: Make) -> None:
    bump = function("bump", "ldr r1, =variable;ldr r0, [r1];adds r0, #1;str r0, [r1];bx lr;.ltorg")
    simulator = qemu("cortex-m4")
    simulator.load([assemble(bump + '\n.section .data.v,"aw",%progbits\n.balign 4\nvariable: .word 40')])
    assert [simulator.call("bump").value for _ in range(2)] == [41, 42]
    simulator.reset_ram()
    assert simulator.call("bump").value == 41


def test_memory_takes_long_transfers_whole(qemu: Make, rng: np.random.Generator) -> None:
    simulator = qemu("cortex-m4")
    simulator.load([assemble(GOOD)])
    data = rng.integers(0, 256, 10_001, np.uint8).tobytes()
    x = simulator.allocate(len(data), offset=3)
    simulator.write(x, data)
    assert simulator.read(x, len(data)) == data
    simulator.check_guards()


@pytest.mark.parametrize("core", ALL)
def test_the_host_cannot_touch_what_is_not_there(qemu: Make, core: str) -> None:
    simulator = qemu(core)
    memory = simulator._memory
    for address in (memory.ram.end - 3, memory.stack.end, memory.stack.origin - 1):
        with pytest.raises(DeviceError, match=f"4 bytes at {address:#010x} are not inside one region"):
            simulator.read(address, 4)
        with pytest.raises(DeviceError, match=f"4 bytes at {address:#010x} are not inside one region"):
            simulator.write(address, bytes(4))


# --- QEMU itself ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(engine: Callable[[str], QemuEngine]) -> QemuEngine:  # the other fixture skips where QEMU is missing
    return QemuEngine("cortex-m3")


def test_a_qemu_that_gives_up_is_told_with_its_reason(own: QemuEngine) -> None:
    """A fault where even the handler of faults is masked locks a core up, which QEMU takes as its end."""
    simulator = Simulator(engine=own)
    simulator.load([program("f", "cpsid f;ldr r0, [r0];bx lr", "cortex-m3")])
    with pytest.raises(DeviceError, match=r"^QEMU ended unexpectedly \(status -6\): qemu: fatal: Lockup: .*\)$"):
        simulator.call("f", 0x3000_0000)
    with pytest.raises(DeviceError, match="the simulator of cortex-m3 is closed; make a new one"):
        simulator.call("f")


def test_a_qemu_that_is_killed_is_told(own: QemuEngine) -> None:
    simulator = Simulator(engine=own)
    simulator.load([assemble(GOOD)])
    own._process._process.kill()
    with pytest.raises(DeviceError, match=r"^QEMU ended unexpectedly \(status -9\): it said nothing$"):
        simulator.call("good", 1)


def test_a_closed_engine_says_so_and_can_be_closed_again(own: QemuEngine) -> None:
    process = own._process._process
    own.close()
    own.close()
    assert process.poll() is not None
    with pytest.raises(DeviceError, match="the simulator of cortex-m3 is closed; make a new one"):
        own.read(own.memory.ram.origin, 4)


def test_a_run_that_is_broken_off_ends_qemu(own: QemuEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    simulator = Simulator(engine=own)
    simulator.load([program("spin", "1: b 1b")])

    def interrupt(_seconds: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(own._process.gdb, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulator.call("spin")
    assert own._process._process.poll() is not None


def test_an_engine_that_is_forgotten_ends_its_qemu(own: QemuEngine) -> None:
    process = QemuEngine("cortex-m3")._process._process
    assert process.wait(timeout=10) is not None


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to look at other processes")
def test_qemu_does_not_outlive_a_process_that_is_killed(own: QemuEngine) -> None:
    script = """
        import time
        from tvm_tinyml.device.qemu import QemuEngine
        engine = QemuEngine("cortex-m3")
        print(engine._process._process.pid, flush=True)
        time.sleep(60)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        qemu = int(process.stdout.readline())
        assert Path(f"/proc/{qemu}").is_dir()
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _running(qemu):
        time.sleep(0.02)
    assert not _running(qemu)


def _running(process: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()  # one that has ended may wait to be noticed
    except FileNotFoundError:
        return False
