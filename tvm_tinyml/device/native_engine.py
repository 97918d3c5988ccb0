"""Run Cortex-M code on the project's own instruction-set simulator, ``native/``."""

from __future__ import annotations

import ctypes
import importlib
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tvm_tinyml.device import faults
from tvm_tinyml.device.engine import EdgeProfile, Run
from tvm_tinyml.device.faults import Faults, code_text
from tvm_tinyml.device.loader import Image
from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.device.watch import Event, LineBuffer, Watch
from tvm_tinyml.errors import DeviceError

# Tables of encodings, as in machine.h.
(
    ARMV6M,
    ARMV7M,
    DSP,
    FP_SINGLE,
    FP_DOUBLE,
    FP_V5,
    ARMV8M,
    ARMV81M,
    HELIUM,
    HELIUM_FLOAT,
    FP_HALF,
) = (1 << i for i in range(11))

CORE_FEATURES = {
    "cortex-m0plus": ARMV6M,
    "cortex-m3": ARMV6M | ARMV7M,
    "cortex-m4": ARMV6M | ARMV7M | DSP | FP_SINGLE,
    "cortex-m7": ARMV6M | ARMV7M | DSP | FP_SINGLE | FP_V5 | FP_DOUBLE,
    "cortex-m33": ARMV6M | ARMV7M | ARMV8M | DSP | FP_SINGLE | FP_V5,
    "cortex-m55": (1 << 11) - 1,
    "cortex-m85": (1 << 11) - 1,
}

_LEFT_OUT = {
    "nodsp": DSP | HELIUM | HELIUM_FLOAT,
    "nofp": FP_SINGLE | FP_DOUBLE | FP_V5 | FP_HALF | HELIUM_FLOAT,
    "nofp.dp": FP_DOUBLE,
    "nomve": HELIUM | HELIUM_FLOAT,
    "nomve.fp": HELIUM_FLOAT,
}

# Why a run ended, as in machine.h.
(
    RUNNING,
    RETURNED,
    BUDGET_SPENT,
    OUT_OF_MEMORY,
    READ_FAULT,
    WRITE_FAULT,
    READ_ONLY,
    NO_CODE,
    ARM_STATE,
    UNDEFINED,
    LACKING,
    UNPREDICTABLE,
    UNSUPPORTED,
    FLOAT_MODE,
    BREAKPOINT,
    SERVICE,
    WAITING,
    MISALIGNED,
    MISALIGNED_WORDS,
) = range(19)

_REASONS = {
    BREAKPOINT: faults.BREAKPOINT,
    SERVICE: faults.SERVICE,
    WAITING: faults.WAITING,
    MISALIGNED: faults.MISALIGNED,
}

_INSTRUCTIONS = {
    UNDEFINED: "it executes an undefined instruction",
    UNPREDICTABLE: "it executes an instruction whose effect is unpredictable by the architecture manual",
    UNSUPPORTED: "it uses a special register or a security state, which the simulator does not have",
}

_AT_ADDRESS = (MISALIGNED, ARM_STATE)

SP, LR, APSR, FPSCR, STATE_WORDS = 13, 14, 48, 49, 50
"""Places in the state of the processor; s0 to s31 are in between."""


class _Region(ctypes.Structure):
    _fields_ = (("origin", ctypes.c_uint32), ("size", ctypes.c_uint32), ("bytes", ctypes.c_void_p))

    @classmethod
    def of(cls, region: Region, memory: mmap.mmap) -> _Region:
        """Describe a region to the extension."""
        return cls(region.origin, region.size_bytes, ctypes.addressof(ctypes.c_char.from_buffer(memory)))


def _zeros(size_bytes: int) -> mmap.mmap:
    """Reserve pages that take no memory until they are touched, and that a forked process does not share."""
    if sys.platform == "win32":
        return mmap.mmap(-1, size_bytes)
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def native_engine_missing() -> str:
    """Why the extension cannot be used; empty if it can."""
    try:
        _library()
    except (ImportError, OSError) as error:
        return str(error)
    return ""


class NativeEngine:
    """One Cortex-M; see ``Engine`` for the methods.

    Parameters
    ----------
    core : one of ``CORE_FEATURES``.
    memory : the regions to map. Flash is readable and executable, RAM and stack are readable and writable.
    check_alignment : stop at misaligned LDM, LDRD, VLDR and the like, as a Cortex-M3 or later does. Costs nothing.
        (The M0+ refuses every misaligned access.)
    features : what a part leaves out, as in targets' names: ``nodsp``, ``nofp``, ``nofp.dp``.

    Raises
    ------
    DeviceError : the extension is not built, or core or features are unknown.
    """

    def __init__(
        self,
        core: str,
        memory: MemoryMap | None = None,
        *,
        check_alignment: bool = False,
        features: Sequence[str] = (),
    ) -> None:
        if core not in CORE_FEATURES:
            raise DeviceError(f"the simulator cannot run '{core}'; it runs {', '.join(CORE_FEATURES)}")
        has = CORE_FEATURES[core]
        for feature in features:
            if feature not in _LEFT_OUT:
                raise DeviceError(f"a core cannot be simulated with '{feature}'; known are {', '.join(_LEFT_OUT)}")
            has &= ~_LEFT_OUT[feature]
        if reason := native_engine_missing():
            raise DeviceError(f"the native simulator is not built ({reason}): install tvm_tinyml with a C compiler")
        self._library = _library()
        self.core = core
        self.memory = memory or MemoryMap()
        self._faults = Faults(core)
        regions = (self.memory.flash, self.memory.ram, self.memory.stack)
        self._bytes = {region: _zeros(region.size_bytes) for region in regions}
        places = (_Region * 3)(*(_Region.of(region, self._bytes[region]) for region in regions))
        self._open_machine: int | None = self._library.tinyml_machine_new(
            has, check_alignment, self.memory.exit_address, places
        )
        if not self._open_machine:
            raise DeviceError("no memory for the simulator")
        self._watch: Watch | None = None

    def load(self, image: Image) -> None:
        """See ``Engine.load``."""
        for segment in (*image.flash, *image.ram):
            self.write(segment.address, segment.data)
        self._faults.image = image

    def write(self, address: int, data: bytes) -> None:
        """See ``Engine.write``."""
        memory, place = self._place(address, len(data))
        memory[place] = data
        if self.memory.flash.contains(address):
            self._library.tinyml_machine_forget_code(self._machine)

    def read(self, address: int, size_bytes: int) -> bytes:
        """See ``Engine.read``."""
        memory, place = self._place(address, size_bytes)
        return memory[place]

    def run(
        self, entry: int, registers: Sequence[int], stack_pointer: int, budget: int, watch: Watch | None = None
    ) -> Run:
        """See ``Engine.run``."""
        state = [0] * STATE_WORDS
        state[: len(registers)] = registers
        state[SP], state[LR] = stack_pointer, self.memory.exit_address | 1
        if watch != self._watch:
            self._set_watch(watch)
        words = (ctypes.c_uint32 * STATE_WORDS)(*state)
        status = self._library.tinyml_machine_run(self._machine, entry, words, budget)
        if status != RETURNED:
            self._raise_fault(status, entry, words[LR], budget)
        return self._result(words[0], watch)

    def close(self) -> None:
        """See ``Engine.close``."""
        if self._open_machine is not None:
            self._library.tinyml_machine_free(self._open_machine)
            self._open_machine = None
            self._bytes.clear()

    def __del__(self) -> None:
        """Give the memory back also when nobody called ``close``."""
        if getattr(self, "_open_machine", None) is not None:
            self.close()

    @property
    def _machine(self) -> int:
        if self._open_machine is None:
            raise self._closed()
        return self._open_machine

    def _closed(self) -> DeviceError:
        return DeviceError(f"the simulator of {self.core} is closed; make a new one")

    def _place(self, address: int, size_bytes: int) -> tuple[mmap.mmap, slice]:
        if self._open_machine is None:
            raise self._closed()
        region = self.memory.region_of(address, size_bytes)
        start = address - region.origin
        return self._bytes[region], slice(start, start + size_bytes)

    def _set_watch(self, watch: Watch | None) -> None:
        start, size = (watch.region.origin, watch.region.size_bytes) if watch else (0, 0)
        buffers = (watch.data, watch.code) if watch else (None, None)
        shapes = [number for buffer in buffers for number in _shape(buffer)]
        self._watch = None
        if not self._library.tinyml_machine_watch(self._machine, start, size, *shapes):
            raise DeviceError("no memory to watch the run")
        self._watch = watch

    def _result(self, r0: int, watch: Watch | None) -> Run:
        library, machine = self._library, self._machine
        blocks, edges = library.tinyml_machine_block_count(machine), library.tinyml_machine_edge_count(machine)
        start, size, instructions = (np.empty(blocks, np.uint32) for _ in range(3))
        source, target = (np.empty(edges, np.int32) for _ in range(2))
        count, events = np.empty(edges, np.uint64), np.empty((blocks, len(Event)), np.uint64)
        library.tinyml_machine_blocks(machine, *(a.ctypes.data for a in (start, size, instructions, events)))
        library.tinyml_machine_edges(machine, *(a.ctypes.data for a in (source, target, count)))
        order = np.lexsort((target, source))
        profile = EdgeProfile(start, size, instructions, source[order], target[order], count[order])
        if watch and not watch.alignment:
            events[:, [Event.HALFWORD_AT_ODD, Event.WORD_AT_EVEN, Event.WORD_AT_ODD]] = 0
        return Run(r0, profile, events if watch else None)

    def _raise_fault(self, status: int, entry: int, return_address: int, budget: int) -> None:
        numbers = (ctypes.c_uint32 * 3)()
        name = self._library.tinyml_machine_fault(self._machine, numbers)
        pc, address, size = numbers
        if status == BUDGET_SPENT:
            raise self._faults.budget(entry, pc, budget)
        if status == OUT_OF_MEMORY:
            raise DeviceError(f"no memory left to count the run, at {self._faults.describe(pc)}")
        if status in (READ_FAULT, WRITE_FAULT, READ_ONLY):
            verb = "reads" if status == READ_FAULT else "writes"
            raise self._faults.access(pc, verb, address, size, read_only=status == READ_ONLY)
        if status == MISALIGNED_WORDS:
            raise self._faults.misaligned_words(pc, address)
        if status == NO_CODE:
            raise self._faults.jump(pc, return_address)
        raise self._faults.fault(
            pc, self._reason(status, pc, address, name), address if status in _AT_ADDRESS else None
        )

    def _reason(self, status: int, pc: int, address: int, name: bytes | None) -> str:
        if status == ARM_STATE:
            return f"it jumps to {address:#010x}, an even address: that would be Arm code"
        if status == FLOAT_MODE:
            return f"it writes {address:#010x} to FPSCR: only rounding to nearest, with denormals, is simulated"
        if status == LACKING and name:
            return f"it executes {name.decode().split('_')[0].upper()}, which this core does not have"
        if status in _INSTRUCTIONS:
            code = self.read(pc, 4) if self.memory.flash.contains(pc, 4) else self.read(pc, 2)
            return f"{_INSTRUCTIONS[status]}; the code there is {code_text(code)}"
        return _REASONS[status]


@dataclass(frozen=True)
class Encoding:
    """An instruction that the simulator knows.

    pattern : 16 or 32 signs from the top bit on; 0 and 1 are themselves, all others stand for either.
    features : bits of those that a core must have.
    """

    pattern: str
    name: str
    features: int


def encodings() -> list[Encoding]:
    """Return all encodings, in the order in which they are looked for. ImportError or OSError without the extension."""
    library = _library()
    found: list[Encoding] = []
    name, features = ctypes.c_char_p(), ctypes.c_uint32()
    while pattern := library.tinyml_machine_pattern(len(found), ctypes.byref(name), ctypes.byref(features)):
        found.append(Encoding(pattern.decode().replace(" ", ""), (name.value or b"").decode(), features.value))
    return found


def _shape(buffer: LineBuffer | None) -> tuple[int, int]:
    return (buffer.line_shift, buffer.lines) if buffer else (0, 0)


def _library() -> Any:
    """Return the extension as a plain library. ImportError or OSError if that fails."""
    module = importlib.import_module("tvm_tinyml.device._machine")
    if module.__file__ is None:
        raise ImportError("the extension has no file")
    return _open(module.__file__)


@cache
def _open(path: str) -> Any:
    library = ctypes.CDLL(path)
    pointer, u32, u64, integer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "new": (pointer, [u32, integer, u32, pointer]),
        "free": (None, [pointer]),
        "forget_code": (None, [pointer]),
        "watch": (integer, [pointer, *[u32] * 6]),
        "run": (integer, [pointer, u32, pointer, u64]),
        "fault": (ctypes.c_char_p, [pointer, pointer]),
        "block_count": (u32, [pointer]),
        "edge_count": (u32, [pointer]),
        "blocks": (None, [pointer] * 5),
        "edges": (None, [pointer] * 4),
        "pattern": (ctypes.c_char_p, [u32, pointer, pointer]),
    }
    for name, (result, arguments) in signatures.items():
        if not hasattr(library, f"tinyml_machine_{name}"):
            raise ImportError("it was built from another version's source")
        function = getattr(library, f"tinyml_machine_{name}")
        function.restype, function.argtypes = result, arguments
    return library
