"""Static libraries: ``ar`` archives in the System V / GNU format, with the symbol index that linkers ask for.

Source: the format as documented in System V's ar(5) and GNU binutils' bfd documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tvm_tinyml.device.elf import ElfObject
from tvm_tinyml.errors import DeviceError

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_SHORT_NAME_BYTES = 15


def write_archive(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Pack objects into a static library.

    Parameters
    ----------
    members : file name and relocatable object of each, in order.

    Returns
    -------
    The archive. Times, owners and modes are constant, so the same members give the same bytes.

    Raises
    ------
    DeviceError : a name is empty, repeated or has a slash or line break in it, or a member is no ARM object.
    """
    names = [name for name, _ in members]
    for name in names:
        if not name or "/" in name or "\n" in name or names.count(name) > 1:
            raise DeviceError(f"'{name}' cannot name a member of an archive: they are unique, without slash or newline")

    long_names = b""
    fields = []
    for name in names:
        if len(name.encode()) > _SHORT_NAME_BYTES:
            fields.append(f"/{len(long_names)}")
            long_names += name.encode() + b"/\n"
        else:
            fields.append(f"{name}/")
    long_names_member = _member("//", long_names) if long_names else b""

    symbols = [
        (symbol, number)
        for number, (name, data) in enumerate(members)
        for symbol in ElfObject.parse(data, name).defined_symbols()
    ]
    strings = b"".join(symbol.encode() + b"\0" for symbol, _ in symbols)
    index_bytes = 4 + 4 * len(symbols) + len(strings)
    first = len(_MAGIC) + _HEADER_BYTES + index_bytes + index_bytes % 2 + len(long_names_member)
    packed = [_member(field, data) for field, (_, data) in zip(fields, members, strict=True)]
    offsets = [first + sum(len(p) for p in packed[:i]) for i in range(len(packed))]
    index = struct.pack(f">{1 + len(symbols)}I", len(symbols), *(offsets[number] for _, number in symbols))
    return _MAGIC + _member("/", index + strings) + long_names_member + b"".join(packed)


def read_archive(data: bytes) -> list[tuple[str, bytes]]:
    """File name and contents of each member, in order; the inverse of ``write_archive``.

    Raises
    ------
    DeviceError : not an archive, or cut short.
    """
    if not data.startswith(_MAGIC):
        raise DeviceError(f"not an archive (it begins with {data[:8]!r})")
    members = []
    long_names = b""
    offset = len(_MAGIC)
    while offset < len(data):
        header = data[offset : offset + _HEADER_BYTES]
        size_text = header[48:58].decode("latin1").strip()
        if header[58:60] != b"`\n" or not size_text.isdigit():
            raise DeviceError(f"the archive is damaged: no member header at byte {offset}")
        size = int(size_text)
        offset += _HEADER_BYTES
        contents = data[offset : offset + size]
        if len(contents) < size:
            raise DeviceError(f"the archive is cut short: a member of {size} bytes has {len(contents)}")
        offset += size + size % 2
        name = header[:16].decode("latin1").rstrip()
        if name == "//":
            long_names = contents
        elif name not in ("/", "/SYM64/"):
            if name[:1] == "/" and name[1:].isdigit():
                start = int(name[1:])
                name = long_names[start : long_names.find(b"/\n", start)].decode()
            members.append((name.removesuffix("/"), contents))
    return members


def _member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{644:<8}{len(data):<10}`\n".encode()
    return header + data + b"\n" * (len(data) % 2)
