"""A Cortex-M in the host's memory: load objects, place data, call functions, count instructions and cycles."""

from __future__ import annotations

import importlib
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType

import numpy as np

from tvm_tinyml.device import runtime
from tvm_tinyml.device.elf import ElfObject
from tvm_tinyml.device.engine import EdgeProfile, Engine, FaultError, instruction_offsets
from tvm_tinyml.device.loader import Image, link
from tvm_tinyml.device.native_engine import NativeEngine, native_engine_missing
from tvm_tinyml.device.timing import Cycles, MemoryTiming, count_cycles, load_core, load_memory
from tvm_tinyml.errors import DeviceError

GUARD_BYTES = 64
"""Size of the guard zone on either side of an allocation."""

_POISON = 0xA5  # what fresh buffers hold
_GUARD = bytes(0xC3 ^ (i * 29 & 0xFF) for i in range(GUARD_BYTES))


@dataclass(frozen=True)
class CallResult:
    """What a call returned and cost."""

    value: int
    """r0 as a signed 32-bit number."""
    instructions: int
    instructions_by_symbol: Mapping[str, int]
    """Function of the loaded objects (or section, for code in front of its first function) -> instructions executed
    in it, callees not included. Adds up to ``instructions``."""
    stack_bytes: int
    """Deepest byte written below the stack pointer at entry, in words. A frame that is reserved and not written is
    not seen."""
    profile: EdgeProfile = field(repr=False)
    """Block edges, of which the cycles are computed."""
    cycles: Cycles | None = None
    """By the timing model, if the call was made with a memory."""


@dataclass(frozen=True)
class Allocation:
    """A buffer in RAM for the caller."""

    address: int
    size_bytes: int


def simulator_installed() -> bool:
    """Return whether there is an engine, and what cycles are counted with."""
    return _importable("capstone") and (not native_engine_missing() or _importable("unicorn"))


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _default_engine(core: str, *, check_alignment: bool) -> Engine:
    missing = native_engine_missing()
    if not missing:
        return NativeEngine(core, check_alignment=check_alignment)
    from tvm_tinyml.device.unicorn_engine import UnicornEngine  # optional dependency

    engine = UnicornEngine(core, check_alignment=check_alignment)
    _warn_slow(missing)
    return engine


@cache  # once per process and reason
def _warn_slow(reason: str) -> None:
    warnings.warn(
        f"simulation is about 50 times slower than it could be, since the native simulator is missing ({reason}); "
        "reinstall tvm_tinyml from a wheel or with a C compiler",
        RuntimeWarning,
        stacklevel=4,
    )


class Simulator:
    """Runs functions of relocatable objects on a simulated Cortex-M.

    Two runs of the same calls give the same numbers, on every host.

    Parameters
    ----------
    core : cortex-m0plus, cortex-m3, cortex-m4, cortex-m7, cortex-m33, cortex-m55 or cortex-m85.
    check_alignment : fault at misaligned LDM, LDRD, VLDR and the like as hardware does; loads and stores of one word
        may be misaligned from the Cortex-M3 on, and never on the M0+.
    engine : what executes the code; default is a new ``NativeEngine``, or with a RuntimeWarning a ``UnicornEngine``
        where the extension is not built. If given, ``core`` is the engine's.

    Raises
    ------
    DeviceError : the core is unknown, or neither engine is installed.

    For example, with an object that defines ``sum(const uint8_t *, int)``::

        with Simulator("cortex-m4") as simulator:
            simulator.load([object_file.read_bytes()])
            x = simulator.allocate(16)
            simulator.write(x, bytes(range(16)))
            print(simulator.call("sum", x, 16).value)  # 120
    """

    def __init__(self, core: str = "cortex-m4", *, check_alignment: bool = False, engine: Engine | None = None) -> None:
        if engine is None:
            engine = _default_engine(core, check_alignment=check_alignment)
        self._engine = engine
        self._memory = engine.memory
        rng = np.random.default_rng(0)
        # Unlike a constant, a random word is not written by a program by accident.
        self._paint = rng.integers(0, 2**32, self._memory.stack.size_bytes // 4, np.uint32)
        self._image: Image | None = None
        self._allocations: list[Allocation] = []
        self._next_free = self._memory.ram.origin
        self._flash_end = 0

    @property
    def core(self) -> str:
        """Which core is simulated."""
        return self._engine.core

    @property
    def symbols(self) -> Mapping[str, int]:
        """Global symbols of what is loaded -> address, without the Thumb bit of functions."""
        return self._loaded().symbols

    def load(self, objects: Sequence[bytes]) -> None:
        """Load a program in place of the one before; all allocations end.

        Our own memcpy, memset, division and so on are added for symbols that the objects leave undefined.

        Parameters
        ----------
        objects : relocatable 32-bit ARM ELF objects, as files' contents.

        Raises
        ------
        DeviceError : an object is damaged, a symbol is defined twice or nowhere, or memory is too small.
        """
        parsed = [ElfObject.parse(data, f"object {i}") for i, data in enumerate(objects)]
        self._image = link([*parsed, *runtime.supplements(parsed)], self._memory)
        self._engine.load(self._image)
        self._flash_end = 0
        self._forget_allocations()

    def reset_ram(self) -> None:
        """Give variables their initial values again and end all allocations."""
        self._engine.load(self._loaded())
        self._forget_allocations()

    def allocate(self, size_bytes: int, *, alignment: int = 16, offset: int = 0) -> int:
        """Reserve RAM between two guard zones; it lasts until ``load`` or ``reset_ram``.

        The buffer holds 0xA5 at first, so that reading what was never written does not look like reading zeros.

        Parameters
        ----------
        size_bytes : 0 or more.
        alignment : power of two.
        offset : bytes added to the aligned address, for a deliberately misaligned buffer.

        Returns
        -------
        Its address, ``offset`` modulo ``alignment``.

        Raises
        ------
        DeviceError : RAM is full, or an argument is out of range.
        """
        if size_bytes < 0 or offset < 0 or alignment < 1 or alignment & (alignment - 1):
            raise DeviceError(
                f"cannot allocate {size_bytes} bytes with alignment {alignment} and offset {offset}: sizes are at "
                "least 0 and the alignment is a power of two"
            )
        start = max(self._next_free, self._image.ram_end if self._image else 0) + GUARD_BYTES
        address = -(-start // alignment) * alignment + offset
        end = address + size_bytes + GUARD_BYTES
        if end > self._memory.ram.end:
            free = max(0, self._memory.ram.end - GUARD_BYTES - address)
            raise DeviceError(f"cannot allocate {size_bytes} bytes of RAM: {free} are free")
        self._engine.write(address - GUARD_BYTES, _GUARD + bytes([_POISON]) * size_bytes + _GUARD)
        self._allocations.append(Allocation(address, size_bytes))
        self._next_free = end
        return address

    def place_constant(self, data: bytes, *, alignment: int = 16) -> int:
        """Put data into flash behind the loaded program; it lasts until ``load``.

        Returns
        -------
        Its address, a multiple of ``alignment``.

        Raises
        ------
        DeviceError : flash is full, or nothing is loaded.
        """
        end = max(self._flash_end, self._loaded().flash_end)
        address = -(-end // alignment) * alignment
        if address + len(data) > self._memory.flash.end:
            free = max(0, self._memory.flash.end - address)
            raise DeviceError(f"cannot place {len(data)} bytes of constants in flash: {free} are free")
        self._engine.write(address, data)
        self._flash_end = address + len(data)
        return address

    def write(self, address: int, data: bytes) -> None:
        """Write bytes; DeviceError if one lies outside of the device's memory."""
        self._engine.write(address, data)

    def read(self, address: int, size_bytes: int) -> bytes:
        """Read bytes; DeviceError if one lies outside of the device's memory."""
        return self._engine.read(address, size_bytes)

    def check_guards(self) -> None:
        """Look for writes next to allocations.

        Raises
        ------
        DeviceError : a guard zone has changed; names the allocation, the side and the distance.
        """
        for number, allocation in enumerate(self._allocations):
            end = allocation.address + allocation.size_bytes
            for start, side in ((allocation.address - GUARD_BYTES, "before"), (end, "behind")):
                zone = self.read(start, GUARD_BYTES)
                changed = [i for i in range(GUARD_BYTES) if zone[i] != _GUARD[i]]
                if changed:
                    where = GUARD_BYTES - changed[-1] if side == "before" else changed[0] + 1
                    raise DeviceError(
                        f"the program wrote outside of allocation {number} ({allocation.size_bytes} bytes at "
                        f"{allocation.address:#010x}): {len(changed)} bytes {side} it changed, the nearest is byte "
                        f"{where} {side} it, at {start + (changed[-1] if side == 'before' else changed[0]):#010x}"
                    )

    def call(
        self,
        symbol: str,
        *arguments: int,
        budget: int = 2_000_000_000,
        memory: str | MemoryTiming | None = None,
    ) -> CallResult:
        """Call a function by the procedure call standard (AAPCS): four arguments in registers, the rest on the stack.

        Parameters
        ----------
        symbol : global function of the loaded objects.
        arguments : 32-bit numbers, -2**31 to 2**32 - 1; addresses for pointers.
        budget : instructions after which the call is stopped.
        memory : count cycles as well, with code and constants in this memory: a name such as "zero-wait", or what
            ``timing.load_memory`` returns. Needs capstone, and takes longer.

        Raises
        ------
        FaultError : the program faulted; the message names the address, the instruction and its function.
        BudgetError : the budget is spent.
        DeviceError : there is no such function, an argument does not fit 32 bits, the budget is not positive, or the
            timing model does not know the memory, the core or an instruction.
        """
        timing = load_memory(memory) if isinstance(memory, str) else memory
        image = self._loaded()
        entry = image.symbols.get(symbol)
        if entry is None or image.range_at(entry) is None:
            functions = ", ".join(sorted(n for n, a in image.symbols.items() if image.range_at(a))) or "none"
            raise DeviceError(f"no function named '{symbol}' is loaded; there are: {functions}")
        if not 0 < budget < 2**63:
            raise DeviceError(f"a budget of {budget} instructions is not between 1 and 2**63 - 1")
        for position, argument in enumerate(arguments):
            if not -(2**31) <= argument < 2**32:
                raise DeviceError(f"argument {position} of '{symbol}', {argument}, does not fit 32 bits")
        words = [argument & 0xFFFF_FFFF for argument in arguments]
        on_stack = struct.pack(f"<{max(0, len(words) - 4)}I", *words[4:])
        stack = self._memory.stack
        stack_pointer = (stack.end - len(on_stack)) & ~7
        self._engine.write(stack.origin, self._paint.tobytes())
        self._engine.write(stack_pointer, on_stack)
        watch = timing.watch(self._memory) if timing else None
        try:
            run = self._engine.run(entry, words[:4], stack_pointer, budget, watch)
        except FaultError as error:
            if symbol not in str(error):  # such as a jump to nowhere, which leaves no trace of its origin
                error.args = (f"{error}; '{symbol}' was called",)
            raise
        cycles = None
        if timing is not None:
            assert run.events is not None, "an engine that is told to watch returns what it saw"
            core = load_core(self.core)
            cycles = count_cycles(run.profile, run.events, core, timing, self.read, self._function_at)
        return CallResult(
            value=run.r0 - (1 << 32) if run.r0 >> 31 else run.r0,
            instructions=run.profile.instructions,
            instructions_by_symbol=self._by_symbol(run.profile),
            stack_bytes=self._painted_over(stack_pointer),
            profile=run.profile,
            cycles=cycles,
        )

    def close(self) -> None:
        """Give the memory back; the simulator cannot be used afterwards."""
        self._engine.close()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _loaded(self) -> Image:
        if self._image is None:
            raise DeviceError("no program is loaded; call load() first")
        return self._image

    def _forget_allocations(self) -> None:
        self._allocations.clear()
        self._next_free = self._loaded().ram_end

    def _painted_over(self, stack_pointer: int) -> int:
        """Bytes from the lowest changed word below the stack pointer up to it."""
        origin = self._memory.stack.origin
        words = (stack_pointer - origin) // 4
        now = np.frombuffer(self.read(origin, words * 4), np.uint32)
        changed = np.flatnonzero(now != self._paint[:words])
        return int(words - changed[0]) * 4 if len(changed) else 0

    def _function_at(self, address: int) -> tuple[str, int]:
        found = self._loaded().range_at(address)
        if found is None:
            raise DeviceError(f"code ran at {address:#010x}, outside of every loaded section")
        return found.name, found.end

    def _by_symbol(self, profile: EdgeProfile) -> dict[str, int]:
        image = self._loaded()
        counts: dict[str, int] = {}
        for start, size, instructions, executions in zip(
            profile.block_start.tolist(),
            profile.block_size_bytes.tolist(),
            profile.block_instructions.tolist(),
            profile.block_executions.tolist(),
            strict=True,
        ):
            found = image.range_at(start)
            if found is None:
                raise DeviceError(f"code ran at {start:#010x}, outside of every loaded section")
            if start + size <= found.end:
                counts[found.name] = counts.get(found.name, 0) + instructions * executions
                continue
            # A function without a return runs into the next one: the block belongs to both.
            for offset in instruction_offsets(self.read(start, size)):
                found = image.range_at(start + offset) or found
                counts[found.name] = counts.get(found.name, 0) + executions
        return dict(sorted(counts.items()))
