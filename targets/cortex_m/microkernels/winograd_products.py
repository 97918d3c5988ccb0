"""Winograd F(4x4, 3x3): the products of all frequencies, of four tiles with two output channels, in int16.

For each word of two input channels the frequencies follow each other, each with the words of four tiles and of two
filters: the transforms write them so, whatever the number of channels. A step, 16 products of int16, is six loads in
two groups and eight SMLAD: 16 cycles. A frequency's sums are stored as they lie in the registers, tile by tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add

FILTER_BYTES = 4 * winograd.CHANNELS
INPUT_BYTES = 4 * winograd.TILES
SUM_BYTES = 4 * winograd.TILES * winograd.CHANNELS
"""Of one frequency: a step's filters, its inputs, and the sums."""

FILTER_STEP, INPUT_STEP = FILTER_BYTES * winograd.FREQUENCIES, INPUT_BYTES * winograd.FREQUENCIES
"""From a step to the next."""

LONGEST, LONGEST_LOOP = 16, 8
"""Steps in a row, and in the body of a loop, at most: more would not fit a flash cache of 1 KiB."""

_REACH = 7
"""Steps that loads reach from one address, less one."""

_SUMS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")


@dataclass(frozen=True)
class Steps:
    """How the steps of a frequency run: ``turns`` of a loop with ``body`` steps, then ``rest`` steps."""

    turns: int
    body: int
    rest: int

    @classmethod
    def of(cls, steps: int) -> Steps:
        """Return the fewest turns whose code is short enough."""
        if steps <= LONGEST:
            return cls(0, 0, steps)
        loops = [cls(steps // body, body, steps % body) for body in range(LONGEST_LOOP, 0, -1)]
        return min((loop for loop in loops if loop.rest <= LONGEST_LOOP // 2), key=lambda loop: loop.turns)


def winograd_products(steps: int) -> Microkernel:
    """Return the kernel. Its arguments: filters, inputs, and the sums, all aligned to 4 bytes.

    Parameters
    ----------
    steps : words of two input channels.
    """
    runs = Steps.of(steps)
    lines = ["push {r4-r11, lr}", "vmov s0, r2", f"add r3, r2, #{SUM_BYTES * winograd.FREQUENCIES}", "vmov s1, r3"]
    lines += [".p2align 2", "1:", *_frequency(runs)]
    lines += ["vmov r2, s0", "vmov r3, s1", "stm r2!, {r6-r12, lr}", "cmp r2, r3", "vmov s0, r2", "bne 1b"]
    return Microkernel(
        name=f"tinyml_winograd_products_{steps}",
        parameters=("const int16_t *u", "const int16_t *v", "int32_t *m"),
        assembly=[*lines, "pop {r4-r11, pc}"],
        portable=_portable(steps),
    )


def _frequency(runs: Steps) -> list[str]:
    if not runs.turns:
        lines, rewind = _steps(runs.rest, first=True, last=True)
        return [*lines, *_forward(-rewind)]
    head = [f"mov {total}, #0" for total in _SUMS]
    body, _ = _steps(runs.body, first=False, last=False)
    rest, advance = _steps(runs.rest, first=False, last=True)
    loop = [f"mov r2, #{runs.turns}", "vmov s2, r2", ".p2align 2", "2:", *body]
    loop += ["vmov r2, s2", "subs r2, #1", "vmov s2, r2", "bne 2b"]
    rewind = runs.turns * runs.body + advance
    forward = add("r0", "r0", FILTER_BYTES - rewind * FILTER_STEP, "r2")
    return [*head, *loop, *rest, *forward, *add("r1", "r1", INPUT_BYTES - rewind * INPUT_STEP, "r2")]


def _steps(count: int, *, first: bool, last: bool) -> tuple[list[str], int]:
    """Return the code of some steps, and by how many steps it moves the addresses.

    Parameters
    ----------
    first : the sums begin here, and the addresses go on to the next frequency.
    last : addresses may stay behind.
    """
    lines: list[str] = []
    base = 0
    moved = (FILTER_BYTES, INPUT_BYTES) if first else (0, 0)
    for step in range(count):
        if step - base > _REACH:
            base = step
            lines += _forward(_REACH + 1)
        lines += _step(step - base, moved, begins=first and step == 0)
    if not last:
        lines += _forward(count - base)
        base = count
    return lines, base


def _forward(steps: int) -> list[str]:
    """Both distances fit an instruction, 8 steps at most."""
    if not steps:
        return []
    name, steps = ("add", steps) if steps > 0 else ("sub", -steps)
    return [f"{name} r0, r0, #{steps * FILTER_STEP}", f"{name} r1, r1, #{steps * INPUT_STEP}"]


def _step(step: int, moved: tuple[int, int], *, begins: bool) -> list[str]:
    """Load two filters and four inputs, multiply each with each.

    In the first step of all, the first load from an address moves it to the next frequency; loads from the two
    addresses take turns, so that no load waits for the address.
    """
    u, v = FILTER_STEP * step - moved[0], INPUT_STEP * step - moved[1]
    first_loads = [f"ldr r2, [r0, #{u}]", f"ldr r4, [r1, #{v}]"]
    if begins:
        first_loads = [f"ldr r2, [r0], #{moved[0]}", f"ldr r4, [r1], #{moved[1]}"]
    multiply = "smuad {0}, {1}, {2}" if begins else "smlad {0}, {1}, {2}, {0}"
    lines = [*first_loads, f"ldr r3, [r0, #{u + 4}]", f"ldr r5, [r1, #{v + 4}]"]
    for half in range(2):
        if half:
            lines += [f"ldr r4, [r1, #{v + 8}]", f"ldr r5, [r1, #{v + 12}]"]
        pairs = zip(_SUMS[4 * half : 4 * half + 4], ("r2", "r3", "r2", "r3"), ("r4", "r4", "r5", "r5"), strict=True)
        lines += [multiply.format(*names) for names in pairs]
    return lines


def _portable(steps: int) -> str:
    return f"""  for (int32_t f = 0; f < {winograd.FREQUENCIES}; ++f)
    for (int32_t tile = 0; tile < {winograd.TILES}; ++tile)
      for (int32_t channel = 0; channel < {winograd.CHANNELS}; ++channel) {{
        uint32_t sum = 0;
        for (int32_t step = 0; step < {steps}; ++step)
          for (int32_t half = 0; half < 2; ++half) {{
            const int32_t at = {winograd.FREQUENCIES} * step + f;
            const int32_t filter = u[{FILTER_BYTES // 2} * at + 2 * channel + half];
            sum += (uint32_t)(filter * v[{INPUT_BYTES // 2} * at + 2 * tile + half]);
          }}
        m[{SUM_BYTES // 4} * f + {winograd.CHANNELS} * tile + channel] = (int32_t)sum;
      }}
"""
