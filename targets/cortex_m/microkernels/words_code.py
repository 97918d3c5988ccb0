"""What an order of instructions has to offer to `depthwise_words`, and what all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tvm_tinyml.targets.cortex_m.microkernels.output import Output
from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput

CHANNELS = 4
"""Of a group: outputs of one pixel."""

ROOM = 32
"""Bytes of the stack that the loops around the pixels have for themselves."""

SUMS = (("r4", "r5", "r6", "r7"), ("r8", "r9", "r10", "r11"))
"""Of each pixel."""

HALVES = (
    ((1, 0, "tb"), (1, 1, "tt"), (0, 0, "bb"), (0, 1, "bt")),
    ((1, 2, "tb"), (1, 3, "tt"), (0, 2, "bb"), (0, 3, "bt")),
)
"""Pixel, output and halves of the products of two channels, where both pixels share a word."""


@dataclass(frozen=True)
class Code(ABC):
    """The instructions inside the loop over pairs of pixels, and where they find what does not change there.

    The fields are those of `depthwise_words.Words`.
    """

    taps: int
    shared: int
    output: Output | ScaledOutput

    @cached_property
    def of_group(self) -> list[str]:
        """Names of the words of a group's constants, in order."""
        each = [f"{kind}{i}" for kind in ("bias", "multiplier", "constant") for i in range(CHANNELS)]
        shifts = [] if isinstance(self.output, ScaledOutput) else ["shifts"]
        return [*each, *shifts, *(f"weights{i}" for i in range(2 * self.taps))]

    @property
    @abstractmethod
    def homes(self) -> dict[str, str]:
        """Where what has a name lies: a floating-point register, or a word of the stack behind `ROOM`.

        Beside the constants of a group ``y``, where the next pair is stored, ``last``, where the last pixel's window
        begins, ``y_step`` from an output to the next and ``x_steps`` from a pair's window to the next pair's.
        """

    @property
    @abstractmethod
    def pointers(self) -> Sequence[str]:
        """Registers of the windows: r0 of the first pixel, and r1 if the second one has its own."""

    @property
    def save(self) -> list[str]:
        """What is done before registers are pushed."""
        return []

    @property
    def restore(self) -> list[str]:
        """What is done before the return."""
        return []

    @abstractmethod
    def keep_offsets(self, offsets: int, x_step: int) -> list[str]:
        """Return what brings the taps' offsets to their places from the geometry in r1; r2 and r3 are overwritten."""

    @abstractmethod
    def keep_constants(self) -> list[str]:
        """Return what brings a group's constants to their places from where r0 points to, and beyond which it ends."""

    @abstractmethod
    def pair(self) -> list[str]:
        """Return what computes two pixels and goes on to the next two."""

    def get(self, name: str, register: str) -> list[str]:
        """Fetch what has a name, or nothing: what there would be behind the last tap or channel."""
        home = self.homes.get(name)
        return [get(home, register)] if home else []

    def behind(self, tap: int, *lines: str) -> list[str]:
        """Return the lines if there is a tap behind this one."""
        return list(lines) if tap + 1 < self.taps else []


def get(home: str, register: str) -> str:
    """Return the instruction that fetches a word."""
    return f"{'vmov' if home.startswith('s') else 'ldr'} {register}, {home}"


def put(home: str, register: str) -> str:
    """Return the instruction that keeps a word."""
    return f"vmov {home}, {register}" if home.startswith("s") else f"str {register}, {home}"


def product(pixel: int, channel: int, x: str, weights: str, halves: str, tap: int) -> str:
    """Return a product; both pixels begin with the bias, which lies in the first one's sum: the second one begins."""
    total, bias = SUMS[pixel][channel], SUMS[0][channel]
    return f"smla{halves} {total}, {x}, {weights}, {total if tap else bias}"


def on_stack(words: int) -> list[str]:
    """Return places for so many words."""
    return [f"[sp, #{ROOM + 4 * i}]" for i in range(words)]
