"""Words of a depthwise convolution, for cores that issue two instructions at a time.

Every second instruction is no product and goes with one. Everything lies on the stack: a load brings a word in a cycle,
where a floating-point register takes three. That also gives an offset to each tap of each pixel, so that one pointer
serves both, and the register of the other one holds a second word of weights. A tap of words takes 9 cycles for 8
products. Source: experiments with LLVM's model of the Cortex-M7.
"""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.scaled_output import ScaledOutput
from tvm_tinyml.targets.cortex_m.microkernels.words_code import CHANNELS, HALVES, SUMS, Code, on_stack, product, put

_A, _B, _T, _W, _V = "r1", "r2", "r3", "r12", "lr"
"""What was loaded of each pixel, spare, and two words of weights."""

_COPIED = ("r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11")


class Mixed(Code):
    """See `Code`."""

    @property
    def homes(self) -> dict[str, str]:
        """See `Code.homes`."""
        offsets = [f"offset{pixel}_{k}" for pixel in range(2) for k in range(self.taps) if pixel or k]
        names = [*self.of_group, *offsets, "y_step", "x_steps", "y", "last"]
        return dict(zip(names, on_stack(len(names)), strict=True))

    @property
    def pointers(self) -> tuple[str, ...]:
        """See `Code.pointers`."""
        return ("r0",)

    def keep_offsets(self, offsets: int, x_step: int) -> list[str]:
        """See `Code.keep_offsets`."""
        lines = [f"ldr r3, [r1, #{x_step}]", put(self.homes["offset1_0"], "r3")]
        for k in range(1, self.taps):
            lines += [f"ldr r2, [r1, #{offsets + 4 * k}]", put(self.homes[f"offset0_{k}"], "r2")]
            lines += ["adds r2, r2, r3", put(self.homes[f"offset1_{k}"], "r2")]
        return lines

    def keep_constants(self) -> list[str]:
        """See `Code.keep_constants`."""
        first = self.homes[self.of_group[0]].removeprefix("[sp, #").removesuffix("]")
        lines = [f"add r12, sp, #{first}"]
        turns, rest = divmod(len(self.of_group), len(_COPIED))
        for registers in (*[_COPIED] * turns, _COPIED[:rest]):
            if len(registers) == 1:  # there is no LDM of one
                lines += [f"ldr {registers[0]}, [r0], #4", f"str {registers[0]}, [r12]"]
            elif registers:
                lines += [f"{do}m {at}!, {{{', '.join(registers)}}}" for do, at in (("ld", "r0"), ("st", "r12"))]
        return lines

    def pair(self) -> list[str]:
        """See `Code.pair`."""
        tap = {1: self._words, 2: self._halves, 4: self._bytes}[self.shared]
        begin = {1: self._begin_words, 2: self._begin_halves, 4: self._begin_bytes}[self.shared]
        return [*begin(), *(line for k in range(self.taps) for line in tap(k)), *self._epilogue()]

    def _biases(self) -> list[str]:
        return [line for i, register in enumerate(SUMS[0]) for line in self.get(f"bias{i}", register)]

    def _begin_words(self) -> list[str]:
        lines = [*self.get("offset1_0", _B), *self.get("weights0", _W), *self._biases()]
        return [*lines, f"ldr {_B}, [r0, {_B}]"]

    def _words(self, k: int) -> list[str]:
        """Return the products of a tap, but for the last two, which go with the next one."""
        last = [product(0, i, _A, _V, half, k) for i, half in ((1, "bb"), (3, "tt"))]
        before = [product(0, i, _A, _V, half, k - 1) for i, half in ((1, "bb"), (3, "tt"))] if k else []
        lines = [f"sxtb16 {_T}, {_B}", *before, *self.get(f"weights{2 * k + 1}", _V), f"sxtb16 {_B}, {_B}, ror #8"]
        lines += [product(1, 0, _T, _W, "bb", k), product(1, 1, _B, _V, "bb", k), *self.get(f"offset0_{k}", _A)]
        lines += [product(1, 3, _B, _V, "tt", k), *self.get(f"offset1_{k + 1}", _B)]
        lines += [f"ldr {_A}, [r0, {_A}]" if k else f"ldr {_A}, [r0]", product(1, 2, _T, _W, "tt", k)]
        lines += [f"sxtb16 {_T}, {_A}", *self.behind(k, f"ldr {_B}, [r0, {_B}]"), f"sxtb16 {_A}, {_A}, ror #8"]
        lines += [product(0, 0, _T, _W, "bb", k), product(0, 2, _T, _W, "tt", k)]
        return [*lines, *(self.get(f"weights{2 * k + 2}", _W) or last)]

    def _begin_halves(self) -> list[str]:
        lines = [*self.get("offset1_0", _A), f"ldrh {_T}, [r0]", *self.get("weights0", _W), *self.get("weights1", _V)]
        return [*lines, f"ldrh {_A}, [r0, {_A}]", *self._biases()]

    def _halves(self, k: int) -> list[str]:
        """Return the products of a tap with two channels of both pixels, each with two outputs."""
        even = [product(pixel, i, _A, _W, half, k) for pixel, i, half in HALVES[0]]
        odd = [product(pixel, i, _B, _V, half, k) for pixel, i, half in HALVES[1]]
        lines = [f"pkhbt {_T}, {_T}, {_A}, lsl #16", f"sxtb16 {_A}, {_T}", f"sxtb16 {_B}, {_T}, ror #8"]
        lines += [even[0], *self.get(f"offset0_{k + 1}", _T), *even[1:], *self.get(f"offset1_{k + 1}", _A)]
        lines += [*self.behind(k, f"ldrh {_T}, [r0, {_T}]"), odd[0], odd[1], *self.get(f"weights{2 * k + 2}", _W)]
        lines += [*self.behind(k, f"ldrh {_A}, [r0, {_A}]"), odd[2], odd[3]]
        return [*lines, *self.get(f"weights{2 * k + 3}", _V)]

    def _begin_bytes(self) -> list[str]:
        lines = [*self.get("offset1_0", _B), f"ldrsb {_A}, [r0]", *self.get("weights0", _W)]
        return [*lines, *self.get("weights1", _V), f"ldrsb {_B}, [r0, {_B}]", *self._biases()]

    def _bytes(self, k: int) -> list[str]:
        """Return the products of a tap with one channel of both pixels, each with four outputs."""
        order = ((0, _W, "bb"), (1, _W, "bt"), (2, _V, "bb"), (3, _V, "bt"))
        b, a = ([product(pixel, i, x, w, half, k) for i, w, half in order] for pixel, x in ((1, _B), (0, _A)))
        lines = [b[0], b[1], *([f"ldrsb {_A}, [r0, {_A}]"] if k else []), b[2], b[3]]
        lines += [*self.get(f"offset1_{k + 1}", _B), a[0], a[1], *self.get(f"weights{2 * k + 2}", _W), a[2]]
        lines += [*self.behind(k, f"ldrsb {_B}, [r0, {_B}]"), a[3], *self.get(f"offset0_{k + 1}", _A)]
        return [*lines, *self.get(f"weights{2 * k + 3}", _V)]

    def _epilogue(self) -> list[str]:
        """Round and store both pixels, and go on to the next two: an output is bounded while the next one is scaled."""
        form = self.output
        own = not isinstance(form, ScaledOutput)
        lines = [*self.get("multiplier0", _T), *self.get("constant0", _W), *self.get("y", _A), *self.get("y_step", _B)]
        lines += [*self.get("shifts", _V), f"add {_B}, {_B}, {_A}"]
        for i in range(CHANNELS + 1):
            scaled = [line for pixel in SUMS if i < CHANNELS for line in form.scale(pixel[i], _T, _W)]
            bounds = [self._bound(pixel[i - 1]) if i else [] for pixel in SUMS]
            stores = [f"strb {pixel[i - 1]}, [{y}, #{i - 1}]" for pixel, y in zip(SUMS, (_A, _B), strict=True) if i]
            lines += [*bounds[0], *scaled, *self.get(f"constant{i + 1}", _W), *bounds[1], *stores[:1]]
            lines += [*self.get(f"multiplier{i + 1}", _T), *stores[1:], *([f"lsr {_V}, {_V}, #8"] if own and i else [])]
        lines += [*self.get("y_step", _T), *self.get("x_steps", _W), f"add {_B}, {_B}, {_T}", f"add r0, r0, {_W}"]
        return [*lines, put(self.homes["y"], _B)]

    def _bound(self, total: str) -> list[str]:
        form = self.output
        return form.bound(total) if isinstance(form, ScaledOutput) else form.bound(total, _V)
