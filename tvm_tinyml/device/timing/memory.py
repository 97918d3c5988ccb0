"""What a board's memory adds to a core's cycles, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tvm_tinyml.device.memory import MemoryMap
from tvm_tinyml.device.timing.data_files import Entry, names, read
from tvm_tinyml.device.watch import LineBuffer, Watch
from tvm_tinyml.errors import DeviceError

_PACKAGE = "tvm_tinyml.targets.memory"


@dataclass(frozen=True)
class SlowLines:
    """Flash that is read line by line into a buffer.

    buffer : the lines that are held; one is a plain read buffer, many are a cache.
    miss_cycles : what a line costs that is not held.
    next_miss_cycles : the same for the line behind the one used last; less or more, as there is a prefetch or less to
        do meanwhile.
    """

    buffer: LineBuffer
    miss_cycles: int
    next_miss_cycles: int


@dataclass(frozen=True)
class MemoryTiming:
    """Where code and constants lie, and what reading them costs; all other memory keeps the core's own time.

    data, code : None if reading costs nothing more.
    alignment : accesses that are not aligned cost more.
    wait_states : of the flash; for the reader, the costs are in ``data`` and ``code``.
    """

    name: str
    summary: str
    data: SlowLines | None = None
    code: SlowLines | None = None
    clock_hz: int | None = None
    wait_states: int | None = None
    alignment: bool = True

    def placed(self, *, code: str = "flash", constants: str = "flash") -> MemoryTiming:
        """Return the same board with code or constants copied to RAM before the run.

        Parameters
        ----------
        code, constants : "flash" or "ram". Literal pools count as constants.

        Raises
        ------
        DeviceError : another place.
        """
        for place in (code, constants):
            if place not in ("flash", "ram"):
                raise DeviceError(f"code and constants lie in 'flash' or 'ram', not in '{place}'")
        moved = [what for what, place in (("code", code), ("constants", constants)) if place == "ram"]
        return replace(
            self,
            name=f"{self.name}, {' and '.join(moved)} in RAM" if moved else self.name,
            code=self.code if code == "flash" else None,
            data=self.data if constants == "flash" else None,
        )

    def aligned(self) -> MemoryTiming:
        """Return the same board with every access taken for aligned.

        For a first choice among many kernels; the figures of record are without it.
        """
        return replace(self, name=f"{self.name}, alignment not counted", alignment=False)

    def watch(self, memory: MemoryMap) -> Watch:
        """Return what a run must count."""
        data, code = (slow.buffer if slow else None for slow in (self.data, self.code))
        return Watch(memory.flash, data, code, self.alignment)


def memory_names() -> list[str]:
    """Return the memories that are known by name."""
    return names(_PACKAGE)


def load_memory(name: str | Path) -> MemoryTiming:
    """Read how a memory behaves.

    Parameters
    ----------
    name : one of ``memory_names()``, or the path of a file of that form.

    Raises
    ------
    DeviceError : there is no such memory, or its file is not complete.
    """
    entry = read(_PACKAGE, "memory", name)
    timing = MemoryTiming(
        name=name.stem if isinstance(name, Path) else name,
        summary=entry.text("summary"),
        data=_lines(entry.entry("data")),
        code=_lines(entry.entry("code")),
        clock_hz=entry.number("clock_hz", 0) or None,
        wait_states=entry.number("wait_states", 0) or None,
    )
    entry.close()
    return timing


def _lines(entry: Entry | None) -> SlowLines | None:
    if entry is None:
        return None
    line_bytes, lines = entry.number("line_bytes"), entry.number("lines")
    if line_bytes < 1 or line_bytes & (line_bytes - 1) or not 1 <= lines <= 1 << 16:
        raise DeviceError(
            f"{entry.where}: {lines} lines of {line_bytes} bytes; a line is a power of 2, and there is one at least"
        )
    slow = SlowLines(LineBuffer(line_bytes, lines), entry.number("miss_cycles"), entry.number("next_miss_cycles"))
    if min(slow.miss_cycles, slow.next_miss_cycles) < 0:
        raise DeviceError(f"{entry.where}: a miss of {slow.miss_cycles} or {slow.next_miss_cycles} cycles gains time")
    entry.close()
    return slow
