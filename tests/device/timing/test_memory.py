"""Memory that is slower than the core: copies out of flash by hand, files of other memories, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from device.thumb import function
from device.timing.measure import run
from simulated import needs_simulator

from tvm_tinyml.device import Simulator, assemble
from tvm_tinyml.device.timing import Cycles, load_memory, memory_names
from tvm_tinyml.errors import DeviceError

pytestmark = needs_simulator

COPY = "1: ldr r3, [r1], #4;str r3, [r0], #4;subs r2, #1;bne 1b;bx lr"
# LDR 2, STR 1, SUBS 1, BNE 1+P = 2; less one cycle for the last BNE; BX 1+P = 3.
COPY_CYCLES = {n: 6 * n - 1 + 3 for n in (64, 1024)}


def copy(words: int, memory: str, *, from_flash: bool) -> Cycles:
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(function("f", COPY).replace(".balign 4", ".balign 32"), "cortex-m4")])
        target, source = simulator.allocate(4 * words), simulator.allocate(4 * words)
        cycles = simulator.call("f", target, 0x0810_0000 if from_flash else source, words, memory=memory).cycles
        assert cycles is not None
        return cycles


@pytest.mark.parametrize("words", [64, 1024])
def test_a_copy_from_flash_waits_for_each_eight_bytes(words: int) -> None:
    assert copy(words, "zero-wait", from_flash=True).total == COPY_CYCLES[words]
    slow = copy(words, "l4r5zi-120", from_flash=True)
    # 5 wait states and the access for each two words; the loop itself is one line of code, read once for 5 cycles
    assert dict(slow.stalls) == {"constants": words // 2 * 6, "code": 5}
    assert slow.total == COPY_CYCLES[words] + words // 2 * 6 + 5
    assert copy(words, "l4r5zi-120", from_flash=False).total == COPY_CYCLES[words] + 5


def test_a_small_table_is_read_from_flash_once() -> None:
    """32 lines of 8 bytes: a table of 256 bytes stays, one of 264 never does when it is read in order."""
    body = "2: mov r2, r3;mov r12, r1;1: ldr r4, [r12], #4;subs r2, #1;bne 1b;subs r0, #1;bne 2b;bx lr"
    for words, misses in ((64, 32), (66, 10 * 33)):
        with Simulator("cortex-m4") as simulator:
            simulator.load([assemble(function("f", body), "cortex-m4")])
            cycles = simulator.call("f", 10, 0x0810_0000, 0, words, memory="l4r5zi-120").cycles
            assert cycles is not None
            assert cycles.stalls["constants"] == 6 * misses


def test_straight_code_waits_for_each_line() -> None:
    """512 bytes from the start of a line: one that is jumped to (5), 16 in order (8), the last for the return."""
    with Simulator("cortex-m4") as simulator:
        source = function("f", ".rept 128;nop.w;.endr;bx lr").replace(".balign 4", ".balign 32")
        simulator.load([assemble(source, "cortex-m4")])
        cycles = simulator.call("f", memory="l4r5zi-120").cycles
    assert cycles is not None
    assert cycles.total == 128 + 3 + 5 + 16 * 8
    assert dict(cycles.stalls) == {"code": 5 + 16 * 8}


@pytest.mark.parametrize(("lines", "rounds_that_wait"), [(32, 1), (33, 10)])
def test_a_loop_that_fits_the_cache_waits_once(lines: int, rounds_that_wait: int) -> None:
    with Simulator("cortex-m4") as simulator:
        source = function("f", f"1: .rept {lines * 8 - 2};nop.w;.endr;subs r0, #1;bne.w 1b;bx lr")
        simulator.load([assemble(source.replace(".balign 4", ".balign 32"), "cortex-m4")])
        cycles = simulator.call("f", 10, memory="l4r5zi-120").cycles
    assert cycles is not None
    # The return is in the loop's last line. From it, line 0 is no next line: 5 cycles.
    assert cycles.stalls["code"] == rounds_that_wait * (5 + (lines - 1) * 8)


def test_a_memory_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text(
        'summary = "one read buffer"\nsource = "test"\nclock_hz = 1\nwait_states = 2\n'
        '[data]\nline_bytes = 4\nlines = 1\nmiss_cycles = 2\nnext_miss_cycles = 2\nsource = "test"\n'
    )
    memory = load_memory(file)
    assert (memory.name, memory.clock_hz, memory.wait_states, memory.code) == ("slow", 1, 2, None)
    with Simulator("cortex-m4") as simulator:
        simulator.load([assemble(function("f", "ldr r1, [r0];ldr r1, [r0];ldr r1, [r0, #4];bx lr"), "cortex-m4")])
        cycles = simulator.call("f", 0x0810_0000, memory=memory).cycles
    assert cycles is not None
    assert (cycles.memory, dict(cycles.stalls)) == ("slow", {"constants": 2 * 2})


def test_memories_that_are_known() -> None:
    assert memory_names() == ["l4r5zi-120", "nrf5340-128", "zero-wait"]
    for name in memory_names():
        assert load_memory(name).name == name
    with pytest.raises(DeviceError, match=r"^there is no memory named 'l4r5zi'; did you mean 'l4r5zi-120'\?$"):
        load_memory("l4r5zi")
    with pytest.raises(DeviceError, match="there are: l4r5zi-120, nrf5340-128, zero-wait"):
        run("cortex-m4", "bx lr", memory="x")


def test_alignment_can_be_left_out() -> None:
    memory = load_memory("l4r5zi-120")
    both, fast = (run("cortex-m4", "ldr r1, [r0];bx lr", 2, memory=m) for m in (memory, memory.aligned()))
    assert both.total == fast.total + 1
    assert dict(fast.stalls) == {"code": 5}
    assert fast.memory == "l4r5zi-120, alignment not counted"


def test_places_are_flash_and_ram() -> None:
    memory = load_memory("l4r5zi-120")
    assert memory.placed() == memory
    moved = memory.placed(code="ram", constants="ram")
    assert (moved.code, moved.data, moved.name) == (None, None, "l4r5zi-120, code and constants in RAM")
    with pytest.raises(DeviceError, match="'flash' or 'ram', not in 'itcm'"):
        memory.placed(code="itcm")


LINES = "line_bytes = 4\nlines = 1\nmiss_cycles = 2\nnext_miss_cycles = 2\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("summary = 'x'", "source is missing"),
        ("source = 'x'", "summary is missing"),
        ("summary = ''\nsource = 'x'", "summary = '' should be a text"),
        ("summary = 'x'\nsource = 'x'\nspeed = 1", "unknown speed"),
        ("summary = 'x'\nsource = 'x'\ndata = 1", "data: 1 should be a table"),
        (f"summary = 'x'\nsource = 'x'\n[data]\n{LINES}", "data: source is missing"),
        (f"summary = 'x'\nsource = 'x'\n[code]\n{LINES}source = 'x'\nways = 2", "code: unknown ways"),
        (f"summary = 'x'\nsource = 'x'\n[data]\n{LINES}source = 'x'".replace("4", "12"), "1 lines of 12 bytes"),
        (f"summary = 'x'\nsource = 'x'\n[data]\n{LINES}source = 'x'".replace("= 1", "= 0"), "0 lines of 4 bytes"),
        (f"summary = 'x'\nsource = 'x'\n[data]\n{LINES}source = 'x'".replace("s = 2", "s = -1"), "gains time"),
        (f"summary = 'x'\nsource = 'x'\n[data]\n{LINES}source = 'x'".replace("s = 2", "s = 2.5"), "be an integer"),
        ("summary", "cannot read the memory"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_complete_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_text(text)
    with pytest.raises(DeviceError, match=message):
        load_memory(file)
    with pytest.raises(DeviceError, match="cannot read the memory"):
        load_memory(tmp_path / "missing.toml")
