"""The epilogue of `output` for cores with SMULL but without SMMULR: eight to fourteen cycles."""

from __future__ import annotations

from tvm_tinyml.targets.cortex_m.microkernels.output import Output, clamp


def requantize(
    output: Output, register: str, multiplier: str, constant: str, shift: str, spare: str, result: str
) -> list[str]:
    """Return the instructions that turn the doubled sum in ``register`` into the output value in ``result``.

    SMULL of the doubled sum leaves what SMMULR returns in its upper word, but for rounding: the upper bit of its lower
    word, which goes to the carry and is added together with the constant.

    Parameters
    ----------
    spare : overwritten.
    multiplier, constant, shift : registers, see `Output.requantize`.
    """
    lines = [f"smull {spare}, {result}, {register}, {multiplier}", f"lsls {spare}, {spare}, #1"]
    if output.corrected:
        lines += [f"adc {result}, {result}, #0", f"add {result}, {result}, {result}, asr #31"]
        lines += [f"add {result}, {result}, {constant}"]
    else:
        lines += [f"adc {result}, {result}, {constant}"]
    lines += [f"asr {result}, {result}, {shift}", f"ssat {result}, #8, {result}"]
    return [*lines, *clamp(result, output.low, output.high)]
