"""What a user can choose about a build."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tvm_tinyml.device.timing import MemoryTiming, load_memory, memory_names
from tvm_tinyml.errors import DeviceError, TargetError

CHOICES: Mapping[str, Sequence[str]] = {
    "goal": ("time", "balanced", "ram", "flash"),
    "io": ("caller", "workspace"),
    "weights": ("flash", "ram"),
    "emit": ("lib", "c", "both"),
}

OPTIONAL_PASSES = (
    "tinyml.FoldConstants",
    "tinyml.SimplifyTransposes",
    "tinyml.SimplifyReshapes",
    "EliminateCommonSubexpr",
    "tinyml.TabulateFunctions",
    "tinyml.FuseLookups",
    "tinyml.FoldPads",
    "tinyml.RemoveDeadChannels",
    "tinyml.SplitNarrowLayers",
    "tinyml.OrderOperators",
    "tinyml.ChooseKernels",
    "tinyml.FuseAdds",
    "tinyml.FusePools",
    "tinyml.AssignLayouts",
    "tinyml.ApplyRecipes",
    "tinyml.PackWeights",
    "tinyml.UnpackInKernels",
    "tinyml.ApplySchedules",
)
"""Passes that a build can do without; the others are needed for a program to come out at all."""


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes
    ----------
    goal : what to favour where a choice costs something else. ``time``, ``balanced`` and ``ram`` allow kernels less and
        less scratch, and ``ram`` computes layers in stripes of rows; ``flash`` takes the smallest code.
    io : inputs and outputs are the caller's buffers, or live in the workspace.
    weights : constants stay in flash, or are initialized data that start-up code copies to RAM. In flash they stay but
        for those that fill a limit of RAM, with the goal ``time`` and a memory that waits.
    emit : the archive of objects, the C sources, or both.
    memory : what code and constants lie in, for every figure in cycles, and for the choice of constants that fill the
        RAM: a name of ``memory_names()``, or the path of a file of that form, ending in ``.toml``.
    disabled_passes : names of optional passes to leave out, for finding faults.
    ram_limit_bytes, flash_limit_bytes : what the device has to spare; a library that takes more is an error. To keep to
        the RAM, layers are computed in stripes of rows whatever the goal. With the goal ``time``, what is left holds
        constants that would wait for the flash longest.

    pools : names and sizes in bytes of the memories that activations and scratch may lie in, the fastest first; what is
        touched most goes there. None: one of any size, ``sram``.
    tuning_log : folder with records of ``tune``, which go before those that come with the package.
    require_tuned : operators without a record are an error.

    Raises
    ------
    TargetError : a value that is not offered.
    """

    goal: str = "balanced"
    io: str = "caller"
    weights: str = "flash"
    emit: str = "both"
    memory: str = "zero-wait"
    disabled_passes: Sequence[str] = ()
    ram_limit_bytes: int | None = None
    flash_limit_bytes: int | None = None
    pools: Mapping[str, int] = field(default_factory=dict)
    tuning_log: str | None = None
    require_tuned: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise TargetError(
                    f"Option {name} does not take {value!r}.{nearest(value, choices)} Known: {', '.join(choices)}."
                )
        memory_timing(self.memory)
        if self.require_tuned:
            self._check_tuned()
        for name in ("ram_limit_bytes", "flash_limit_bytes"):
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise TargetError(f"Option {name} takes a number of bytes above 0, and {limit} is given.")
        for name, size in self.pools.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or size <= 0:
                raise TargetError(
                    f"A pool has a name of small letters, digits and _, and a size in bytes above 0: "
                    f"{name!r} of {size} is none. Give such as dtcm=65536."
                )
        if isinstance(self.disabled_passes, str):
            raise TargetError(f"disabled_passes takes a list of names. Give [{self.disabled_passes!r}].")
        for name in self.disabled_passes:
            if name not in OPTIONAL_PASSES:
                raise TargetError(
                    f"Pass {name!r} cannot be disabled.{nearest(name, OPTIONAL_PASSES)} "
                    f"Optional passes: {', '.join(OPTIONAL_PASSES)}."
                )

    def _check_tuned(self) -> None:
        """Refuse what takes no choices from a log."""
        untuned = {
            "flash": "takes the smallest code, tuned or not",
            "ram": "computes layers in stripes of rows, which are not tuned",
        }
        if self.goal in untuned:
            raise TargetError(f"Goal {self.goal!r} {untuned[self.goal]}: leave out require_tuned.")
        if "tinyml.ChooseKernels" in self.disabled_passes:
            raise TargetError("Option require_tuned needs the pass tinyml.ChooseKernels, and it is disabled.")

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain values; of the tuning log not where it lies, so that builds can be compared."""
        plain = {**asdict(self), "disabled_passes": list(self.disabled_passes), "pools": dict(self.pools)}
        return {**plain, "tuning_log": self.tuning_log is not None}


def memory_timing(memory: str) -> MemoryTiming:
    """Return how a memory behaves that an option names.

    Raises
    ------
    TargetError : there is no such memory, or its file is not complete.
    """
    if memory.endswith(".toml"):
        try:
            return load_memory(Path(memory))
        except DeviceError as error:
            raise TargetError(f"{error}.") from error
    if memory not in memory_names():
        raise TargetError(
            f"There is no memory named {memory!r}.{nearest(memory, memory_names())} "
            f"Known: {', '.join(memory_names())}, or a file that ends in .toml (docs/cycle-model.md)."
        )
    return load_memory(memory)


def nearest(name: str, choices: Sequence[str]) -> str:
    """Return " Did you mean ...?", or nothing when no choice is near."""
    close = difflib.get_close_matches(str(name), choices, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
