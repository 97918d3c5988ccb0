"""The simulators that a library can run on, by name."""

from __future__ import annotations

from tvm_tinyml.device.simulator import Simulator

DEVICES = ("sim", "qemu")
"""Names that ``--on`` takes."""


def make_simulator(core: str, on: str, *, check_alignment: bool = False) -> Simulator:
    """Return a simulator of a core; ``on`` is one of ``DEVICES``. QEMU checks the alignment whether asked to or not.

    Raises
    ------
    DeviceError : the device does not have this core, or what it needs is not installed.
    """
    assert on in DEVICES, "the caller has checked the name"
    if on == "qemu":
        from tvm_tinyml.device.qemu import QemuEngine  # most users have no QEMU

        return Simulator(engine=QemuEngine(core))
    return Simulator(core, check_alignment=check_alignment)
