"""Winograd: the products of all frequencies, of up to four tiles with two output channels, in int16.

For each word of two input channels the frequencies follow each other, each with the words of four tiles and of two
filters: the transforms write them so, whatever the number of channels. A step of four tiles is six loads and eight
SMLAD, 16 products. A frequency's sums are stored as they lie in the registers, tile by tile. One tile or two that are
left over are multiplied without the others' share.

Two orders, as in `gemm_halves`. Grouped, for cores that issue one instruction at a time: loads in two groups, of which
only the first of each costs more than a cycle: 16 cycles. Mixed, for cores that issue two: each load goes with a SMLAD,
into a register that was read for the last time just before: 8 cycles.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm_tinyml.targets.cortex_m.microkernels import winograd
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel, add

FILTER_BYTES = 4 * winograd.CHANNELS
INPUT_BYTES = 4 * winograd.TILES
SUM_BYTES = 4 * winograd.TILES * winograd.CHANNELS
"""Of one frequency: a step's filters, its inputs, and the sums."""

LONGEST, LONGEST_LOOP = 16, 8
"""Steps in a row, and in the body of a loop, at most: more would not fit a flash cache of 1 KiB."""

_FARTHEST_LOAD = 4095
"""Largest offset of a load."""

_SUMS = ("r6", "r7", "r8", "r9", "r10", "r11", "r12", "lr")
_FILTERS, _INPUTS = ("r2", "r3"), ("r4", "r5", "r4", "r5")
"""Of each channel and tile."""

_Order = dict[int, tuple[str, ...]]
"""Position of a SMLAD in a step -> what is loaded in front of it."""

_START = {4: ("w0", "x0", "w1", "x1"), 2: ("w0", "x0", "w1", "x1"), 1: ("w0", "x0", "w1")}
"""Number of tiles -> operands of the first SMLAD of a step. Loads from the two addresses take turns, so that none waits
for the address that the one in front has moved."""

_GROUPED: dict[int, _Order] = {tiles: {0: start} for tiles, start in _START.items()}
_GROUPED[4][4] = ("x2", "x3")

_MIXED: dict[int, _Order] = {
    4: {2: ("x2",), 4: ("x3",), 6: ("next x0",), 7: ("next w0",), 8: ("next w1", "next x1")},
    2: {2: ("next x0",), 3: ("next w0",), 4: ("next w1", "next x1")},
    1: {1: ("next w0",), 2: ("next w1", "next x0")},
}


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


def winograd_products(frequencies: int, steps: int, tiles: int = winograd.TILES, *, mixed: bool) -> Microkernel:
    """Return the kernel. Its arguments: filters, inputs, and the sums, all aligned to 4 bytes.

    Parameters
    ----------
    frequencies : of the form of Winograd's algorithm.
    steps : words of two input channels.
    tiles : the first of four that are multiplied: 1, 2 or 4; the sums of the others stay.
    mixed : order of instructions for cores that issue two at a time.
    """
    order = (_MIXED if mixed else _GROUPED)[tiles]
    lines = ["push {r4-r11, lr}", "vmov s0, r2", f"add r3, r2, #{SUM_BYTES * frequencies}", "vmov s1, r3"]
    lines += [".p2align 2", "1:", *_frequency(_Layout(frequencies, tiles), Steps.of(steps), order)]
    if tiles == winograd.TILES:
        lines += ["stm r4!, {r6-r12, lr}"]
    else:
        lines += [f"stm r4, {{{', '.join(_SUMS[: winograd.CHANNELS * tiles])}}}", f"adds r4, #{SUM_BYTES}"]
    lines += ["cmp r4, r2", "vmov s0, r4", "bne 1b"]
    return Microkernel(
        name=f"tinyml_winograd_products_{'mixed' if mixed else 'grouped'}_{frequencies}_{steps}_{tiles}",
        parameters=("const int16_t *u", "const int16_t *v", "int32_t *m"),
        assembly=[*lines, "pop {r4-r11, pc}"],
        portable=_portable(frequencies, steps, tiles),
    )


@dataclass(frozen=True)
class _Layout:
    """Where the operands are."""

    frequencies: int
    tiles: int

    @property
    def filter_step(self) -> int:
        """Bytes from a step's filters to the next one's."""
        return FILTER_BYTES * self.frequencies

    @property
    def input_step(self) -> int:
        """Bytes from a step's inputs to the next one's."""
        return INPUT_BYTES * self.frequencies

    @property
    def reach(self) -> int:
        """Steps whose loads reach from one address."""
        return (_FARTHEST_LOAD - INPUT_BYTES) // self.input_step + 1

    def forward(self, steps: int) -> list[str]:
        """Return the code that moves both addresses; within reach the distances fit an instruction."""
        if not steps:
            return []
        name, steps = ("add", steps) if steps > 0 else ("sub", -steps)
        return [f"{name} r0, r0, #{steps * self.filter_step}", f"{name} r1, r1, #{steps * self.input_step}"]


def _frequency(layout: _Layout, runs: Steps, order: _Order) -> list[str]:
    """Return the code for one frequency.

    It moves the addresses on to the next one, and leaves where to store the sums in r4 and the end of all sums in r2.
    """
    if not runs.turns:
        code = _Run(layout, runs.rest, order, alone=True)
        return [*code.lines, *layout.forward(-code.base)]
    loop, rest = (_Run(layout, steps, order, alone=False) for steps in (runs.body, runs.rest))
    lines = [f"mov {total}, #0" for total in _SUMS[: winograd.CHANNELS * layout.tiles]]
    lines += [f"mov r2, #{runs.turns}", "vmov s2, r2", ".p2align 2", "2:", *loop.lines]
    lines += ["vmov r2, s2", *layout.forward(runs.body - loop.base), "subs r2, #1", "vmov s2, r2", "bne 2b"]
    behind = runs.turns * runs.body + rest.base
    lines += [*rest.lines, *add("r0", "r0", FILTER_BYTES - behind * layout.filter_step, "r2")]
    return [*lines, *add("r1", "r1", INPUT_BYTES - behind * layout.input_step, "r2"), "vmov r4, s0", "vmov r2, s1"]


class _Run:
    """The code of some steps in a row.

    Attributes
    ----------
    base : how many steps the addresses are moved by.

    Parameters
    ----------
    alone : they are all steps of the frequency: the sums begin here, and the first loads move the addresses on.
    """

    def __init__(self, layout: _Layout, steps: int, order: _Order, *, alone: bool) -> None:
        self.lines: list[str] = []
        self.base = 0
        self._layout = layout
        self._alone = alone
        last = winograd.CHANNELS * layout.tiles
        # Moved before which SMLAD of the last step: the registers are free there, and the moves take their time.
        end = {max(last - 2, 2): f"vmov {_INPUTS[2]}, s0", last - 1: f"vmov {_FILTERS[0]}, s1"} if alone else {}
        if 0 not in order and steps:
            self._load(0, _START[layout.tiles])
        for step in range(steps):
            for position in range(last + 1):
                for operand in order.get(position, ()):
                    following = operand.startswith("next ")
                    if not following or step + 1 < steps:
                        self._load(step + following, (operand.removeprefix("next "),))
                if step == steps - 1 and position in end:
                    self.lines.append(end[position])
                if position < last:
                    self._multiply(step, position)

    def _multiply(self, step: int, position: int) -> None:
        total, filters, inputs = _SUMS[position], _FILTERS[position % 2], _INPUTS[position // 2]
        first = self._alone and step == 0
        self.lines.append(
            f"smuad {total}, {filters}, {inputs}" if first else f"smlad {total}, {filters}, {inputs}, {total}"
        )

    def _load(self, step: int, operands: tuple[str, ...]) -> None:
        layout = self._layout
        if step - self.base >= layout.reach:
            self.lines += layout.forward(layout.reach)
            self.base += layout.reach
        for operand in operands:
            number = int(operand[1])
            if operand.startswith("w"):
                register, pointer, stride, forward = _FILTERS[number], "r0", layout.filter_step, FILTER_BYTES
            else:
                register, pointer, stride, forward = _INPUTS[number], "r1", layout.input_step, INPUT_BYTES
            offset = stride * (step - self.base) + 4 * number
            if self._alone and step == 0 and number == 0:
                self.lines.append(f"ldr {register}, [{pointer}], #{forward}")
            else:
                self.lines.append(f"ldr {register}, [{pointer}, #{offset - (forward if self._alone else 0)}]")


def _portable(frequencies: int, steps: int, tiles: int) -> str:
    return f"""  for (int32_t f = 0; f < {frequencies}; ++f)
    for (int32_t tile = 0; tile < {tiles}; ++tile)
      for (int32_t channel = 0; channel < {winograd.CHANNELS}; ++channel) {{
        uint32_t sum = 0;
        for (int32_t step = 0; step < {steps}; ++step)
          for (int32_t half = 0; half < 2; ++half) {{
            const int32_t at = {frequencies} * step + f;
            const int32_t filter = u[{FILTER_BYTES // 2} * at + 2 * channel + half];
            sum += (uint32_t)(filter * v[{INPUT_BYTES // 2} * at + 2 * tile + half]);
          }}
        m[{SUM_BYTES // 4} * f + {winograd.CHANNELS} * tile + channel] = (int32_t)sum;
      }}
"""
