"""As much of GDB's remote protocol as driving QEMU takes.

Source: GDB's manual, appendix "GDB Remote Serial Protocol".
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from tvm_tinyml.errors import DeviceError

ANSWER_SECONDS = 30.0
"""After this time a QEMU that does not answer is given up; only a host under heavy load comes near it."""

REGISTERS = 17
"""r0 to r15, and the program status register."""


class DisconnectedError(Exception):
    """The other side has gone."""


class GdbClient:
    """Talks to a GDB server over a connection; the machine is stopped at first.

    Any method raises DisconnectedError when the server ends, and TimeoutError when it does not answer.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        features = self._command(b"qSupported").decode().split(";")
        sizes = [int(f.partition("=")[2], 16) for f in features if f.startswith("PacketSize=")]
        # Bytes are written as two digits, behind an address.
        self._chunk_bytes = (sizes[0] - 64) // 2
        # Without it QEMU would put the registers of a unit that no Cortex-M has between r15 and the status register.
        self._command(b"qXfer:features:read:target.xml:0,fff")

    def read(self, address: int, size_bytes: int) -> bytes:
        """Read memory. DeviceError if a byte is not there."""
        parts = []
        for start, size in self._chunks(address, size_bytes):
            answer = self._command(b"m%x,%x" % (start, size))
            if len(answer) != 2 * size:
                raise DeviceError(f"QEMU does not read {size} bytes at {start:#010x}: {answer.decode()}")
            parts.append(answer)
        return bytes.fromhex(b"".join(parts).decode())

    def write(self, address: int, data: bytes) -> None:
        """Write memory, also what a program can only read. DeviceError if a byte is not there."""
        for start, size in self._chunks(address, len(data)):
            digits = data[start - address : start - address + size].hex().encode()
            answer = self._command(b"M%x,%x:%b" % (start, size, digits))
            if answer != b"OK":
                raise DeviceError(f"QEMU does not write {size} bytes at {start:#010x}: {answer.decode()}")

    def read_registers(self) -> tuple[int, ...]:
        """The general registers and the program status register."""
        answer = bytes.fromhex(self._command(b"g").decode())
        if len(answer) != 4 * REGISTERS:
            raise DeviceError(f"QEMU sends {len(answer)} bytes of registers, not {4 * REGISTERS}")
        return struct.unpack(f"<{REGISTERS}I", answer)

    def write_registers(self, values: Sequence[int]) -> None:
        """Set the general registers and the program status register."""
        self._expect_ok(b"G" + struct.pack(f"<{REGISTERS}I", *values).hex().encode())

    def insert_breakpoint(self, address: int) -> None:
        """Stop in front of the 16-bit instruction at an address, from now on."""
        self._expect_ok(b"Z0,%x,2" % address)

    def monitor(self, command: str) -> None:
        """Give a command to QEMU's monitor, one that prints nothing."""
        self._expect_ok(b"qRcmd," + command.encode().hex().encode())

    def resume(self) -> None:
        """Let the machine run; until it stops again, ``wait`` and ``interrupt`` are all that may be called."""
        self._send(b"c")

    def interrupt(self) -> None:
        """Stop the machine; nothing happens if it has already stopped."""
        self._send_raw(b"\x03")

    def wait(self, seconds: float) -> bool:
        """Wait until the machine stops; whether it did in that time."""
        return self._receive(seconds) is not None

    def _chunks(self, address: int, size_bytes: int) -> Iterator[tuple[int, int]]:
        """Address and size of the parts that fit into packets."""
        for offset in range(0, size_bytes, self._chunk_bytes):
            yield address + offset, min(self._chunk_bytes, size_bytes - offset)

    def _expect_ok(self, packet: bytes) -> None:
        answer = self._command(packet)
        if answer != b"OK":
            raise DeviceError(f"QEMU refuses {packet[:40].decode()}: {answer.decode() or 'no such command'}")

    def _command(self, packet: bytes) -> bytes:
        """Send a packet and return the answer."""
        self._send(packet)
        answer = self._receive(ANSWER_SECONDS)
        if answer is None:
            raise TimeoutError(f"QEMU has not answered for {ANSWER_SECONDS:.0f} seconds")
        return answer

    def _send(self, packet: bytes) -> None:
        self._send_raw(b"$%b#%02x" % (packet, sum(packet) & 0xFF))

    def _send_raw(self, data: bytes) -> None:
        self._connection.settimeout(ANSWER_SECONDS)
        try:
            self._connection.sendall(data)
        except TimeoutError:
            raise
        except OSError as error:
            raise DisconnectedError from error

    def _receive(self, seconds: float) -> bytes | None:
        """The next packet, or None if there is none in that time.

        QEMU acknowledges what it gets with a plus sign outside of packets, and does not insist on being acknowledged.
        """
        self._connection.settimeout(seconds)
        while (end := self._received.find(b"#")) < 0 or len(self._received) < end + 3:
            try:
                data = self._connection.recv(1 << 16)
            except TimeoutError:
                return None
            except OSError as error:
                raise DisconnectedError from error
            if not data:
                raise DisconnectedError
            self._received += data
        packet = bytes(self._received[self._received.index(b"$") + 1 : end])
        del self._received[: end + 3]
        return packet
