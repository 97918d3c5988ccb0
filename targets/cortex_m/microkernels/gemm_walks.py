"""How a matrix product of packed pixels (see `gemm`) walks through the reduction, from tile to tile and on to a pair.

Two ways. `Steps` knows the length of the reduction: lengths whose loops have the same body share code. `AnySteps` reads
it from memory: one function for all layers, which takes about five cycles more a tile. It enters its loop where as many
steps are left as make whole turns of all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

PIXELS = 4
"""Of one tile; pixels come in multiples of it."""

K_STEP = 2
"""Products of one step: the reduction is padded to a multiple of it."""

UNROLL, LONGEST = 8, 12
"""Steps in the body of the loop, and together with the rest behind it, at most. More would save little, and would not
fit a flash cache of 1 KiB beside the epilogue."""

ANY_UNROLL = 12
"""Steps in the body of the loop that is entered anywhere."""

Step = Callable[[int, bool], list[str]]
"""From the number of a step to its instructions. It loads weights at r0 + 4 * number + 4 and the pixels' two words at
r1 + 8 * number + 4; the last step advances both registers behind all."""

_COPY = "[sp, #56]"
_NEXT, _X, _Y, _BYTES, _COUNT, _ENTRY = (f"[sp, #{offset}]" for offset in (0, 4, 8, 12, 14, 48))


class Walk(Protocol):
    """See above.

    Attributes
    ----------
    name : of all that the code depends on.
    """

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""

    def prepare(self) -> list[str]:
        """Return what is done once: r1 and r3 are activations and their end less 4, r7 is the gap."""

    def start(self) -> list[str]:
        """Return what is done for each pair: r0 is its weights less 4, r4 their bytes."""

    def reduction(self, step: Step) -> list[str]:
        """Return the products of a tile."""

    def tiles(self, sums: list[str], tile: list[str]) -> list[str]:
        """Return the loop over tiles; ``sums`` begins one, which leaves its output in r5."""

    def behind(self) -> list[str]:
        """Return data behind the code."""


def stores(pixels: Sequence[Sequence[str]], *, planes: bool) -> list[str]:
    """Return the stores of a tile, of the registers of each pixel's channels; r5 is behind it then.

    s10 is the step between pixels, or between planes, s11 where to. Pixels have two pointers that take turns, so that
    none is used right behind its addition; planes have one each.
    """
    lines = ["vmov r5, s11", "vmov r2, s10"]
    if planes:
        lines += ["add r3, r5, r2"] if len(pixels[0]) == 2 else []
        for pointer, channel in zip(("r5", "r3"), zip(*pixels, strict=True), strict=False):
            lines += [f"strb {register}, [{pointer}, #{i}]" for i, register in enumerate(channel)]
        return [*lines, f"adds r5, #{PIXELS}"]
    here, there = "r5", "r3"
    for registers in pixels:
        lines += [f"add {there}, {here}, r2", *(f"strb {r}, [{here}, #{i}]" for i, r in enumerate(registers))]
        here, there = there, here
    return lines


def kernel_lines(
    walk: Walk, sums: list[str], tile: list[str], *, head: int, width: int, planes: bool = False
) -> list[str]:
    """Return the loop over pairs of channels, or over single ones, around the tiles.

    What does not change in the loop over tiles lives in the floating-point registers: one cycle to fetch, no address
    needed. s0 to s9 the constants of a pair or channel, s10 the step of `stores`, s11 output, s12 end of the looped
    weights, s13 weights, s14 the gap, s15 end of the activations. On the stack: the next constants, activations, the
    pair's first output, bytes of its weights and the number of pairs left in halves of a word; where the loop is
    entered.

    Parameters
    ----------
    head : words of constants in front of a pair's weights.
    width : channels of a pair, 2 or 1.
    planes : each channel's outputs lie behind each other.
    """
    onward = ["vmov r4, s10", f"add r2, r2, r4, lsl #{width - 1}"] if planes else [f"adds r2, #{width}"]
    return [
        *("push {r0-r12, lr}", "ldm r0!, {r4-r7}", "subs r1, #4", "subs r3, #4", "orr r6, r6, r5, lsl #16"),
        *(f"str r6, {_BYTES}", "vmov s10, r4", *walk.prepare(), f"str r1, {_X}", "vmov s15, r3"),
        *("3:", f"vldmia r0!, {{s0-s{head - 1}}}", f"ldrh r4, {_BYTES}", f"ldr r2, {_COPY}", "adds r3, r0, r4"),
        *(f"str r3, {_NEXT}", "cbz r2, 5f", "4:", "ldm r0!, {r4-r11}", "stm r2!, {r4-r11}", "cmp r0, r3", "blo 4b"),
        *(f"ldr r0, {_COPY}", f"ldrh r4, {_BYTES}", "5:", "subs r0, #4", *walk.start(), "vmov s13, r0"),
        *(f"ldr r1, {_X}", f"ldr r2, {_Y}", "vmov s11, r2", *walk.tiles(sums, tile)),
        *(f"ldr r2, {_Y}", f"ldrh r3, {_COUNT}", f"ldr r0, {_NEXT}", *onward, f"str r2, {_Y}"),
        *("subs r3, #1", f"strh r3, {_COUNT}", "bne 3b", "add sp, #16", "pop {r4-r12, pc}", *walk.behind()),
    ]


@dataclass(frozen=True)
class Steps:
    """A loop with ``body`` steps, then ``rest`` steps straight on.

    Turns are no part of the code: the constants tell where the loop ends.
    """

    loops: bool
    body: int
    rest: int

    @classmethod
    def of(cls, steps: int) -> Steps:
        """Return the fewest turns among loops whose code is short enough for a flash cache."""
        if steps <= LONGEST:
            return cls(False, 0, steps)
        bodies = [body for body in range(UNROLL, UNROLL // 2 - 1, -1) if body + steps % body <= LONGEST]
        body = min(bodies, key=lambda body: steps // body)
        return cls(True, body, steps % body)

    @property
    def name(self) -> str:
        """See `Walk.name`."""
        return f"{self.body}_{self.rest}"

    def prepare(self) -> list[str]:
        """See `Walk.prepare`."""
        return []

    def start(self) -> list[str]:
        """See `Walk.start`."""
        if not self.loops:
            return []
        return ["add r4, r0", *(["subs r4, #" + str(4 * self.rest)] if self.rest else []), "vmov s12, r4"]

    def reduction(self, step: Step) -> list[str]:
        """See `Walk.reduction`."""
        lines: list[str] = []
        if self.loops:
            lines += [".p2align 2", "2:"]
            for i in range(self.body):
                lines += step(i, i == self.body - 1)
            lines += ["vmov r2, s12", "cmp r0, r2", "bne 2b"]
        for i in range(self.rest):
            lines += step(i, i == self.rest - 1)
        return lines

    def tiles(self, sums: list[str], tile: list[str]) -> list[str]:
        """See `Walk.tiles`."""
        lines = [".p2align 2", "1:", *sums, *tile, "vmov r2, s15", "vmov s11, r5"]
        return [*lines, "cmp r1, r2", "it ne", "vmovne r0, s13", "bne 1b"]

    def behind(self) -> list[str]:
        """See `Walk.behind`."""
        return []


@dataclass(frozen=True)
class AnySteps:
    """One loop for any number of steps.

    The pointers begin a gap in front of what they read, so that the offsets of the step hold at which the loop is
    entered.
    """

    @property
    def name(self) -> str:
        """See `Walk.name`."""
        return "any"

    def gap_bytes(self, steps: int) -> int:
        """Return the bytes of pixels of the steps that are left out in the first turn."""
        return 8 * (-steps % ANY_UNROLL)

    def prepare(self) -> list[str]:
        """See `Walk.prepare`."""
        entry = ["adr.w r8, 8f", "add r8, r8, r7, lsr #2", "ldrh r8, [r8]", "adr.w r9, 20f", "add r8, r9"]
        entry += ["orr r8, r8, #1", f"str r8, {_ENTRY}"]
        return ["vmov s14, r7", "subs r1, r1, r7", "subs r3, r3, r7", *entry]

    def start(self) -> list[str]:
        """See `Walk.start`."""
        return ["add r4, r0", "vmov s12, r4", "vmov r4, s14", "sub r0, r0, r4, lsr #1"]

    def reduction(self, step: Step) -> list[str]:
        """See `Walk.reduction`."""
        steps = [[f"{20 + i}:", *step(i, i == ANY_UNROLL - 1)] for i in range(ANY_UNROLL)]
        return [line for lines in steps for line in lines] + ["vmov r2, s12", "cmp r0, r2", "bne 20b"]

    def tiles(self, sums: list[str], tile: list[str]) -> list[str]:
        """See `Walk.tiles`: the jump into the loop closes that over tiles."""
        lines = ["b 1f", ".p2align 2", *tile, "vmov r2, s14", "vmov r3, s15", "vmov s11, r5"]
        lines += ["subs r1, r1, r2", "cmp r1, r3", "beq 6f"]
        return [*lines, "1:", *sums, "vmov r0, s13", f"ldr pc, {_ENTRY}", "6:"]

    def behind(self) -> list[str]:
        """See `Walk.behind`: how far from the begin of the loop each step is."""
        return [".p2align 2", "8:", *(f".hword {20 + i}b - 20b" for i in range(ANY_UNROLL))]
