"""The simulators that a library can run on, by name."""

from __future__ import annotations

from tvm_tinyml.device.native_engine import CORE_FEATURES, native_engine_missing
from tvm_tinyml.device.simulator import Simulator, simulator_installed
from tvm_tinyml.errors import DeviceError

DEVICES = ("sim", "qemu")
"""Names that ``--on`` takes."""

HELIUM_CORES = ("cortex-m55", "cortex-m85")
"""What Unicorn cannot stand in for."""


def make_simulator(core: str, on: str, *, check_alignment: bool = False) -> Simulator:
    """Return a simulator of a core; ``on`` is one of ``DEVICES``.

    A core with Helium that the project's own engine lacks, or that has no such engine because it is not built, runs on
    QEMU in any case. QEMU checks the alignment whether asked to or not.

    Raises
    ------
    DeviceError : the device does not have this core, or what it needs is not installed.
    """
    assert on in DEVICES, "the caller has checked the name"
    if on == "qemu" or needs_qemu(core):
        from tvm_tinyml.device import qemu  # most users have none

        if on != "qemu" and (reason := qemu.qemu_missing()):
            raise DeviceError(f"only QEMU runs '{core}' here, and it cannot be used: {reason}")
        return Simulator(engine=qemu.QemuEngine(core))
    return Simulator(core, check_alignment=check_alignment)


def needs_qemu(core: str) -> bool:
    """Return whether of all engines only QEMU can run a core here."""
    return core in HELIUM_CORES and (core not in CORE_FEATURES or bool(native_engine_missing()))


def can_simulate(core: str) -> bool:
    """Return whether the device ``sim`` runs a core here, and its cycles can be counted."""
    from tvm_tinyml.device import qemu

    return simulator_installed() and not (needs_qemu(core) and qemu.qemu_missing())
