from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
from device.conftest import MakeEngine
from device.thumb import CORES, TABLE_LOOKUP, compile_ir, function, measure, program
from simulated import needs_simulator

from tvm_tinyml.device import FaultError, Simulator, assemble, strip
from tvm_tinyml.device import simulator as simulator_module
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.device.simulator import GUARD_BYTES
from tvm_tinyml.errors import DeviceError

pytestmark = needs_simulator

MEMORY = MemoryMap()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator("cortex-m4") as simulator:
        yield simulator


# --- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", CORES)
def test_arguments_beyond_four_come_from_the_stack(core: str) -> None:
    # a0 + 2 a1 + ... + 64 a6
    body = (
        "push {r4, lr};lsls r1, r1, #1;adds r0, r0, r1;lsls r2, r2, #2;adds r0, r0, r2;lsls r3, r3, #3;adds r0, r0, r3"
    )
    for i in range(3):
        body += f";ldr r4, [sp, #{8 + 4 * i}];lsls r4, r4, #{4 + i};adds r0, r0, r4"
    with Simulator(core) as simulator:
        simulator.load([program("f", body + ";pop {r4, pc}")])
        assert simulator.call("f", 1, 2, 3, 4, 5, 6, -7).value == 1 + 4 + 12 + 32 + 80 + 192 - 448


@pytest.mark.parametrize("count", range(8))
def test_the_stack_pointer_is_a_multiple_of_8_at_entry(simulator: Simulator, count: int) -> None:
    simulator.load([program("f", "mov r0, sp;bx lr")])
    assert simulator.call("f", *range(count)).value % 8 == 0


def test_values_are_signed(simulator: Simulator) -> None:
    simulator.load([program("f", "bx lr")])
    assert [simulator.call("f", v).value for v in (-1, 2**31 - 1, 2**31, 2**32 - 1, -(2**31))] == [
        -1, 2**31 - 1, -(2**31), -1, -(2**31),
    ]  # fmt: skip


@pytest.mark.parametrize("argument", [2**32, -(2**31) - 1])
def test_an_argument_of_more_than_32_bits_is_refused(simulator: Simulator, argument: int) -> None:
    simulator.load([program("f", "bx lr")])
    with pytest.raises(DeviceError, match=f"argument 1 of 'f', {argument}, does not fit 32 bits"):
        simulator.call("f", 0, argument)


@pytest.mark.parametrize("budget", [0, -1, 2**63])
def test_a_budget_that_is_no_budget_is_refused(simulator: Simulator, budget: int) -> None:
    simulator.load([program("f", "bx lr")])
    with pytest.raises(DeviceError, match=f"a budget of {budget} instructions is not between 1"):
        simulator.call("f", budget=budget)


def test_an_unknown_function_is_told_with_those_that_exist(simulator: Simulator) -> None:
    data = '.section .rodata.d,"a",%progbits\n.global data\ndata: .word 1'
    simulator.load([assemble(function("beta", "bx lr")), assemble(function("alpha", "bx lr")), assemble(data)])
    with pytest.raises(DeviceError, match=r"^no function named 'gamma' is loaded; there are: alpha, beta$"):
        simulator.call("gamma")
    with pytest.raises(DeviceError, match="no function named 'data'"):
        simulator.call("data")


def test_calling_before_loading_is_told(simulator: Simulator) -> None:
    with pytest.raises(DeviceError, match=r"no program is loaded; call load\(\) first"):
        simulator.call("f")


def test_instructions_are_counted_per_function_with_those_called(simulator: Simulator) -> None:
    outer = program("outer", "push {r4, lr};bl inner;bl inner;bl memset;pop {r4, pc}")
    simulator.load([outer, program("inner", "nop;nop;bx lr")])
    x = simulator.allocate(4)
    result = simulator.call("outer", x, 0, 0)
    counts = dict(result.instructions_by_symbol)
    assert counts["outer"] == 5
    assert counts["inner"] == 6
    assert set(counts) == {"outer", "inner", "memset"}
    assert sum(counts.values()) == result.instructions


def test_a_function_that_runs_into_the_next_one_is_split_between_both(simulator: Simulator) -> None:
    source = function("first", "nop;nop.w;nop") + "\n" + function("second", "nop;bx lr", section=".text.first")
    simulator.load([assemble(source.replace(".balign 4\n", ""), "cortex-m4")])
    assert dict(simulator.call("first").instructions_by_symbol) == {"first": 3, "second": 2}


def test_local_functions_are_counted_under_their_own_name(simulator: Simulator) -> None:
    local = function("helper", "nop;bx lr").replace(".global helper", "")
    simulator.load([assemble(function("f", "push {r4, lr};bl helper;pop {r4, pc}") + "\n" + local)])
    assert dict(simulator.call("f").instructions_by_symbol) == {"f": 3, "helper": 2}


def test_an_object_of_tvm_behaves_the_same_when_stripped(simulator: Simulator) -> None:
    raw = compile_ir(TABLE_LOOKUP)
    results = []
    for data in (raw, strip(raw)):
        simulator.load([data, program("increment", "adds r0, #1;bx lr")])
        result = simulator.call("entry", 2)
        results.append((result.instructions, simulator.read(simulator.symbols["result"], 4)))
    assert results[0] == results[1]
    assert results[0][1] == (30 + 7 + 1).to_bytes(4, "little")


# --- stack ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [0, 1, 8])
def test_stack_is_measured_to_the_deepest_word(simulator: Simulator, words: int) -> None:
    registers = ",".join(f"r{i}" for i in range(words))
    body = f"push {{{registers}}};add sp, #{4 * words};bx lr" if words else "bx lr"
    simulator.load([program("f", body)])
    assert simulator.call("f", *range(words)).stack_bytes == 4 * words


def test_stack_of_callees_counts_and_each_call_is_measured_afresh(simulator: Simulator) -> None:
    deep = function("deep", "push {r4, lr};bl deeper;pop {r4, pc}")
    deeper = function("deeper", "push {r0-r7};pop {r0-r7};bx lr")
    simulator.load([assemble(deep + "\n" + deeper)])
    assert [simulator.call(f).stack_bytes for f in ("deep", "deeper", "deep", "deeper")] == [40, 32, 40, 32]


def test_writing_zeros_to_the_stack_is_seen(simulator: Simulator) -> None:
    simulator.load([program("f", "movs r0, #0;movs r1, #0;push {r0, r1};pop {r0, r1};bx lr")])
    assert simulator.call("f").stack_bytes == 8


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_a_stack_overflow_is_a_fault(core: str) -> None:
    with Simulator(core) as simulator:
        simulator.load([program("recurse", "push {r0-r7, lr};bl recurse;pop {r0-r7, pc}")])
        with pytest.raises(FaultError, match=r"\(recurse\+0x0\): it writes 4 bytes at 0x20ff.*, where no memory is"):
            simulator.call("recurse")


# --- faults ---------------------------------------------------------------------------------------------------------


def fault(make_engine: MakeEngine, core: str, body: str, *arguments: int) -> FaultError:
    with Simulator(engine=make_engine(core)) as simulator:
        simulator.load([program("before", "nop;bx lr"), program("f", body, core)])
        with pytest.raises(FaultError) as error:
            simulator.call("f", *arguments)
        # The same instance goes on with the next program.
        simulator.load([program("good", "movs r0, #9;bx lr")])
        assert simulator.call("good").value == 9
        return error.value


@pytest.mark.parametrize("core", CORES)
def test_a_read_from_nowhere_names_address_instruction_and_function(make_engine: MakeEngine, core: str) -> None:
    error = fault(make_engine, core, "nop;ldr r0, [r0];bx lr", 0x3000_0000)
    assert str(error) == (
        f"{core}: the program faults at 0x08000106 (f+0x2): it reads 4 bytes at 0x30000000, where no memory is"
    )
    assert (error.pc, error.address) == (0x0800_0106, 0x3000_0000)


@pytest.mark.parametrize("core", CORES)
def test_a_write_to_flash_is_a_fault(make_engine: MakeEngine, core: str) -> None:
    error = fault(make_engine, core, "strb r1, [r0];bx lr", 0x0800_0200, 1)
    assert str(error) == (
        f"{core}: the program faults at 0x08000104 (f+0x0): it writes 1 bytes at 0x08000200, which is read-only"
    )


@pytest.mark.parametrize("core", CORES)
def test_a_null_pointer_is_a_fault(make_engine: MakeEngine, core: str) -> None:
    assert fault(make_engine, core, "ldrb r0, [r0];bx lr", 0).address == 0


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("address", [0x4000_0001, 0x2000_0001])
def test_a_jump_to_where_no_code_is_names_the_caller(make_engine: MakeEngine, core: str, address: int) -> None:
    error = fault(make_engine, core, "push {r4, lr};blx r0;pop {r4, pc}", address)
    assert str(error) == (
        f"{core}: the program faults at {address - 1:#010x}: it jumps to a place where no code is; "
        "the last return address is 0x08000108 (f+0x4)"
    )


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("udf #1", "; the code there is de01 4770"),
        ("bkpt #0", "it meets a breakpoint (BKPT)"),
        ("svc #1", "it asks an operating system for a service (SVC)"),
        ("wfi", "it waits for an event that no device will send (WFI or WFE)"),
    ],
)
def test_instructions_that_need_an_operating_system_or_debugger_are_faults(
    make_engine: MakeEngine, core: str, instruction: str, reason: str
) -> None:
    message = str(fault(make_engine, core, f"nop;{instruction};bx lr"))
    assert message.startswith(f"{core}: the program faults at 0x0800010")
    assert "(f+0x" in message
    assert message.endswith(reason)


def test_floating_point_on_a_core_without_is_a_fault(make_engine: MakeEngine) -> None:
    with Simulator(engine=make_engine("cortex-m3")) as simulator:
        simulator.load([program("f", "vadd.f32 s0, s1, s2;bx lr", "cortex-m4")])
        with pytest.raises(FaultError, match=r"it executes VADD, which|the core has no unit"):
            simulator.call("f")


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [1, 4, 16, 64])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_allocations_have_the_alignment_and_offset_asked_for(simulator: Simulator, alignment: int, offset: int) -> None:
    simulator.load([program("f", "bx lr")])
    simulator.allocate(5)
    assert simulator.allocate(10, alignment=alignment, offset=offset) % alignment == offset % alignment


def test_allocations_and_variables_do_not_meet(simulator: Simulator) -> None:
    variables = '.section .bss.v,"aw",%nobits\n.global v\nv: .space 1000'
    simulator.load([assemble(function("f", "bx lr") + "\n" + variables)])
    end = simulator.symbols["v"] + 1000
    for size in (0, 1, 17, 64):
        address = simulator.allocate(size)
        assert address >= end + GUARD_BYTES
        end = address + size


def test_fresh_allocations_do_not_look_like_zeros(simulator: Simulator) -> None:
    simulator.load([program("f", "bx lr")])
    assert simulator.read(simulator.allocate(8), 8) == b"\xa5" * 8


def test_writes_inside_of_an_allocation_leave_the_guards_alone(simulator: Simulator) -> None:
    simulator.load([program("store", "strb r1, [r0];bx lr")])
    x = simulator.allocate(8)
    for i in range(8):
        simulator.call("store", x + i, 0xFF)
    simulator.check_guards()


@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (8, "1 bytes behind it changed, the nearest is byte 1 behind it"),
        (8 + 63, "1 bytes behind it changed, the nearest is byte 64 behind it"),
        (-1, "1 bytes before it changed, the nearest is byte 1 before it"),
        (-64, "1 bytes before it changed, the nearest is byte 64 before it"),
    ],
)
def test_a_write_next_to_an_allocation_is_found_and_located(simulator: Simulator, offset: int, text: str) -> None:
    simulator.load([program("store", "ldrb r1, [r0];mvns r1, r1;strb r1, [r0];bx lr")])
    simulator.allocate(100)
    x = simulator.allocate(8)
    simulator.allocate(100)
    simulator.call("store", x + offset)
    message = rf"^the program wrote outside of allocation 1 \(8 bytes at {x:#010x}\): {text}, at {x + offset:#010x}$"
    with pytest.raises(DeviceError, match=message):
        simulator.check_guards()


def test_a_full_ram_is_told_with_the_numbers(simulator: Simulator) -> None:
    simulator.load([program("f", "bx lr")])
    free = MEMORY.ram.size_bytes - 2 * GUARD_BYTES
    with pytest.raises(DeviceError, match=f"cannot allocate {free + 1} bytes of RAM: {free} are free"):
        simulator.allocate(free + 1)
    assert simulator.allocate(free) == MEMORY.ram.origin + GUARD_BYTES


@pytest.mark.parametrize(
    "arguments", [{"size_bytes": -1}, {"size_bytes": 1, "alignment": 3}, {"size_bytes": 1, "offset": -1}]
)
def test_senseless_allocations_are_refused(simulator: Simulator, arguments: dict[str, int]) -> None:
    with pytest.raises(DeviceError, match="the alignment is a power of two"):
        simulator.allocate(**arguments)


@pytest.mark.parametrize("address", [0, MEMORY.ram.origin - 1, MEMORY.ram.end - 3, MEMORY.stack.end])
def test_the_host_cannot_touch_what_is_not_there(simulator: Simulator, address: int) -> None:
    with pytest.raises(DeviceError, match=f"4 bytes at {address:#010x} are not inside one region"):
        simulator.read(address, 4)
    with pytest.raises(DeviceError, match=f"4 bytes at {address:#010x} are not inside one region"):
        simulator.write(address, bytes(4))


COUNTER = function("bump", "ldr r1, =variable;ldr r0, [r1];adds r0, #1;str r0, [r1];bx lr;.ltorg")
COUNTER += '\n.section .data.v,"aw",%progbits\n.balign 4\n.global variable\nvariable: .word 40'


def test_variables_last_until_ram_is_reset(simulator: Simulator) -> None:
    simulator.load([assemble(COUNTER)])
    assert [simulator.call("bump").value for _ in range(2)] == [41, 42]
    simulator.reset_ram()
    assert simulator.call("bump").value == 41


def test_resetting_ram_ends_allocations(simulator: Simulator) -> None:
    simulator.load([assemble(COUNTER)])
    first = simulator.allocate(8)
    simulator.write(first + 8, b"overrun")
    simulator.reset_ram()
    simulator.check_guards()
    assert simulator.allocate(8) == first


def test_loading_replaces_program_and_allocations(simulator: Simulator) -> None:
    simulator.load([program("first", "bx lr")])
    x = simulator.allocate(8)
    simulator.load([program("second", "bx lr")])
    assert set(simulator.symbols) == {"second"}
    assert simulator.allocate(8) == x


def test_a_program_that_does_not_link_leaves_the_one_before_in_place(simulator: Simulator) -> None:
    simulator.load([program("first", "movs r0, #1;bx lr")])
    with pytest.raises(DeviceError, match="1 undefined symbol: 'missing'"):
        simulator.load([program("second", "push {r4, lr};bl missing;pop {r4, pc}")])
    assert simulator.call("first").value == 1


# --- the whole ------------------------------------------------------------------------------------------------------


def test_regions_are_as_large_as_promised() -> None:
    assert MEMORY.flash.origin == 0x0800_0000
    assert MEMORY.ram.origin == 0x2000_0000
    assert min(MEMORY.flash.size_bytes, MEMORY.ram.size_bytes) >= 4 << 20


@pytest.mark.parametrize("core", ["cortex-m1", "cortex-m4+nofp", "m4"])
def test_a_core_that_cannot_be_simulated_is_told_with_those_that_can(core: str) -> None:
    with pytest.raises(DeviceError) as error:
        Simulator(core)
    assert str(error.value) == (
        f"the simulator cannot run '{core}'; it runs cortex-m0plus, cortex-m3, cortex-m4, cortex-m7, cortex-m33, "
        "cortex-m55, cortex-m85"
    )


def test_a_closed_simulator_can_be_closed_again() -> None:
    simulator = Simulator("cortex-m4")
    simulator.close()
    simulator.close()


def test_a_closed_simulator_says_so() -> None:
    with Simulator("cortex-m4") as simulator:
        simulator.load([program("f", "bx lr")])
    for use in (lambda: simulator.call("f"), lambda: simulator.allocate(4), lambda: simulator.read(0x2000_0000, 4)):
        with pytest.raises(DeviceError, match="the simulator of cortex-m4 is closed; make a new one"):
            use()


def test_two_processes_give_the_same_numbers() -> None:
    script = "import json; from device.thumb import measure; print(json.dumps(measure('cortex-m4')))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": "1", "PATH": ""},
    )
    here = measure("cortex-m4")
    assert json.loads(done.stdout) == here
    assert here[1] > 10


def test_importing_the_package_imports_neither_unicorn_nor_tvm() -> None:
    code = "import sys, tvm_tinyml.device; print([m for m in ('unicorn', 'tvm', 'capstone') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": ""},
    )
    assert done.stdout.strip() == "[]"


def test_without_an_engine_the_user_is_told_what_to_install(without_engine: None) -> None:
    with pytest.raises(DeviceError, match=r"needs Unicorn, which is not installed .*: pip install tvm_tinyml\[sim\]$"):
        Simulator("cortex-m4")


def test_without_the_extension_unicorn_stands_in_and_the_user_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("unicorn", reason="needs unicorn: pip install tvm_tinyml[sim]")
    monkeypatch.setitem(sys.modules, "tvm_tinyml.device._machine", None)  # importing it raises
    simulator_module._warn_slow.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"50 times slower .* missing \(import of tvm_tinyml\.device\._machine"):
        Simulator("cortex-m4").close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Simulator("cortex-m4") as simulator:
            simulator.load([program("f", "movs r0, #3;bx lr")])
            assert simulator.call("f").value == 3
    simulator_module._warn_slow.cache_clear()


def test_the_native_engine_is_used_where_it_is_built(native: MakeEngine) -> None:
    with Simulator("cortex-m4") as simulator:
        assert type(simulator._engine) is native


def test_the_assembler_knows_the_cores_by_name() -> None:
    with pytest.raises(DeviceError, match="cannot assemble for 'cortex-m1'"):
        assemble("", "cortex-m1")
