"""The remote protocol against a server that says what the test wants."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from tvm_tinyml.device.qemu import gdb
from tvm_tinyml.device.qemu.gdb import DisconnectedError, GdbClient
from tvm_tinyml.errors import DeviceError

HELLO = (b"PacketSize=80;qXfer:features:read+", b"l<target/>")  # 128 bytes: 32 of memory fit


class Server:
    """Answers each packet with the next of its answers; ``asked`` are the packets, bare."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.client, self._connection = socket.socketpair()
        self.asked: list[bytes] = []
        self._answers = [*HELLO, *answers]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        received = b""
        for answer in self._answers:
            while b"#" not in received[:-2]:
                data = self._connection.recv(4096)
                if not data:
                    return
                received += data
            end = received.index(b"#")
            packet, received = received[:end].lstrip(b"+$"), received[end + 3 :]
            self.asked.append(packet)
            for part in (b"+", b"$" + answer[:3], answer[3:] + b"#", b"00"):  # in pieces, as it may come
                self._connection.sendall(part)
        self._connection.close()

    def finish(self) -> list[bytes]:
        """What was asked behind the greeting, once the server is through."""
        self._thread.join(timeout=10)
        return self.asked[len(HELLO) :]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gdb, "ANSWER_SECONDS", 0.2)
    return


def test_memory_is_read_in_parts_that_fit_into_a_packet() -> None:
    data = bytes(range(70))
    server = Server([data[:32].hex().encode(), data[32:64].hex().encode(), data[64:].hex().encode()])
    assert GdbClient(server.client).read(0x1000, 70) == data
    assert server.finish() == [b"m1000,20", b"m1020,20", b"m1040,6"]


def test_memory_is_written_in_parts_that_fit_into_a_packet() -> None:
    server = Server([b"OK", b"OK"])
    GdbClient(server.client).write(0x2000, bytes(33))
    assert server.finish() == [b"M2000,20:" + b"00" * 32, b"M2020,1:00"]


def test_nothing_is_asked_for_no_bytes() -> None:
    server = Server([])
    client = GdbClient(server.client)
    assert client.read(0, 0) == b""
    client.write(0, b"")
    assert server.finish() == []


def test_registers_go_both_ways() -> None:
    values = tuple(range(100, 117))
    words = b"".join(value.to_bytes(4, "little") for value in values).hex().encode()
    server = Server([words, b"OK"])
    client = GdbClient(server.client)
    assert client.read_registers() == values
    client.write_registers(values)
    assert server.finish() == [b"g", b"G" + words]


def test_memory_that_is_refused_is_told_with_the_place() -> None:
    client = GdbClient(Server([b"E14", b"E14"]).client)
    with pytest.raises(DeviceError, match=r"^QEMU does not read 4 bytes at 0x00000010: E14$"):
        client.read(0x10, 4)
    with pytest.raises(DeviceError, match=r"^QEMU does not write 2 bytes at 0x00000020: E14$"):
        client.write(0x20, b"ab")


def test_a_command_that_is_unknown_is_told() -> None:
    client = GdbClient(Server([b"", b"E22"]).client)
    with pytest.raises(DeviceError, match=r"^QEMU refuses Z0,40,2: no such command$"):
        client.insert_breakpoint(0x40)
    with pytest.raises(DeviceError, match=r"^QEMU refuses qRcmd,73746f70: E22$"):
        client.monitor("stop")


def test_another_number_of_registers_is_told() -> None:
    client = GdbClient(Server([b"00" * 164]).client)
    with pytest.raises(DeviceError, match="QEMU sends 164 bytes of registers, not 68"):
        client.read_registers()


def test_a_server_that_ends_is_noticed() -> None:
    server = Server([])
    client = GdbClient(server.client)
    server.finish()
    with pytest.raises(DisconnectedError):
        client.read_registers()


def test_a_server_that_does_not_answer_is_given_up() -> None:
    ours, _theirs = socket.socketpair()
    with pytest.raises(TimeoutError, match="QEMU has not answered for 0 seconds"):
        GdbClient(ours)


def test_waiting_ends_with_the_time_or_the_stop() -> None:
    server = Server([b"T05thread:01;"])
    client = GdbClient(server.client)
    assert not client.wait(0.01)
    client.resume()
    assert client.wait(5)
    assert server.finish() == [b"c"]
