"""The Cortex-M cores: what each can do. Source: the cores' technical reference manuals, feature lists."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes
    ----------
    name : Arm's name, lower case, as LLVM and GCC spell it.
    triple : LLVM's architecture part of the target triple.
    features : extensions it comes with, each of which a part may lack: ``dsp``, ``fp``, ``mve`` (Helium).
    fpu : GCC's name of its FPU.
    mainline : ARMv7-M or later: SMULL, SSAT, unaligned words.
    dual_issue : two instructions of most kinds at a time.
    load_cycles : of a load behind which no other one comes: see ``targets/timing``, where some are assumptions.
    summary : one line for the table of targets.
    """

    name: str
    triple: str
    features: frozenset[str]
    fpu: str
    mainline: bool
    dual_issue: bool
    load_cycles: int
    summary: str


CORES = {
    core.name: core
    for core in (
        Core("cortex-m0plus", "thumbv6m", frozenset(), "", False, False, 2, "ARMv6-M, 32-bit multiply only"),
        Core("cortex-m3", "thumbv7m", frozenset(), "", True, False, 2, "ARMv7-M, multiply-accumulate, no SIMD"),
        Core("cortex-m4", "thumbv7em", frozenset({"dsp", "fp"}), "fpv4-sp-d16", True, False, 2, "ARMv7E-M, SMLAD"),
        Core(
            "cortex-m7",
            "thumbv7em",
            frozenset({"dsp", "fp"}),
            "fpv5-sp-d16",
            True,
            True,
            1,
            "ARMv7E-M, SMLAD, dual issue",
        ),
        Core("cortex-m33", "thumbv8m.main", frozenset({"dsp", "fp"}), "fpv5-sp-d16", True, False, 1, "ARMv8-M, SMLAD"),
        Core(
            "cortex-m55",
            "thumbv8.1m.main",
            frozenset({"dsp", "fp", "mve"}),
            "auto",
            True,
            False,
            1,
            "ARMv8.1-M, Helium: vectors of 16 bytes",
        ),
    )
}
