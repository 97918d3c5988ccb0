"""The file that the engine shares with the plugin inside of QEMU."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device.engine import OUTSIDE, EdgeProfile
from tvm_tinyml.device.watch import Event, Watch

READY, RUNNING, RETURNED, BUDGET_SPENT, STRAYED, WAITING = range(6)
"""States of a run, as in plugin.c: the engine sets the first, the plugin the rest. The last three want QEMU stopped."""

_RESULTS = 4096

_BLOCK = np.dtype([("start", "u4"), ("size", "u4"), ("instructions", "u4"), ("recent", "u4", 2)])
_EDGE = np.dtype([("source", "u4"), ("target", "u4"), ("count", "u8")])
_EVENTS = np.dtype([("count", "u8", len(Event))])


class Control(ctypes.Structure):
    """``control_t`` in plugin.c."""

    _fields_ = [
        ("left", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in "boot exit own_start own_end code_start code_end forget".split()),
        *((name, ctypes.c_uint32) for name in "watching watch_alignment watch_start watch_size".split()),
        *((name, ctypes.c_uint32) for name in "data_shift data_lines code_shift code_lines".split()),
        *((name, ctypes.c_uint32) for name in "state block_start block_count edge_count".split()),
    ]


class SharedCounts:
    """A file without a name; QEMU inherits its descriptor."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._file.truncate(_RESULTS)
        self.control = Control.from_buffer(mmap.mmap(self._file.fileno(), _RESULTS))

    @property
    def descriptor(self) -> int:
        """What the plugin opens."""
        return self._file.fileno()

    def set_watch(self, watch: Watch | None) -> None:
        """Count events from the next run on, or no more."""
        control = self.control
        control.forget = 1
        control.watching = watch is not None
        control.watch_alignment = bool(watch and watch.alignment)
        control.watch_start, control.watch_size = (watch.region.origin, watch.region.size_bytes) if watch else (0, 0)
        data, code = (watch.data, watch.code) if watch else (None, None)
        control.data_shift, control.data_lines = (data.line_shift, data.lines) if data else (0, 0)
        control.code_shift, control.code_lines = (code.line_shift, code.lines) if code else (0, 0)

    def profile(self) -> tuple[EdgeProfile, NDArray[np.uint64] | None]:
        """What the run counted that has just returned, and the events of its blocks if it was watched."""
        control = self.control
        blocks = self._read(_BLOCK, control.block_count, _RESULTS)
        behind = _RESULTS + blocks.nbytes
        edges = self._read(_EDGE, control.edge_count, behind)
        # Plugin and profile number differently: the plugin counts from 1 in the order of translation, over all runs.
        source, target = edges["source"].astype(np.int64), edges["target"].astype(np.int64)
        _, first = np.unique(target, return_index=True)
        ran = target[np.sort(first)]  # edges come in the order of their first use, so these do as well
        index = np.full(len(blocks) + 1, OUTSIDE, np.int32)
        index[ran] = np.arange(len(ran))
        order = np.lexsort((index[target], index[source]))
        start, size, instructions = (blocks[name][ran - 1] for name in ("start", "size", "instructions"))
        profile = EdgeProfile(
            start, size, instructions, index[source][order], index[target][order], edges["count"][order]
        )
        if not control.watching:
            return profile, None
        events = self._read(_EVENTS, control.block_count, behind + edges.nbytes)["count"]
        return profile, events[ran - 1]

    def close(self) -> None:
        """Give the file back; the memory goes with ``control``."""
        self._file.close()

    def _read(self, dtype: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
        return np.frombuffer(os.pread(self._file.fileno(), count * dtype.itemsize, offset), dtype)
