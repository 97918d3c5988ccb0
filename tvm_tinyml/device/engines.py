"""The simulators that a library can run on, by name."""

from __future__ import annotations

from tvm_tinyml.device.simulator import Simulator

DEVICES = ("sim",)
"""Names that ``--on`` takes."""


def make_simulator(core: str, on: str, *, check_alignment: bool = False) -> Simulator:
    """Return a simulator of a core; ``on`` is one of ``DEVICES``."""
    assert on in DEVICES, "the caller has checked the name"
    return Simulator(core, check_alignment=check_alignment)
