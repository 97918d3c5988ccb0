"""Where a simulated device keeps code, data and the stack."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_tinyml.errors import DeviceError


@dataclass(frozen=True)
class Region:
    """Addresses ``origin`` up to, but not including, ``end``; both multiples of 4096 in a memory map."""

    name: str
    origin: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first address behind the region."""
        return self.origin + self.size_bytes

    def contains(self, address: int, size_bytes: int = 1) -> bool:
        """Whether all ``size_bytes`` from ``address`` on lie inside."""
        return self.origin <= address and address + size_bytes <= self.end


@dataclass(frozen=True)
class MemoryMap:
    """The three regions of a device; everything else is unmapped, so that touching it is a fault.

    The stack is a region of its own with nothing mapped below it: an overflow faults instead of overwriting data.
    The first ``reserved_bytes`` of flash hold no code; a function that is called from the host returns to
    ``exit_address`` there.
    """

    flash: Region = Region("flash", 0x0800_0000, 16 << 20)
    ram: Region = Region("RAM", 0x2000_0000, 8 << 20)
    stack: Region = Region("stack", 0x2100_0000, 64 << 10)
    reserved_bytes: int = 256

    @property
    def exit_address(self) -> int:
        """The return address of a call from the host; no code of a program lies there."""
        return self.flash.origin

    def region_of(self, address: int, size_bytes: int) -> Region:
        """Return the region that holds all these bytes; DeviceError if there is none."""
        for region in (self.flash, self.ram, self.stack):
            if region.contains(address, size_bytes):
                return region
        raise DeviceError(f"{size_bytes} bytes at {address:#010x} are not inside one region of the device's memory")
