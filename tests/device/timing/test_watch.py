"""What a watched run counts: the same by every engine, and no word of it in a plain run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from device.conftest import MakeEngine
from device.thumb import function

from tvm_tinyml.device import FaultError, Simulator, assemble
from tvm_tinyml.device.engine import Run
from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.device.watch import Event, LineBuffer, RecentLines, Watch

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


def simulate(make_engine: MakeEngine, watches: list[Watch | None], source: str = WANDER) -> list[Run]:
    """One run of ``wander`` for each watch, in one engine."""
    engine = make_engine("cortex-m4")
    with Simulator(engine=engine) as simulator:
        simulator.load([assemble(source, "cortex-m4")])
        entry, stack = simulator.symbols["wander"], engine.memory.stack.end
        return [engine.run(entry, [300, engine.memory.ram.origin], stack, 10**6, watch) for watch in watches]


def flash(data: LineBuffer | None = None, code: LineBuffer | None = None) -> Watch:
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


def test_engines_see_the_same(native: MakeEngine, unicorn_engine: MakeEngine) -> None:
    fast, slow = (simulate(make, [*WATCHES]) for make in (native, unicorn_engine))
    for watch, a, b in zip(WATCHES, fast, slow, strict=True):
        assert a.events is not None
        assert b.events is not None
        assert a.profile.block_size_bytes.tolist() == b.profile.block_size_bytes.tolist()
        assert np.array_equal(a.events, b.events), watch
        assert len(a.events) == len(a.profile.block_start)
        totals = a.events.sum(0)
        unaligned = [totals[event] for event in (Event.WORD_AT_EVEN, Event.WORD_AT_ODD, Event.HALFWORD_AT_ODD)]
        assert min(unaligned) > 50 if watch.alignment else max(unaligned) == 0
        assert bool(totals[Event.DATA_MISS]) is bool(watch.data)
        assert bool(totals[Event.CODE_MISS]) is bool(watch.code)


ACCESSES = [
    "ldrd r2, r3, [r0]", "strd r2, r3, [r0, #8]!", "ldmia r0!, {r2-r5}", "stmia r0!, {r2-r5}", "vldr s0, [r0]",
    "vldr d0, [r0]", "vstr d0, [r0]", "vldmia r0, {s0-s2}", "vstmia r0, {d0-d1}", "ldr r2, [r0], #2", "ldrb r2, [r0]",
    "ldrsh r2, [r0, #1]", "str r2, [r0, r1]", "ldr r2, [r0, #-6]", "push {r0-r3};pop {r0-r3}",
]  # fmt: skip


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("access", ACCESSES)
def test_engines_see_the_same_of_every_access(
    native: MakeEngine, unicorn_engine: MakeEngine, access: str, offset: int
) -> None:
    loads = access.startswith(("ld", "vld"))  # what is written goes past the buffer
    watch = Watch(MemoryMap().ram, LineBuffer(8, 3) if loads else None)
    body = f"push {{r4-r6}};mov r6, r0;ldr r2, [r6];{access};{access};ldr r2, [r6, #32];pop {{r4-r6}};bx lr"
    seen = []
    for make in (native, unicorn_engine):
        engine = make("cortex-m4")
        with Simulator(engine=engine) as simulator:
            simulator.load([assemble(function("f", body), "cortex-m4")])
            address = engine.memory.ram.origin + 64 + offset
            run = engine.run(simulator.symbols["f"], [address, 16], engine.memory.stack.end, 1000, watch)
            assert run.events is not None
            seen.append(run.events.tolist())
    assert seen[0] == seen[1]
    assert sum(seen[0][0]) > 0 or not loads


def test_two_watched_runs_see_the_same_and_a_plain_one_between_them_nothing(
    make_engine: MakeEngine,
) -> None:
    watch = WATCHES[1]
    first, plain, second, third = simulate(make_engine, [watch, None, watch, watch])
    assert plain.events is None
    assert first.events is not None
    assert np.array_equal(first.events, second.events)
    assert np.array_equal(first.events, third.events)
    assert plain.profile.edge_count.tolist() == first.profile.edge_count.tolist()


def test_each_access_is_seen_once_even_across_pages(make_engine: MakeEngine) -> None:
    engine = make_engine("cortex-m4")
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


def test_a_word_across_two_lines_needs_both(make_engine: MakeEngine) -> None:
    source = function("wander", "ldr r0, =table;ldr r1, [r0, #6];ldr r1, [r0, #10];ldr r1, [r0];bx lr;.ltorg")
    source += '\n.section .rodata.table,"a",%progbits\n.balign 64\ntable: .space 16'
    (run,) = simulate(make_engine, [flash(LineBuffer(8, 8))], source)
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


def test_a_fault_in_a_watched_run_leaves_the_engine_usable(make_engine: MakeEngine) -> None:
    engine = make_engine("cortex-m4")
    with Simulator(engine=engine) as simulator:
        simulator.load([assemble(function("f", "ldr r0, [r0];bx lr"), "cortex-m4")])
        arguments = ([0], engine.memory.stack.end, 100, WATCHES[1])
        with pytest.raises(FaultError):
            engine.run(simulator.symbols["f"], *arguments)
        good = engine.run(simulator.symbols["f"], [engine.memory.ram.origin], *arguments[1:])
        assert good.profile.instructions == 2
