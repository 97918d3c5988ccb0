from __future__ import annotations

import ctypes
import importlib
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from device.thumb import function

from tvm_tinyml.device import BudgetError, EdgeProfile, ElfObject, FaultError, Simulator, assemble
from tvm_tinyml.device import counter as counter_module
from tvm_tinyml.device.counter import NativeCounter, PythonCounter, make_counter, may_be_misaligned
from tvm_tinyml.device.engine import instruction_offsets
from tvm_tinyml.device.unicorn_engine import UnicornEngine

pytest.importorskip("unicorn", reason="needs unicorn: pip install tvm_tinyml[sim]")

try:
    native = importlib.import_module("tvm_tinyml.device._counter")
except ImportError:
    native = None
needs_native = pytest.mark.skipif(
    native is None, reason="the C extension is not built: pip install -e . with a C compiler"
)

# Sorts words by insertion: loops in loops, data-dependent branches.
SORT = """push {r4-r6, lr}
movs r2, #1
.Louter:
cmp r2, r1
bhs .Ldone
lsls r3, r2, #2
ldr r4, [r0, r3]
.Linner:
subs r3, #4
bmi .Lplace
ldr r5, [r0, r3]
cmp r5, r4
bls .Lplace
adds r6, r3, #4
str.w r5, [r0, r6]
b .Linner
.Lplace:
adds r3, #4
str r4, [r0, r3]
adds r2, #1
b .Louter
.Ldone:
pop {r4-r6, pc}""".replace("\n", ";")

# Calls one of 1500 small functions by an index that runs through all of them: many blocks, many edges out of one.
MANY = 1500
DISPATCH = "\n".join(
    [
        function(
            "dispatch",
            "push {r4-r6, lr};ldr r4, =table;ldr r5, =1500;movs r6, #0;"
            ".Lnext: ldmia r4!, {r3};blx r3;adds r6, r6, r0;subs r5, #1;bne .Lnext;mov r0, r6;pop {r4-r6, pc};.ltorg",
        ),
        *(function(f"leaf{i}", f"movs r0, #{i % 251};.rept {i % 5};nop;.endr;bx lr") for i in range(MANY)),
        '.section .rodata.table,"a",%progbits\n.balign 4\ntable:',
        *(f".word leaf{i}" for i in range(MANY)),
    ]
)


def simulator_with(counter: NativeCounter | PythonCounter, *, check_alignment: bool = False) -> Simulator:
    return Simulator(engine=UnicornEngine("cortex-m4", counter=counter, check_alignment=check_alignment))


@pytest.fixture(params=["native", "python"])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    if request.param == "native" and native is None:
        pytest.skip("the C extension is not built: pip install -e . with a C compiler")
    with simulator_with(NativeCounter(native) if request.param == "native" else PythonCounter()) as simulator:
        yield simulator


def sort(simulator: Simulator, count: int, budget: int = 10**9) -> EdgeProfile:
    simulator.load([assemble(function("sort", SORT), "cortex-m4")])
    x = simulator.allocate(4 * count)
    words = np.random.default_rng(1).integers(0, 2**31, count, np.uint32)
    simulator.write(x, words.tobytes())
    result = simulator.call("sort", x, count, budget=budget)
    assert np.array_equal(np.frombuffer(simulator.read(x, 4 * count), np.uint32), np.sort(words))
    return result.profile


def fields(profile: EdgeProfile) -> list[list[int]]:
    return [getattr(profile, name).tolist() for name in EdgeProfile.__dataclass_fields__]


@needs_native
def test_native_and_python_counters_give_the_same_profile() -> None:
    with simulator_with(NativeCounter(native)) as fast, simulator_with(PythonCounter()) as slow:
        assert fields(sort(fast, 60)) == fields(sort(slow, 60))
        for simulator in (fast, slow):
            simulator.load([assemble(DISPATCH)])
        assert fields(fast.call("dispatch").profile) == fields(slow.call("dispatch").profile)


@needs_native
@pytest.mark.parametrize("budget", [1, 2, 7, 50, 1000, 12345])
def test_native_and_python_counters_stop_at_the_same_place(budget: int) -> None:
    messages = []
    for counter in (NativeCounter(native), PythonCounter()):
        with simulator_with(counter) as simulator, pytest.raises(BudgetError) as error:
            sort(simulator, 300, budget)
        messages.append((str(error.value), error.value.pc, error.value.budget))
    assert messages[0] == messages[1]


def test_the_budget_is_exact(simulator: Simulator) -> None:
    needed = sort(simulator, 40).instructions
    assert sort(simulator, 40, budget=needed).instructions == needed
    with pytest.raises(BudgetError):
        sort(simulator, 40, budget=needed - 1)


def test_tables_grow_with_the_program(simulator: Simulator) -> None:
    simulator.load([assemble(DISPATCH)])
    result = simulator.call("dispatch")
    assert result.value == sum(i % 251 for i in range(MANY))
    leaves = {name: n for name, n in result.instructions_by_symbol.items() if name.startswith("leaf")}
    assert leaves == {f"leaf{i}": 2 + i % 5 for i in range(MANY)}
    assert result.instructions_by_symbol["dispatch"] == 4 + MANY * 5 + 2
    assert len(result.profile.edge_source) > 2 * MANY


def test_counts_start_at_zero_with_each_call(simulator: Simulator) -> None:
    first = fields(sort(simulator, 30))
    simulator.load([assemble(DISPATCH)])
    simulator.call("dispatch")
    assert fields(sort(simulator, 30)) == first


def test_edges_into_and_out_of_a_block_balance(simulator: Simulator) -> None:
    profile = sort(simulator, 50)
    out = np.zeros(len(profile.block_start), np.uint64)
    np.add.at(out, profile.edge_source[profile.edge_source >= 0], profile.edge_count[profile.edge_source >= 0])
    missing = profile.block_executions - out
    assert missing.sum() == 1  # only the block that returned to the caller is entered once more than it is left
    assert profile.edge_count[profile.edge_source < 0].tolist() == [1]


@needs_native
def test_both_counters_stop_at_the_same_misaligned_access() -> None:
    found = []
    for counter in (NativeCounter(native), PythonCounter()):
        with simulator_with(counter, check_alignment=True) as simulator:
            simulator.load([assemble(function("f", "ldr r2, [r0];ldrd r2, r3, [r0];bx lr"), "cortex-m4")])
            x = simulator.allocate(16, offset=2)
            with pytest.raises(FaultError) as error:
                simulator.call("f", x)
            found.append((error.value.pc, error.value.address, str(error.value)))
            assert error.value.address == x
    assert found[0] == found[1]


@needs_native
def test_the_native_counter_keeps_blocks_of_one_start_and_two_sizes_apart() -> None:
    """No program is known to cause this, but the emulator does not promise the opposite."""
    counter = NativeCounter(native)
    engine = UnicornEngine("cortex-m4", counter=counter)
    engine.write(0x0800_0100, bytes.fromhex("00bf 00bf aff3 0080"))  # nop; nop; nop.w
    counter.start(100)
    machine = ctypes.cast(engine._machine._uch, ctypes.c_void_p)
    for size in (4, 8, 4):
        counter._library.tinyml_counter_on_block(
            machine, ctypes.c_uint64(0x0800_0100), ctypes.c_uint32(size), ctypes.c_void_p(counter._handle)
        )
    profile = counter.profile()
    assert profile.block_size_bytes.tolist() == [4, 8]
    assert profile.block_instructions.tolist() == [2, 3]
    assert profile.block_executions.tolist() == [2, 1]
    engine.close()


def test_instructions_are_told_by_the_top_five_bits() -> None:
    for top in range(32):
        code = (top << 11).to_bytes(2, "little") + bytes(2)
        assert instruction_offsets(code) == ([0] if top in (0b11101, 0b11110, 0b11111) else [0, 2])


def test_only_single_loads_and_stores_may_be_misaligned() -> None:
    encodings = {
        "ldr r0, [r1]": True, "ldr r0, [r1, r2]": True, "ldr r0, [sp, #4]": True, "ldr.w r0, [r1, #100]": True,
        "strh r0, [r1]": True, "str.w r0, [r1, r2, lsl #2]": True, "ldrsh.w r0, [r1]": True,
        "ldmia r0, {r1, r2}": False, "push {r0, r1}": False, "pop {r0, r1}": False, "ldrd r0, r1, [r2]": False,
        "ldmia.w r0, {r1, r8}": False, "vldr s0, [r0]": False, "vstmia r0, {s0}": False, "ldrex r0, [r1]": False,
    }  # fmt: skip
    for text, expected in encodings.items():
        code = assemble(f'.section .text.x,"ax",%progbits\n.global x\nx: {text}', "cortex-m4")
        section = next(s for s in ElfObject.parse(code).sections if s.name == ".text.x")
        assert may_be_misaligned(int.from_bytes(section.data[:2], "little")) is expected, text


def test_a_missing_extension_is_told_once_and_the_simulation_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm_tinyml.device._counter", None)  # importing it raises
    counter_module._warn_slow.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"50 times slower .* missing \(import of tvm_tinyml\.device\._counter"):
        assert isinstance(make_counter(), PythonCounter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(make_counter(), PythonCounter)
        with Simulator("cortex-m4") as simulator:
            sort(simulator, 10)
    counter_module._warn_slow.cache_clear()


@needs_native
def test_the_native_counter_is_used_where_it_is_built() -> None:
    counter = make_counter()
    assert isinstance(counter, NativeCounter)
    counter.close()


@needs_native
def test_the_native_counter_is_fast() -> None:
    """A Python callback for each block reaches 5 million instructions a second; native code a hundred and more."""
    with simulator_with(NativeCounter(native)) as simulator:
        simulator.load([assemble(function("f", "1: adds r1, #1;adds r1, #1;adds r1, #1;subs r0, #1;bne 1b;bx lr"))])
        simulator.call("f", 1000)
        start = time.process_time()  # other processes do not count
        result = simulator.call("f", 4_000_000)
        assert result.instructions / (time.process_time() - start) > 30e6


def test_bindings_that_this_layer_needs_are_there() -> None:
    """Two private names of Unicorn's bindings are used; another version may lack them."""
    from unicorn.unicorn_py3.unicorn import uclib

    for name in ("uc_hook_add", "uc_hook_del", "uc_mem_read", "uc_reg_read", "uc_emu_stop"):
        assert callable(getattr(uclib, name))
    assert UnicornEngine("cortex-m4")._machine._uch
