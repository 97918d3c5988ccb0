"""The dense layer of `scalar_dense` in instructions of the Armv6-M. Its sums are in high registers."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels import scalar_short as short
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import THUMB1, Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.scalar_dense import K_STEP, MASK, PARAMETERS, UNROLL, portable
from tvm_tinyml.targets.cortex_m.microkernels.scalar_output_short import ShortOutput

_SUMS = (("r8", "r9"), ("r10", "r11"), ("r12", "lr"))
_FRAME_BYTES, _SAVED_BYTES = 20, 36
_X, _X_END, _Y, _Y_END, _SHIFTED = (f"[sp, #{4 * i}]" for i in range(5))
_PRODUCTS, _MOVED = (f"[sp, #{_FRAME_BYTES + _SAVED_BYTES + 4 * i}]" for i in range(2))


def dense(channels: int, output: ShortOutput) -> Microkernel:
    """Return the kernel; its arguments are those of `scalar_dense.dense`."""
    pairs = -(-channels // 2)
    lines = ["push {r4-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
    lines += [
        f"sub sp, #{_FRAME_BYTES}",
        f"ldr r4, {_PRODUCTS}",
        f"ldr r5, {_MOVED}",
        "ldr r5, [r5]",
        "lsls r5, r5, #7",
    ]
    lines += ["adds r4, r4, r1", f"str r1, {_X}", f"str r4, {_X_END}", f"str r2, {_Y}", f"str r3, {_Y_END}"]
    lines += [f"str r5, {_SHIFTED}", "2:", f"ldr r4, {_SHIFTED}", f"ldr r1, {_X}"]
    for lower, upper in _SUMS[:pairs]:
        lines += ["ldm r0!, {r2, r3}", "subs r3, r3, r4", f"mov {upper}, r3", "lsls r3, r3, #16", "subs r2, r2, r4"]
        lines += ["adds r2, r2, r3", f"mov {lower}, r2"]
    lines += [*short.put("r2", MASK), "1:", *(line for i in range(UNROLL) for line in _step(i, pairs))]
    lines += [f"ldr r3, {_X_END}", f"adds r1, #{K_STEP * UNROLL}", "cmp r1, r3", "beq 3f", "b 1b", "3:"]
    for channel in range(channels):
        lower, upper = _SUMS[channel // 2]
        lines += (
            [f"mov r3, {lower}", f"mov r4, {upper}", "lsls r5, r4, #16", "subs r3, r3, r5"] if channel % 2 == 0 else []
        )
        t = "r4" if channel % 2 else "r3"
        # The upper sum's register is free.
        lines += [
            "ldm r0!, {r1, r5, r6, r7}",
            f"mov {upper}, r7",
            "lsrs r7, r1, #24",
            "lsls r1, r1, #8",
            "lsrs r1, r1, #8",
        ]
        lines += output.requantize(t, "r2", "r6", upper="r5", lower="r1", p="r7", constant=upper)
        lines += ["ldm r0!, {r1, r5}"] if output.signed else []
        lines += [*output.finish(t, "r2", step="r1", constant="r5"), f"ldr r2, {_Y}", f"strb {t}, [r2, #{channel}]"]
    lines += [f"adds r2, #{channels}", f"str r2, {_Y}", f"ldr r3, {_Y_END}", "cmp r2, r3", "beq 4f", "b 2b", "4:"]
    lines += [f"add sp, #{_FRAME_BYTES}", "pop {r4-r7}", "mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7"]
    return Microkernel(
        name=f"tinyml_dense_short_{channels}_{output.name}",
        parameters=PARAMETERS,
        assembly=[*lines, "pop {r4-r7, pc}", short.POOL],
        portable=portable(channels, output.words - 1, output.portable()),
        condition=THUMB1,
    )


def _step(i: int, pairs: int) -> list[str]:
    """Two products of each channel: for three pairs 45 cycles for 12 products."""
    lines = [f"ldrb r3, [r1, #{K_STEP * i}]", f"ldrb r4, [r1, #{K_STEP * i + 1}]"]
    for first in range(0, pairs, 2):
        held = list(zip(_SUMS[first:pairs], ("r5", "r6"), strict=False))
        lines += [f"ldm r0!, {{{', '.join(w for _, w in held)}}}"]
        for (lower, upper), w in held:
            for half, x in ((["movs r7, " + w], "r3"), ([f"lsrs {w}, {w}, #8"], "r4")):
                to = "r7" if x == "r3" else w
                lines += [*half, f"ands {to}, r2", f"muls {to}, {x}, {to}", f"add {lower}, {to}"]
                lines += [f"lsrs {to}, {to}, #16", f"add {upper}, {to}"]
    return lines
