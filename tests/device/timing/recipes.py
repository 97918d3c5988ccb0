"""The kernels that the model is compared with: generators of their assembly, data for them, plain references.

Three recipes for int8 on Cortex-M4. A run must give the reference's bytes, else its cycles do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from device.thumb import function
from numpy.typing import NDArray

from tvm_tinyml.device import CallResult, Simulator, assemble
from tvm_tinyml.device.timing import MemoryTiming

Ints = NDArray[np.int64]

FLASH_DATA = 0x0810_0000
"""Where packed weights and parameters lie: in flash, behind the program."""


@dataclass(frozen=True)
class Recipe:
    """A kernel's source, and one problem for it.

    blocks : parameter blocks, one call of ``kernel`` each; words that stand for addresses are filled in by ``run``.
    """

    source: str
    activations: bytes
    weights: bytes
    blocks: NDArray[np.uint32]
    relative: dict[int, str]
    """Word of each block -> what its value is an offset to: activations, weights or output."""
    expected: bytes
    macs: int

    def run(self, core: str, memory: str | MemoryTiming) -> CallResult:
        """Run on a core with code, weights and parameters in flash; the output must be the expected bytes."""
        size = self.blocks.shape[1] * 4
        with Simulator(core) as simulator:
            driver = (
                "push {r4-r6, lr};mov r4, r0;mov r5, r1;mov r6, r2;"
                f"1: mov r0, r4;mov r1, r6;bl kernel;add r4, r4, #{size};subs r5, #1;bne 1b;pop {{r4-r6, pc}}"
            )
            # The kernel begins at a multiple of 1 KiB, as code of its size is placed to make the best of a cache.
            aligned = function("kernel", self.source).replace(".balign 4", ".balign 1024")
            simulator.load([assemble(aligned + "\n" + function("all", driver), "cortex-m4")])
            activations = simulator.allocate(len(self.activations))
            output = simulator.allocate(len(self.expected))
            simulator.write(activations, self.activations)
            simulator.write(FLASH_DATA, self.weights)
            base = {"activations": activations, "weights": FLASH_DATA, "output": output}
            blocks = self.blocks.copy()
            for word, name in self.relative.items():
                blocks[:, word] += np.uint32(base[name])
            parameters = FLASH_DATA + -(-len(self.weights) // 4096) * 4096
            simulator.write(parameters, blocks.tobytes())
            result = simulator.call("all", parameters, len(blocks), activations - 4, memory=memory)
            assert simulator.read(output, len(self.expected)) == self.expected
            simulator.check_guards()
            return result


# --- requantization ---------------------------------------------------------------------------------------------------


def requantize(total: Ints, multiplier: Ints, shift: Ints, zero_point: int) -> NDArray[np.int8]:
    """TFLite's two roundings, without its correction of ties: it makes no difference where the output is clamped.

    >>> requantize(np.array([1000]), np.array([1 << 30]), np.array([2]), -128).tolist()
    [-3]
    """
    high = (total * multiplier + (1 << 30)) >> 31
    rounded = (high + np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0)) >> shift
    return np.clip(rounded + zero_point, -128, 127).astype(np.int8)


def rounding(shift: Ints, zero_point: int) -> Ints:
    """The constant that SMMLAR adds: half a unit of the shift behind it, and the zero point."""
    return np.where(shift > 0, 1 << np.maximum(shift - 1, 0), 0) + (zero_point << shift)


def words(*columns: Ints) -> NDArray[np.uint32]:
    return (np.stack(np.broadcast_arrays(*columns), axis=-1).astype(np.int64) & 0xFFFF_FFFF).astype(np.uint32)


def _epilogue(register: str, scale: tuple[str, str, str], shift: int | None, pointer: str, offset: int) -> list[str]:
    multiplier, constant, by = scale
    lines = [f"smmlar {register}, {register}, {multiplier}, {constant}"]
    if shift is None:
        lines += [f"asr {register}, {register}, {by}", f"ssat {register}, #8, {register}"]
    else:
        lines += [f"ssat {register}, #8, {register}, asr #{shift}"]
    return [*lines, f"strb {register}, [{pointer}, #{offset}]"]


# --- pointwise: two int8 values in each half of a word, 4 pixels x 2 channels -----------------------------------------


def pointwise(pixels: int, inputs: int, outputs: int, rng: np.random.Generator) -> Recipe:
    """Byte-interleaved pixel pairs times 256 * w1 + w0; an SXTB16 recovers one value of each half."""
    x = rng.integers(-128, 128, (pixels, inputs))
    w = rng.integers(-127, 128, (outputs, inputs))
    bias = rng.integers(-20000, 20000, outputs)
    multiplier = rng.integers(1 << 30, (1 << 31) - 1, outputs)
    shift = 8 + rng.integers(0, 2, outputs)
    expected = requantize((x + 128) @ w.T + bias, multiplier, shift, -128)

    quads = -(-pixels // 4)
    padded = np.zeros((quads * 4, inputs), np.int64)
    padded[:pixels] = x
    pairs = padded.reshape(quads, 2, 2, inputs // 2, 2).copy()  # quad, pair, pixel of the pair, step, k
    pairs[:, :, 0] ^= -128
    stream = pairs.transpose(0, 3, 1, 4, 2).astype(np.int8).tobytes()
    packed = (256 * w[1::2] + w[0::2]).astype(np.int16)

    b = bias + 128 * w.sum(1)
    b0, b1 = b[0::2], b[1::2]
    low0, low1 = (values - 128 * w[i::2].sum(1) for i, values in enumerate((b0, b1)))  # for the unsigned pixel
    lh = b0
    lr = low0 + (b0 << 8)
    rh = (b1 << 8) + lh
    rr = (low1 << 8) + (b1 << 16) + lr
    constant = rounding(shift, -128)
    first = 2 * inputs * np.arange(outputs // 2) - 4
    blocks = words(
        *(first, rr, lr, rh, lh, multiplier[0::2], constant[0::2], shift[0::2], multiplier[1::2], constant[1::2]),
        *(shift[1::2], 2 * np.arange(outputs // 2), first + 2 * inputs, np.array(len(stream) - 4)),
    )
    out = np.zeros((quads * 4, outputs), np.int8)
    out[:pixels] = expected
    out[pixels:] = requantize((padded[pixels:] + 128) @ w.T + bias, multiplier, shift, -128)
    return Recipe(
        source=_pointwise_source(inputs, outputs),
        activations=stream,
        weights=packed.tobytes(),
        blocks=blocks,
        relative={0: "weights", 11: "output", 12: "weights", 13: "activations"},
        expected=out.tobytes(),
        macs=pixels * inputs * outputs,
    )


def _pointwise_source(inputs: int, outputs: int, unroll: int = 8) -> str:
    assert inputs // 2 % unroll == 0
    assert inputs // 2 > unroll
    sums = ["r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr"]
    lines = ["push {r4-r11, lr}", "vldmia r0, {s0-s13}", "vmov r0, s0", "b 1f", ".p2align 2", "1:"]
    lines += [f"vmov {register}, s{1 + i % 4}" for i, register in enumerate(sums)]
    lines += [".p2align 2", "2:"]
    for step in range(unroll):
        last = "!" if step == unroll - 1 else ""
        lines += [f"ldr r2, [r0, #{4 * step + 4}]{last}", f"ldr r4, [r1, #{8 * step + 4}]"]
        lines += [f"ldr r5, [r1, #{8 * step + 8}]{last}", "sxtb16 r3, r2"]
        for pixels, (rr, lr, rh, lh) in (("r4", sums[:4]), ("r5", sums[4:])):
            lines += [f"smlad {rr}, r2, {pixels}, {rr}", f"smlad {lr}, r3, {pixels}, {lr}"]
            lines += [f"sxtb16 {pixels}, {pixels}, ror #8"]
            lines += [f"smlad {rh}, r2, {pixels}, {rh}", f"smlad {lh}, r3, {pixels}, {lh}"]
    lines += ["vmov r2, s12", "cmp r0, r2", "bne 2b"]
    for rr, lr, rh, lh in (sums[:4], sums[4:]):
        lines += [f"sub {rr}, {rr}, {lr}", f"sub {rh}, {rh}, {lh}"]
        lines += [f"sub {rr}, {rr}, {rh}, lsl #8", f"sub {lr}, {lr}, {lh}, lsl #8"]
    lines += ["vmov r2, s8", "vmov r3, s9", "vmov r4, s10", "vmov r5, s11"]
    scale = ("r2", "r3", "r4")
    for pixel, register in enumerate(("r6", "r8", "r10", "r12")):
        lines += [f"asr {register}, {register}, #7", *_epilogue(register, scale, None, "r5", pixel * outputs + 1)]
    lines += ["vmov r2, s5", "vmov r3, s6", "vmov r4, s7"]
    for pixel, register in enumerate(("r7", "r9", "r11", "lr")):
        lines += [f"lsl {register}, {register}, #1", *_epilogue(register, scale, None, "r5", pixel * outputs)]
    lines += [f"add r5, r5, #{4 * outputs}", "vmov r2, s13", "vmov s11, r5", "cmp r1, r2", "vmov r0, s0", "bne 1b"]
    return ";".join([*lines, "pop {r4-r11, pc}"])


# --- depthwise 3x3: one plane a channel, two outputs at once ----------------------------------------------------------


def depthwise(
    width: int, height: int, channels: int, rows: int, rng: np.random.Generator, *, shift: int | None = None
) -> Recipe:
    """Run along ``width`` in columns of two outputs and ``rows`` rows, rounded up to whole columns.

    shift : one for all channels, as an immediate; None is one a channel, in a register.
    """
    even = width + width % 2
    stride = (even + 2 + 3) // 4 * 4
    x = np.full((channels, height + 2, stride), -128)
    x[:, 1 : height + 1, 1 : width + 1] = rng.integers(-128, 128, (channels, height, width))
    w = rng.integers(-127, 128, (channels, 3, 3))
    bias = rng.integers(-9000, 9000, channels)
    multiplier = rng.integers(1 << 30, (1 << 31) - 1, channels)
    shifts = np.full(channels, shift) if shift is not None else 6 + rng.integers(0, 2, channels)
    total = np.zeros((channels, height, even), np.int64) + bias[:, None, None]
    for i in range(3):
        for j in range(3):
            total += (x[:, i : i + height, j : j + even] + 128) * w[:, i, j, None, None]
    scales = (multiplier[:, None, None], shifts[:, None, None])
    y = requantize(total, *scales, -128).reshape(channels, height, even // 2, 2).transpose(1, 2, 0, 3).copy()
    y[..., 0] ^= -128

    plane = (height + 2) * stride
    zero, pairs = np.zeros(channels, np.int64), 2 * w
    packed = [_halves(pairs[:, i, 0], pairs[:, i, 2]) for i in range(3)]
    packed += [_halves(pairs[:, 0, 1], pairs[:, 1, 1]), _halves(pairs[:, 2, 1], zero)]
    start = np.arange(channels) * plane
    bias_doubled = 2 * (bias + 128 * w.sum((1, 2)))
    blocks = words(
        *(start, bias_doubled, multiplier, rounding(shifts, -128), shifts, 2 * np.arange(channels), start + even, zero),
        *packed,
    )
    return Recipe(
        source=_depthwise_source(even, height, channels, stride, rows, shift),
        activations=x.astype(np.int8).tobytes(),
        weights=b"",
        blocks=blocks,
        relative={0: "activations", 5: "output", 6: "activations"},
        expected=y.tobytes(),
        macs=9 * width * height * channels,
    )


def _halves(low: Ints, high: Ints) -> Ints:
    return (low & 0xFFFF) | (high & 0xFFFF) << 16


def _depthwise_source(width: int, height: int, channels: int, stride: int, rows: int, shift: int | None) -> str:
    assert height % rows == 0
    sums = [("r6", "r7"), ("r8", "r9"), ("r10", "r11")]
    even, odd = "r12", "lr"
    # The outer taps of a kernel row, the register with its middle tap, and in which half.
    taps = [("r1", "r4", "b"), ("r2", "r4", "t"), ("r3", "r5", "b")]
    out_row = width * channels
    lines = ["push {r4-r11, lr}", "vldmia r0, {s0-s12}", f"mov r0, #{height // rows}", "vmov s13, r0", "vmov r0, s0"]
    lines += [f"vmov r{1 + i}, s{8 + i}" for i in range(5)] + [".p2align 2", "1:"]
    beyond = 0
    for row in range(rows + 2):
        lines += [f"ldr {odd}, [r0, #{row * stride}]", f"sxtb16 {even}, {odd}", f"sxtb16 {odd}, {odd}, ror #8"]
        for tap, (outer, middle, half) in enumerate(taps):
            out = row - tap
            if not 0 <= out < rows:
                continue
            a, b = sums[out % 3]
            if tap == 0:
                lines += [f"vmov {a}, s1", f"vmov {b}, s1"]
            lines += [f"smlad {a}, {even}, {outer}, {a}", f"smlab{half} {a}, {odd}, {middle}, {a}"]
            lines += [f"smlad {b}, {odd}, {outer}, {b}", f"smlat{half} {b}, {even}, {middle}, {b}"]
        if row < 2:
            continue
        a, b = sums[(row - 2) % 3]
        lines += [f"vmov {even}, s2", f"vmov {odd}, s3"]
        lines += [f"smmlar {register}, {register}, {even}, {odd}" for register in (a, b)]
        lines += [f"vmov {odd}, s4"] if shift is None else []
        lines += [f"vmov {even}, s5"]
        for register in (a, b):
            if shift is None:
                lines += [f"asr {register}, {register}, {odd}", f"ssat {register}, #8, {register}"]
            else:
                lines += [f"ssat {register}, #8, {register}, asr #{shift}"]
        lines += [f"eor {a}, {a}, #128"]
        beyond, offset = (row - 2) * out_row // 4096 * 4096, (row - 2) * out_row % 4096
        lines += [f"add {even}, {even}, #{beyond}"] if beyond else []
        lines += [f"strb {a}, [{even}, #{offset}]", f"strb {b}, [{even}, #{offset + 1}]"]
    forward = 2 * channels - beyond
    lines += ["add r0, r0, #2", "vmov r6, s6", f"{'add' if forward >= 0 else 'sub'} r12, r12, #{abs(forward)}"]
    lines += ["cmp r0, r6", "vmov s5, r12", "bne 1b"]
    if height > rows:
        lines += ["vmov r7, s13", f"addw r0, r0, #{rows * stride - width}", f"addw r6, r6, #{rows * stride}"]
        lines += ["vmov s6, r6", f"movw r8, #{(rows - 1) * out_row}", "add r12, r12, r8", "vmov s5, r12"]
        lines += ["subs r7, #1", "vmov s13, r7", "bne 1b"]
    return ";".join([*lines, "pop {r4-r11, pc}"])


# --- Winograd F(4x4, 3x3): the products of all 36 frequencies ---------------------------------------------------------


def winograd_products(channels: int, tiles: int, outputs: int, stripes: int, rng: np.random.Generator) -> Recipe:
    """int16 times int16 to int32, tiles of 4 x 2; a call a frequency and pair of channels, as in F(4x4).

    tiles : of one stripe; weights are used again for each stripe.
    """
    frequencies, quads = 36, tiles // 4
    v = rng.integers(-12750, 12751, (frequencies, quads, channels // 2, 4, 2))
    u = rng.integers(-6223, 6224, (outputs // 2, frequencies, channels // 2, 2, 2))
    products = np.einsum("fqktp,nfkcp->nfqtc", v, u)
    v_bytes, u_bytes = 16 * quads * channels // 2, 8 * channels // 2
    pairs, f = (index.ravel() for index in np.mgrid[0 : outputs // 2, 0:frequencies])
    weights = (pairs * frequencies + f) * u_bytes - 4
    activations = f * v_bytes - 4
    out = (pairs * frequencies + f) * 32 * quads
    blocks = words(weights, activations, out, weights + u_bytes, activations + v_bytes)
    return Recipe(
        source=_winograd_source(channels),
        activations=v.astype(np.int16).tobytes(),
        weights=u.astype(np.int16).tobytes(),
        blocks=np.tile(blocks, (stripes, 1)),
        relative={0: "weights", 1: "activations", 2: "output", 3: "weights", 4: "activations"},
        expected=products.astype(np.int32).tobytes(),
        macs=products.size * channels * stripes,
    )


def _winograd_source(channels: int) -> str:
    sums = ["r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr"]
    steps = channels // 2
    lines = ["push {r4-r11, lr}", "vldmia r0, {s0-s4}", "vmov r0, s0", "vmov r1, s1", ".p2align 2", "1:"]
    for step in range(steps):
        last = "!" if step == steps - 1 else ""
        first = "smuad {0}, {1}, {2}" if step == 0 else "smlad {0}, {1}, {2}, {0}"
        lines += [f"ldr r2, [r0, #{8 * step + 4}]", f"ldr r3, [r0, #{8 * step + 8}]{last}"]
        for half in range(2):
            end = last if half else ""
            lines += [f"ldr r4, [r1, #{16 * step + 8 * half + 4}]", f"ldr r5, [r1, #{16 * step + 8 * half + 8}]{end}"]
            group = sums[4 * half : 4 * half + 4]
            operands = [("r2", "r4"), ("r3", "r4"), ("r2", "r5"), ("r3", "r5")]
            lines += [first.format(total, *pair) for total, pair in zip(group, operands, strict=True)]
    lines += ["vmov r2, s2", "stm r2!, {r6-r12, lr}", "vmov r3, s4", "vmov s2, r2", "cmp r1, r3", "vmov r0, s0"]
    return ";".join([*lines, "bne 1b", "pop {r4-r11, pc}"])
