"""Words of a depthwise convolution, for cores that issue one instruction at a time.

Everything lies in floating-point registers, a cycle away, and on the stack where they are too few. Both pixels are
loaded together: loads that follow each other take a cycle each. A word is fetched some instructions before it is used,
since a Cortex-M33 waits for it.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput
from tvm_tinyml.targets.cortex_m.microkernels.words_code import CHANNELS, HALVES, SUMS, Code, on_stack, product, put

_REGISTERS = 32

_A, _B = "r2", "r3"
"""What was loaded of each pixel."""

_T, _W = "r12", "lr"


class InOrder(Code):
    """See `Code`."""

    @property
    def homes(self) -> dict[str, str]:
        """See `Code.homes`."""
        # What is used once for two pixels comes last, where registers end.
        names = [*self.of_group, *(f"offset{k}" for k in range(1, self.taps)), "y_step", "x_steps", "y", "last"]
        return dict(zip(names, [*(f"s{i}" for i in range(_REGISTERS)), *on_stack(len(names))], strict=False))

    @property
    def pointers(self) -> tuple[str, ...]:
        """See `Code.pointers`."""
        return "r0", "r1"

    @property
    def save(self) -> list[str]:
        """Save the registers that belong to the caller."""
        return [f"vpush {registers}" for registers in self._saved]

    @property
    def restore(self) -> list[str]:
        """See `save`."""
        return [f"vpop {registers}" for registers in self._saved]

    @property
    def _saved(self) -> list[str]:
        used = [home for home in self.homes.values() if home.startswith("s")]
        return [f"{{s16-{used[-1]}}}"] if len(used) > 16 else []

    def keep_offsets(self, offsets: int, x_step: int) -> list[str]:
        """See `Code.keep_offsets`."""
        return [
            line
            for k in range(1, self.taps)
            for line in (f"ldr r2, [r1, #{offsets + 4 * k}]", put(self.homes[f"offset{k}"], "r2"))
        ]

    def keep_constants(self) -> list[str]:
        """See `Code.keep_constants`."""
        return [f"vldmia r0!, {{s0-s{len(self.of_group) - 1}}}"]

    def pair(self) -> list[str]:
        """See `Code.pair`."""
        load = {1: "ldr", 2: "ldrh", 4: "ldrsb"}[self.shared]
        tap = {1: self._words, 2: self._halves, 4: self._bytes}[self.shared]
        lines = [f"{load} {_B}, [r1]", f"{load} {_A}, [r0]", *self.get("weights0", _W)]
        lines += [line for i, register in enumerate(SUMS[0]) for line in self.get(f"bias{i}", register)]
        lines += self.get("weights1", _T) if self.shared > 1 else []
        lines += [line for k in range(self.taps) for line in tap(k, load)]
        return [*lines, *self._epilogue()]

    def _words(self, k: int, load: str) -> list[str]:
        """Return the products of a tap with words in A and B, and the loads of the next tap's."""
        lines = [f"sxtb16 {_T}, {_B}", *_both(1, (0, 2), _T, k), f"sxtb16 {_T}, {_A}", *_both(0, (0, 2), _T, k)]
        lines += [*self.get(f"weights{2 * k + 1}", _W), f"sxtb16 {_B}, {_B}, ror #8", f"sxtb16 {_A}, {_A}, ror #8"]
        lines += [*self.get(f"offset{k + 1}", _T), *_both(1, (1, 3), _B, k), *_both(0, (1, 3), _A, k)]
        lines += self.get(f"weights{2 * k + 2}", _W)
        return [*lines, *self.behind(k, f"{load} {_B}, [r1, {_T}]", f"{load} {_A}, [r0, {_T}]")]

    def _halves(self, k: int, load: str) -> list[str]:
        """Return the same with two channels of both pixels, each with two outputs."""
        lines = [f"pkhbt {_A}, {_A}, {_B}, lsl #16", f"sxtb16 {_B}, {_A}, ror #8", f"sxtb16 {_A}, {_A}"]
        lines += [product(pixel, i, _A, _W, half, k) for pixel, i, half in HALVES[0]]
        lines += [*self.get(f"offset{k + 1}", _A), *self.get(f"weights{2 * k + 2}", _W)]
        lines += [product(pixel, i, _B, _T, half, k) for pixel, i, half in HALVES[1]]
        lines += self.behind(k, f"{load} {_B}, [r1, {_A}]", f"{load} {_A}, [r0, {_A}]")
        return [*lines, *self.get(f"weights{2 * k + 3}", _T)]

    def _bytes(self, k: int, load: str) -> list[str]:
        """Return the same with one channel of both pixels, each with four outputs."""
        lines = [product(1, i, _B, weights, half, k) for i, weights, half in _BYTES]
        lines += self.get(f"offset{k + 1}", _B)
        lines += [product(0, i, _A, weights, half, k) for i, weights, half in _BYTES]
        lines += [*self.get(f"weights{2 * k + 2}", _W), *self.get(f"weights{2 * k + 3}", _T)]
        return [*lines, *self.behind(k, f"{load} {_A}, [r0, {_B}]", f"{load} {_B}, [r1, {_B}]")]

    def _epilogue(self) -> list[str]:
        """Round and store both pixels, and go on to the next two."""
        form, lines = self.output, []
        for first in range(0, CHANNELS, 2):
            spare = ((first, _W, _T), (first + 1, _A, _B))
            for i, multiplier, constant in spare:
                lines += [*self.get(f"multiplier{i}", multiplier), *self.get(f"constant{i}", constant)]
            for i, multiplier, constant in spare:
                lines += [line for pixel in SUMS for line in form.scale(pixel[i], multiplier, constant)]
        lines += [*self.get("y", _A), *self.get("y_step", _T)]
        if isinstance(form, ScaledOutput):
            lines += [line for pixel in SUMS for total in pixel for line in form.bound(total)]
        else:
            lines += self.get("shifts", _W)
            for i in range(CHANNELS):  # a shift is the lowest byte of its register
                lines += [f"lsr {_W}, {_W}, #8"] if i else []
                lines += [line for pixel in SUMS for line in form.bound(pixel[i], _W)]
        lines += [*self.get("x_steps", _W), f"add {_B}, {_A}, {_T}", f"add r0, r0, {_W}", f"add r1, r1, {_W}"]
        for y, pixel in zip((_A, _B), SUMS, strict=True):
            lines += [f"strb {total}, [{y}, #{i}]" for i, total in enumerate(pixel)]
        return [*lines, f"add {_A}, {_B}, {_T}", put(self.homes["y"], _A)]


def _both(pixel: int, channels: tuple[int, int], x: str, tap: int) -> list[str]:
    """Return two products of halves at the same place."""
    return [product(pixel, i, x, _W, half, tap) for i, half in zip(channels, ("bb", "tt"), strict=True)]


_BYTES = ((0, _W, "bb"), (1, _W, "bt"), (2, _T, "bb"), (3, _T, "bt"))
"""Output, weights and halves."""
