"""What a watched run counts: the same natively and in Python, and no word of it in a plain run."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from device.thumb import function

from tvm_tinyml.device import FaultError, Simulator, assemble
from tvm_tinyml.device.counter import NativeCounter, PythonCounter
from tvm_tinyml.device.engine import Run
from tvm_tinyml.device.unicorn_engine import UnicornEngine
from tvm_tinyml.device.watch import Event, LineBuffer, RecentLines, Watch

pytest.importorskip("unicorn", reason="needs unicorn: pip install tvm_tinyml[sim]")

try:
    native = importlib.import_module("tvm_tinyml.device._counter")
except ImportError:
    native = None
needs_native = pytest.mark.skipif(
    native is None, reason="the C extension is not built: pip install -e . with a C compiler"
)

Counters = list[Callable[[], NativeCounter | PythonCounter]]
COUNTERS: Counters = [lambda: NativeCounter(native), PythonCounter] if native else [PythonCounter]

# Reads words all over a table in flash and writes them to RAM, at addresses that are not aligned; calls functions.
WANDER = "\n".join(
    [
        function(
            "wander",
            "push {r4-r6, lr};mov r4, r0;ldr r5, =table;movs r6, #1;"
            "1: movw r0, #25173;mul r6, r6, r0;addw r6, r6, #1;ubfx r0, r6, #7, #9;ldr r2, [r5, r0];"
            "ubfx r3, r6, #3, #6;str r2, [r1, r3];strh r2, [r1, r3];bl near;bl far;subs r4, #1;bne 1b;"
            "mov r0, r6;pop {r4-r6, pc};.ltorg",
        ),
        function("near", ".rept 9;nop.w;.endr;bx lr"),
        function("gap", ".space 3000"),
        function("far", ".rept 40;nop;.endr;bx lr"),
        '.section .rodata.table,"a",%progbits\n.balign 8\ntable: .space 600',
    ]
)


def simulate(counter: NativeCounter | PythonCounter, watches: list[Watch | None], source: str = WANDER) -> list[Run]:
    """One run of ``wander`` for each watch, in one engine."""
    engine = UnicornEngine("cortex-m4", counter=counter)
    with Simulator(engine=engine) as simulator:
        simulator.load([assemble(source, "cortex-m4")])
        entry, stack = simulator.symbols["wander"], engine.memory.stack.end
        return [engine.run(entry, [300, engine.memory.ram.origin], stack, 10**6, watch) for watch in watches]


def flash(data: LineBuffer | None = None, code: LineBuffer | None = None) -> Watch:
    from tvm_tinyml.device.memory import MemoryMap

    return Watch(MemoryMap().flash, data, code)


WATCHES = [
    flash(),
    flash(LineBuffer(8, 32), LineBuffer(32, 32)),
    flash(LineBuffer(16, 1), LineBuffer(4, 2)),
    flash(None, LineBuffer(64, 3)),
    flash(LineBuffer(4, 100)),
    replace(flash(LineBuffer(8, 32), LineBuffer(32, 32)), alignment=False),
    replace(flash(), alignment=False),
]


@needs_native
def test_native_and_python_counters_see_the_same() -> None:
    fast, slow = (simulate(make(), [*WATCHES]) for make in COUNTERS)
    for watch, a, b in zip(WATCHES, fast, slow, strict=True):
        assert a.events is not None
        assert np.array_equal(a.events, b.events), watch
        assert len(a.events) == len(a.profile.block_start)
        totals = a.events.sum(0)
        unaligned = [totals[event] for event in (Event.WORD_AT_EVEN, Event.WORD_AT_ODD, Event.HALFWORD_AT_ODD)]
        assert min(unaligned) > 50 if watch.alignment else max(unaligned) == 0
        assert bool(totals[Event.DATA_MISS]) is bool(watch.data)
        assert bool(totals[Event.CODE_MISS]) is bool(watch.code)


@pytest.mark.parametrize("make", COUNTERS)
def test_two_watched_runs_see_the_same_and_a_plain_one_between_them_nothing(
    make: Callable[[], NativeCounter | PythonCounter],
) -> None:
    watch = WATCHES[1]
    first, plain, second, third = simulate(make(), [watch, None, watch, watch])
    assert plain.events is None
    assert first.events is not None
    assert np.array_equal(first.events, second.events)
    assert np.array_equal(first.events, third.events)
    assert plain.profile.edge_count.tolist() == first.profile.edge_count.tolist()


@pytest.mark.parametrize("make", COUNTERS)
def test_each_access_is_seen_once_even_across_pages(make: Callable[[], NativeCounter | PythonCounter]) -> None:
    engine = UnicornEngine("cortex-m4", counter=make())
    with Simulator(engine=engine) as simulator:
        simulator.load([assemble(function("f", "ldr r2, [r0];str r2, [r0];ldrh r3, [r1];bx lr"), "cortex-m4")])
        page = engine.memory.ram.origin + 4096
        for offset in (-3, -2, -1):
            run = engine.run(
                simulator.symbols["f"], [page + offset, page - 1], engine.memory.stack.end, 100, WATCHES[0]
            )
            assert run.events is not None
            words = Event.WORD_AT_EVEN if offset == -2 else Event.WORD_AT_ODD
            assert {event.name: int(run.events[0, event]) for event in Event if run.events[0, event]} == {
                words.name: 2,
                Event.HALFWORD_AT_ODD.name: 1,
            }


@pytest.mark.parametrize("make", COUNTERS)
def test_a_word_across_two_lines_needs_both(make: Callable[[], NativeCounter | PythonCounter]) -> None:
    source = function("wander", "ldr r0, =table;ldr r1, [r0, #6];ldr r1, [r0, #10];ldr r1, [r0];bx lr;.ltorg")
    source += '\n.section .rodata.table,"a",%progbits\n.balign 64\ntable: .space 16'
    (run,) = simulate(make(), [flash(LineBuffer(8, 8))], source)
    assert run.events is not None
    assert run.events[:, Event.DATA_MISS].tolist() == [1 + 2]  # the address, two lines of the table


def test_the_line_used_longest_ago_gives_way() -> None:
    buffer = RecentLines(LineBuffer(32, 2))
    # line: held, behind the one before
    touched = [
        (1, False, False),
        (2, False, True),
        (1, True, False),
        (3, False, False),
        (2, False, False),
        (3, True, True),
    ]
    assert [(line, *buffer.touch(line)) for line in (1, 2, 1, 3, 2, 3)] == touched
    assert list(buffer.lines(30, 4)) == [0, 1]


@pytest.mark.parametrize("make", COUNTERS)
def test_a_fault_in_a_watched_run_leaves_the_engine_usable(make: Callable[[], NativeCounter | PythonCounter]) -> None:
    engine = UnicornEngine("cortex-m4", counter=make())
    with Simulator(engine=engine) as simulator:
        simulator.load([assemble(function("f", "ldr r0, [r0];bx lr"), "cortex-m4")])
        arguments = ([0], engine.memory.stack.end, 100, WATCHES[1])
        with pytest.raises(FaultError):
            engine.run(simulator.symbols["f"], *arguments)
        good = engine.run(simulator.symbols["f"], [engine.memory.ram.origin], *arguments[1:])
        assert good.profile.instructions == 2


@needs_native
def test_a_plain_run_is_as_fast_after_a_watched_one_as_before() -> None:
    engine = UnicornEngine("cortex-m4", counter=NativeCounter(native))
    with Simulator(engine=engine) as simulator:
        simulator.load([assemble(function("f", "1: ldr r2, [r1];ldr r2, [r1];subs r0, #1;bne 1b;bx lr"))])

        def seconds(watch: Watch | None) -> float:
            engine.run(simulator.symbols["f"], [10, engine.memory.ram.origin], engine.memory.stack.end, 10**9, watch)
            start = time.process_time()
            count = [1_000_000, engine.memory.ram.origin]
            engine.run(simulator.symbols["f"], count, engine.memory.stack.end, 10**9, watch)
            return time.process_time() - start

        before, watched, after = seconds(None), seconds(WATCHES[1]), seconds(None)
        assert after < 2.5 * before + 0.01
        assert after < watched
