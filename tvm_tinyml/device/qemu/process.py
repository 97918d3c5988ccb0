"""One QEMU: started with the plugin, spoken to through its GDB server, ended with us."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tvm_tinyml.device.qemu.counts import SharedCounts
from tvm_tinyml.device.qemu.gdb import DisconnectedError, GdbClient
from tvm_tinyml.errors import DeviceError


class QemuProcess:
    """A stopped machine; ``gdb`` drives it, ``shared`` holds what the plugin counts.

    Parameters
    ----------
    qemu : the program.
    machine : its arguments that choose the machine.
    plugin : the compiled plugin.

    Raises
    ------
    DeviceError : QEMU does not start; the message holds what it says.
    """

    def __init__(self, qemu: str, machine: Sequence[str], plugin: Path) -> None:
        self.shared = SharedCounts()
        self._messages: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._connection, theirs = socket.socketpair()
        file = self.shared.descriptor
        arguments = [
            *machine,
            *("-display", "none", "-serial", "none", "-monitor", "none", "-nodefaults", "-S"),
            *("-chardev", f"socket,id=gdb,fd={theirs.fileno()}", "-gdb", "chardev:gdb"),
            *("-plugin", f"{str(plugin).replace(',', ',,')},shared={file}"),
        ]
        with theirs:
            self._process = subprocess.Popen(
                [qemu, *arguments],
                stdin=subprocess.PIPE,  # the plugin ends QEMU when this end is closed, even by our being killed
                stdout=self._messages,
                stderr=self._messages,
                pass_fds=(theirs.fileno(), file),
                start_new_session=True,  # Ctrl-C is for us
            )
        try:
            self.gdb = GdbClient(self._connection)
        except (DisconnectedError, TimeoutError):
            error = self.ended()
            self.close()
            raise error from None

    def ended(self) -> DeviceError:
        """The error for a QEMU that has ended by itself."""
        try:
            status = str(self._process.wait(timeout=5))
        except subprocess.TimeoutExpired:
            status = "none yet"
        self._messages.seek(0)
        said = self._messages.read().decode(errors="replace")
        # When QEMU gives up it lists all registers behind its reason.
        reason = [line for line in said.split("\n\n")[0].splitlines() if "warning:" not in line]
        return DeviceError(f"QEMU ended unexpectedly (status {status}): {' '.join(reason) or 'it said nothing'}")

    def close(self) -> None:
        """End QEMU; may be called again."""
        self._process.kill()
        self._process.wait()
        if self._messages.closed:
            return
        assert self._process.stdin is not None, "it was opened"
        self._process.stdin.close()
        self._connection.close()
        self._messages.close()
        self.shared.close()
