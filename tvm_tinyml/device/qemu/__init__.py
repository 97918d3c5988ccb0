"""A second engine: QEMU, for cores that the first one does not have and to check it."""

from tvm_tinyml.device.qemu.engine import QemuEngine
from tvm_tinyml.device.qemu.plugin import qemu_missing

__all__ = ["QemuEngine", "qemu_missing"]
