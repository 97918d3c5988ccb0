"""What the model reads out of an instruction."""

from __future__ import annotations

import sys

import pytest
from device.thumb import function, program
from simulated import needs_simulator

from tvm_tinyml.device import ElfObject, Simulator, assemble
from tvm_tinyml.device.timing import decode as decode_module
from tvm_tinyml.device.timing.decode import Instruction, decode
from tvm_tinyml.device.timing.dual_issue import DualIssue
from tvm_tinyml.errors import DeviceError

capstone = pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")


def one(text: str) -> Instruction:
    parsed = ElfObject.parse(assemble(function("f", text), "cortex-m4"))
    (instruction,) = decode(next(s.data for s in parsed.sections if s.name == ".text.f"), 0)
    return instruction


def registers(group: frozenset[int]) -> str:
    decoder = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB)
    return " ".join(sorted(decoder.reg_name(register) for register in group))


@pytest.mark.parametrize(
    ("text", "kind", "reads", "writes", "address"),
    [
        ("adds r0, #1", "alu", "r0", "r0", ""),
        ("add.w r0, r1, r2, lsl #3", "alu_shifted", "r1 r2", "r0", ""),
        ("cmp.w r0, r1, lsl #2", "compare_shifted", "r0 r1", "", ""),
        ("lsl.w r0, r1, #3", "shift", "r1", "r0", ""),
        ("sxtb16 r0, r1, ror #8", "extend", "r1", "r0", ""),
        ("ssat r0, #8, r1, asr #3", "saturate", "r1", "r0", ""),
        ("pkhbt r0, r1, r2, lsl #16", "bit_field", "r1 r2", "r0", ""),
        ("uxtab r0, r1, r2", "bit_field", "r1 r2", "r0", ""),
        ("bfi r0, r1, #2, #3", "bit_field", "r0 r1", "r0", ""),
        ("movt r0, #4", "alu", "r0", "r0", ""),
        ("smlad r6, r2, r4, r6", "multiply_add_dsp", "r2 r4 r6", "r6", ""),
        ("smlal r0, r1, r2, r3", "multiply_add_long", "r0 r1 r2 r3", "r0 r1", ""),
        ("ldr r0, [r0]", "load", "r0", "r0", "r0"),
        ("ldr r0, [r1, #4]!", "load", "r1", "r0 r1", "r1"),
        ("ldrd r0, r1, [r2], #8", "load_double", "r2", "r0 r1 r2", "r2"),
        ("str r0, [r1, r2]", "store", "r0 r1 r2", "", "r1 r2"),
        ("ldm r0, {r0, r2}", "load_multiple", "r0", "r0 r2", "r0"),
        ("stmdb r2!, {r6, r7}", "store_multiple", "r2 r6 r7", "r2", "r2"),
        ("pop {r4, pc}", "load_multiple", "sp", "r4 sp", "sp"),
        ("vpush {d8}", "float_store_multiple", "d8 sp", "sp", "sp"),
        ("vldmia r0, {s0, s1}", "float_load_multiple", "r0", "s0 s1", "r0"),
        ("vmov r0, r1, d0", "float_move_double", "d0", "r0 r1", ""),
        ("vfma.f32 s0, s1, s2", "float_multiply_add", "s0 s1 s2", "s0", ""),
        ("bx lr", "branch_register", "lr", "", ""),
    ],
)
def test_classes_and_registers(text: str, kind: str, reads: str, writes: str, address: str) -> None:
    instruction = one(text)
    assert instruction.kind == kind
    assert (registers(instruction.reads), registers(instruction.writes)) == (reads, writes)
    assert registers(instruction.address) == address


def test_roles() -> None:
    assert registers(one("smmlar r6, r7, r2, r3").accumulator) == "r3"
    assert registers(one("vfma.f32 s0, s1, s2").accumulator) == "s0"
    assert registers(one("ldr r0, [r1], #4").base) == "r1"
    assert registers(one("ldr r0, [r0]").base) == ""
    assert registers(one("push {r4}").base) == "sp"
    assert [one(t).registers for t in ("ldm r0!, {r1-r3}", "pop {r4, pc}", "vldmia r0, {d0, d1}", "nop")] == [
        3,
        2,
        4,
        1,
    ]
    assert [one(t).jumps for t in ("mov pc, r0", "pop {r4, pc}", "ldr pc, [r0]", "mov r0, r1")] == [True] * 3 + [False]
    # beq, cbz, b
    assert [decode(bytes.fromhex(code), 0)[0].conditional for code in ("fed0", "00b1", "fee7")] == [True, True, False]


def test_an_unknown_instruction_is_an_error_that_names_it() -> None:
    with pytest.raises(
        DeviceError, match=r"does not know the instruction at 0x08000102: e851 0f00 \(ldrex r0, \[r1\]\)"
    ):
        decode(bytes.fromhex("00bf 51e8000f"), 0x0800_0100)
    with pytest.raises(DeviceError, match=r"the instruction at 0x00000000: ee21 1f01$"):  # VMUL.I of Helium
        decode(bytes.fromhex("21ee011f"), 0)


@needs_simulator
def test_an_instruction_that_the_core_has_no_time_for_is_an_error() -> None:
    from tvm_tinyml.device.timing import load_core

    with pytest.raises(DeviceError, match=r"table of cortex-m0plus has no 'divide' \(sdiv r0, r1, r2\)"):
        load_core("cortex-m0plus").pipeline.cycles([one("sdiv r0, r1, r2")])
    with pytest.raises(DeviceError, match=r"table of cortex-m7 has no 'alu' \(adds r0, #1\)"):
        DualIssue("cortex-m7", {}, {}, {}).cycles([one("adds r0, #1")])


@needs_simulator
def test_a_program_with_an_unknown_instruction_still_runs_without_cycles() -> None:
    with Simulator("cortex-m4") as simulator:
        simulator.load([program("f", "ldrex r0, [r0];bx lr", "cortex-m4")])
        address = simulator.allocate(4)
        assert simulator.call("f", address).cycles is None
        with pytest.raises(DeviceError, match=r"ldrex r0, \[r0\]"):
            simulator.call("f", address, memory="zero-wait")


def test_without_capstone_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    decode_module._capstone.cache_clear()
    decode_module._decode_one.cache_clear()
    with pytest.raises(DeviceError, match=r"needs capstone.*pip install tvm_tinyml\[sim\]"):
        decode(bytes.fromhex("00bf"), 0)
    decode_module._capstone.cache_clear()
