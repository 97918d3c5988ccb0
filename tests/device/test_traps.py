"""Each trap of an emulator that falsified a measurement once, as a claim that it no longer can."""

from __future__ import annotations

import numpy as np
import pytest
from device.conftest import MakeEngine
from device.thumb import CORES, function, program

from tvm_tinyml.device import BudgetError, CallResult, EdgeProfile, FaultError, Simulator, assemble
from tvm_tinyml.device.counter import Counter
from tvm_tinyml.device.engine import OUTSIDE
from tvm_tinyml.device.unicorn_engine import UnicornEngine

LOOP = "movs r2, #0;1: adds r2, #1;subs r0, #1;bne 1b;mov r0, r2;bx lr"


def run(make_engine: MakeEngine, body: str, *arguments: int, core: str = "cortex-m4") -> CallResult:
    with Simulator(engine=make_engine(core)) as simulator:
        simulator.load([program("f", body, "cortex-m4")])
        return simulator.call("f", *arguments)


def edges(profile: EdgeProfile) -> dict[tuple[int, int], int]:
    """(start of source, start of target) -> count, as offsets from the first block."""
    starts = (profile.block_start - profile.block_start[0]).tolist()
    return {
        (OUTSIDE if s == OUTSIDE else starts[s], starts[t]): n
        for s, t, n in zip(
            profile.edge_source.tolist(), profile.edge_target.tolist(), profile.edge_count.tolist(), strict=True
        )
    }


DSP = ["smlad r0, r1, r2, r3", "sxtb16 r0, r1", "smulbb r0, r1, r2", "smmla r0, r1, r2, r3", "pkhbt r0, r1, r2"]
# The M3 of Unicorn itself executes these.
ACCEPTED_BY_M3 = [
    "smuad r0, r1, r2", "smlald r0, r1, r2, r3", "smlsd r0, r1, r2, r3", "smlsld r0, r1, r2, r3",
    "smlawb r0, r1, r2, r3", "smulwt r0, r1, r2", "sxtab r0, r1, r2", "uxtah r0, r1, r2, ror #8", "ssat16 r0, #3, r1",
    "usat16 r0, #3, r1", "usad8 r0, r1, r2", "usada8 r0, r1, r2, r3",
]  # fmt: skip
ARMV7M = ["sdiv r0, r1, r2", "mla r0, r1, r2, r3", "smull r0, r1, r2, r3", "ssat r0, #8, r1", "ubfx r0, r1, #3, #4"]


@pytest.mark.parametrize("instruction", [*DSP, *ACCEPTED_BY_M3, *ARMV7M, "vadd.f32 s0, s1, s2"])
def test_trap_mclass_the_m0plus_has_only_its_own_instructions(make_engine: MakeEngine, instruction: str) -> None:
    reason = r"(Invalid instruction|it executes \w+, which this core does not have)"
    with pytest.raises(FaultError, match=rf"cortex-m0plus: the program faults at 0x08000100 \(f\+0x0\): {reason}"):
        run(make_engine, f"{instruction};bx lr", core="cortex-m0plus")


@pytest.mark.parametrize("instruction", [*DSP, *ACCEPTED_BY_M3, "vadd.f32 s0, s1, s2"])
def test_trap_mclass_the_m3_has_neither_dsp_nor_floating_point(make_engine: MakeEngine, instruction: str) -> None:
    with pytest.raises(FaultError) as error:
        run(make_engine, f"nop;{instruction};bx lr", core="cortex-m3")
    assert error.value.pc == 0x0800_0102


@pytest.mark.parametrize("instruction", [*ARMV7M, "sxtb r0, r1", "uxth.w r0, r1, ror #8", "smlal r0, r1, r2, r3"])
def test_trap_mclass_the_m3_executes_armv7m(make_engine: MakeEngine, instruction: str) -> None:
    assert run(make_engine, f"{instruction};bx lr", core="cortex-m3").instructions == 2


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m7", "cortex-m33"])
def test_trap_mclass_dsp_and_floating_point_compute_on_the_larger_cores(make_engine: MakeEngine, core: str) -> None:
    assert run(make_engine, "smlad r0, r0, r1, r2;bx lr", 0x0002_0003, 0x0004_0005, 100, core=core).value == 123
    to_float = "vmov s0, r0;vcvt.f32.s32 s0, s0;vmul.f32 s0, s0, s0;vcvt.s32.f32 s0, s0;vmov r0, s0;bx lr"
    assert run(make_engine, to_float, -12, core=core).value == 144


def test_trap_1_a_hook_added_after_translation_counts() -> None:
    unicorn = pytest.importorskip("unicorn", reason="needs unicorn: pip install tvm_tinyml[sim]")
    from unicorn import arm_const, unicorn_const

    machine = unicorn.Uc(unicorn_const.UC_ARCH_ARM, unicorn_const.UC_MODE_THUMB)
    machine.ctl_set_cpu_model(arm_const.UC_CPU_ARM_CORTEX_M4)
    machine.mem_map(0x1000, 0x1000)
    machine.mem_write(0x1000, bytes.fromhex("6420 0138 fdd1 7047"))  # movs r0, #100; subs r0, #1; bne .-2; bx lr

    machine.reg_write(arm_const.UC_ARM_REG_LR, 0x1801)
    machine.emu_start(0x1001, 0x1800)  # translates everything without a hook
    counter = Counter()
    counter.attach(machine, check_alignment=False)
    counter.start(10_000)
    machine.emu_start(0x1001, 0x1800)
    assert counter.profile().instructions == 1 + 2 * 100 + 1
    assert int(counter.profile().edge_count.sum()) == 101  # entry with the first round, 99 rounds, the return


def test_trap_2_new_code_at_an_old_address_is_what_runs(make_engine: MakeEngine) -> None:
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        for value in (1, 2, 1, 3):
            simulator.load([program("f", f"movs r0, #{value};bx lr")])
            assert simulator.symbols["f"] == 0x0800_0100
            assert simulator.call("f").value == value
        simulator.write(0x0800_0100, bytes.fromhex("2a20"))  # movs r0, #42
        assert simulator.call("f").value == 42


@pytest.mark.parametrize("length", [600, 2000])
def test_trap_3_a_block_that_is_split_is_counted_once_and_its_edge_is_no_branch(
    make_engine: MakeEngine, length: int
) -> None:
    result = run(make_engine, f".rept {length};adds r0, #1;.endr;bx lr", 5)
    assert (result.value, result.instructions) == (5 + length, length + 1)
    profile = result.profile
    assert len(profile.block_start) > 1
    for source, target, count in zip(profile.edge_source, profile.edge_target, profile.edge_count, strict=True):
        assert count == 1
        if source != OUTSIDE:
            assert profile.block_start[target] == profile.block_start[source] + profile.block_size_bytes[source]


def test_trap_4_overlapping_blocks_are_kept_apart(make_engine: MakeEngine) -> None:
    result = run(make_engine, LOOP, 3)
    assert result.value == 3
    profile = result.profile
    blocks = list(
        zip(
            profile.block_start.tolist(),
            profile.block_size_bytes.tolist(),
            profile.block_executions.tolist(),
            strict=True,
        )
    )
    start = 0x0800_0100
    # Entry with the first round (8 bytes), the other two rounds (6 bytes, inside the first), the end.
    assert blocks == [(start, 8, 1), (start + 2, 6, 2), (start + 8, 4, 1)]
    assert result.instructions == 4 + 2 * 3 + 2


@pytest.mark.parametrize("value", [0, 1])
def test_trap_5_conditional_instructions_count_whether_or_not_they_execute(make_engine: MakeEngine, value: int) -> None:
    result = run(make_engine, "cmp r0, #0;ittt eq;moveq r0, #7;addeq r0, #1;addeq r0, #1;adds r0, #1;bx lr", value)
    assert result.value == (10 if value == 0 else 2)
    assert result.instructions == 7
    assert len(result.profile.block_start) == 1


def test_trap_6_edges_tell_taken_from_not_taken(make_engine: MakeEngine) -> None:
    # Odd numbers take the branch over the addition.
    body = "movs r2, #0;1: lsls r3, r0, #31;bne 2f;adds r2, #1;2: subs r0, #1;bne 1b;mov r0, r2;bx lr"
    result = run(make_engine, body, 10)
    assert result.value == 5
    assert edges(result.profile) == {
        (OUTSIDE, 0): 1,  # enters with 10
        (0, 6): 1,  # 10 is even: not taken
        (6, 2): 5,
        (2, 8): 5,  # odd: taken
        (8, 2): 4,
        (2, 6): 4,
        (8, 12): 1,
    }


def test_trap_7_a_program_that_never_returns_stops_at_the_same_place_every_time(make_engine: MakeEngine) -> None:
    places = set()
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        simulator.load([program("spin", "movs r0, #0;1: adds r0, #1;b 1b")])
        for _ in range(3):
            with pytest.raises(BudgetError) as error:
                simulator.call("spin", budget=100_001)
            places.add((error.value.pc, error.value.budget, str(error.value)))
    ((pc, budget, message),) = places
    assert (pc, budget) == (0x0800_0102, 100_001)
    assert message == (
        "0x08000100 (spin+0x0) did not return within its budget of 100001 instructions; it was at 0x08000102 "
        "(spin+0x2). Raise the budget, unless the program loops for ever"
    )


def test_trap_7_an_access_to_unmapped_memory_spoils_no_later_program(make_engine: MakeEngine) -> None:
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        simulator.load([program("bad", "ldr r0, [r0];bx lr")])
        with pytest.raises(FaultError, match="where no memory is"):
            simulator.call("bad", 0x4000_0000)
        simulator.load([program("good", LOOP)])
        result = simulator.call("good", 10)
        assert (result.value, result.instructions) == (10, 33)


def test_trap_7_a_fault_inside_an_it_block_leaves_no_condition_behind(make_engine: MakeEngine) -> None:
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        bad = function("bad", "cmp r0, #0;itttt ne;ldrne r1, [r0];movne r1, #1;movne r1, #2;movne r1, #3;bx lr")
        simulator.load(
            [assemble(bad + "\n" + function("good", "movs r0, #1;adds r0, #1;adds r0, #1;bx lr"), "cortex-m4")]
        )
        with pytest.raises(FaultError):
            simulator.call("bad", 0x4000_0000)
        assert simulator.call("good").value == 3


def test_trap_8_one_instance_runs_many_programs_with_the_same_counts(make_engine: MakeEngine) -> None:
    counts = []
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        for i in range(20):
            simulator.load([program("f", LOOP)])
            counts.append(simulator.call("f", 50 + i).instructions)
    assert counts == [3 + 3 * (50 + i) for i in range(20)]


@pytest.mark.parametrize("core", ["cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33"])
def test_trap_8_division_by_zero_gives_zero(make_engine: MakeEngine, core: str) -> None:
    assert run(make_engine, "sdiv r0, r0, r1;bx lr", 7, 0, core=core).value == 0
    assert run(make_engine, "udiv r0, r0, r1;bx lr", 7, 0, core=core).value == 0


MISALIGNED = ["ldr r0, [r0]", "ldrh r0, [r0]", "str r1, [r0]", "strh r1, [r0]"]


@pytest.mark.parametrize("core", [c for c in CORES if c != "cortex-m0plus"])
@pytest.mark.parametrize("instruction", MISALIGNED)
@pytest.mark.parametrize("check_alignment", [False, True])
def test_trap_8_single_misaligned_accesses_work_from_the_m3_on(
    make_engine: MakeEngine, core: str, instruction: str, check_alignment: bool
) -> None:
    with Simulator(engine=make_engine(core, check_alignment=check_alignment)) as simulator:
        simulator.load([program("f", f"{instruction};bx lr")])
        x = simulator.allocate(8, offset=1)
        simulator.write(x, bytes(range(1, 9)))
        value = simulator.call("f", x, 0x0D0C0B0A).value
        if instruction.startswith("ldr"):
            assert value == (0x0201 if "h" in instruction else 0x04030201)
        else:
            size = 2 if "h" in instruction else 4
            assert simulator.read(x, 8) == bytes([10, 11, 12, 13][:size]) + bytes(range(1 + size, 9))


# Unicorn's M0 refuses them by itself, as hardware does: Armv6-M has no misaligned accesses.
@pytest.mark.parametrize("instruction", [*MISALIGNED, "ldmia r0!, {r1, r2}", "stmia r0!, {r1, r2}"])
def test_trap_8_misaligned_accesses_fault_on_the_m0plus(make_engine: MakeEngine, instruction: str) -> None:
    with Simulator(engine=make_engine("cortex-m0plus")) as simulator:
        simulator.load([program("f", f"nop;{instruction};bx lr")])
        x = simulator.allocate(16, offset=1)
        with pytest.raises(FaultError, match=r"at 0x08000102 \(f\+0x2\): the access is misaligned"):
            simulator.call("f", x)


MULTIPLE = [
    "ldmia r0, {r1, r2}", "stmia r0!, {r1, r2}", "ldmia.w r0, {r1, r9}", "stmdb r0, {r1, r2}", "ldrd r1, r2, [r0]",
    "strd r1, r2, [r0]", "vldr s0, [r0]", "vldr d0, [r0]", "vstr s0, [r0]", "vldmia r0, {s0-s3}", "vstmia r0, {d0-d1}",
]  # fmt: skip


@pytest.mark.parametrize("instruction", MULTIPLE)
@pytest.mark.parametrize("offset", [1, 2])
def test_misaligned_accesses_of_several_words_fault_if_asked(
    make_engine: MakeEngine, instruction: str, offset: int
) -> None:
    with Simulator(engine=make_engine("cortex-m4", check_alignment=True)) as simulator:
        simulator.load([program("f", f"push {{r9, lr}};{instruction};pop {{r9, pc}}", "cortex-m4")])
        x = simulator.allocate(64, offset=16 + offset)
        with pytest.raises(
            FaultError, match=r"f\+0x4\): it accesses several words at 0x2000....*, not a multiple of 4"
        ):
            simulator.call("f", x)
        assert simulator.call("f", x - offset).instructions == 3


def test_misaligned_accesses_of_several_words_pass_unless_asked(make_engine: MakeEngine) -> None:
    assert run(make_engine, "sub r1, sp, #9;ldmia r1, {r0, r2};bx lr").instructions == 3


def test_no_state_of_the_processor_survives_a_call(make_engine: MakeEngine) -> None:
    flags = "vmrs r1, fpscr;orr r1, r1, #0xB0000000;vmsr fpscr, r1;vmrs r0, fpscr;bx lr"
    source = function("change", flags) + "\n" + function("look", "vmrs r0, fpscr;bx lr")
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        simulator.load([assemble(source, "cortex-m4")])
        before = simulator.call("look").value
        assert simulator.call("change").value == (before | 0xB0000000) - 2**32
        assert simulator.call("look").value == before


def test_the_emulator_is_opened_once_for_all_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    unicorn = pytest.importorskip("unicorn", reason="needs unicorn: pip install tvm_tinyml[sim]")
    opened = []
    original = unicorn.Uc.__init__
    monkeypatch.setattr(unicorn.Uc, "__init__", lambda self, *args: (opened.append(1), original(self, *args))[1])
    with Simulator(engine=UnicornEngine("cortex-m4")) as simulator:
        for _ in range(3):
            simulator.load([program("f", "bx lr")])
            simulator.call("f")
    assert len(opened) == 1


def test_code_memory_stays_small_over_many_programs(make_engine: MakeEngine) -> None:
    from pathlib import Path

    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("needs /proc to read this process's memory")

    def resident_bytes() -> int:
        return int(status.read_text().split()[1]) * 4096

    big = program("f", ".rept 4000;adds r0, #1;eors r0, r1;.endr;bx lr")
    with Simulator(engine=make_engine("cortex-m4")) as simulator:
        for i in range(160):
            if i == 10:
                before = resident_bytes()
            simulator.load([big])
            simulator.call("f", 1, 2)
        # Translations that are dropped but not reused took 60 KiB for each program.
        assert resident_bytes() - before < 150 * 20_000


def test_profiles_are_arrays_of_the_promised_types(make_engine: MakeEngine) -> None:
    profile = run(make_engine, LOOP, 3).profile
    assert [a.dtype for a in (profile.block_start, profile.block_size_bytes, profile.block_instructions)] == [
        np.uint32
    ] * 3
    assert [profile.edge_source.dtype, profile.edge_target.dtype, profile.edge_count.dtype] == [
        np.int32,
        np.int32,
        np.uint64,
    ]
