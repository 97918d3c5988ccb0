from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from device.thumb import program

from tvm_tinyml.device import read_archive, write_archive
from tvm_tinyml.errors import DeviceError

LONG_NAME = "a_name_of_more_than_fifteen_characters.o"
MEMBERS = [
    ("one.o", program("one", "push {r4, lr};bl two;pop {r4, pc}")),
    (LONG_NAME, program("two", "movs r0, #2;bx lr")),
    ("exactly_15_ch.o", program("three", "movs r0, #3;bx lr")),
    ("another_name_of_many_characters.o", program("four", "movs r0, #4;bx lr")),
]
needs_binutils = pytest.mark.skipif(not shutil.which("arm-none-eabi-ar"), reason="needs GNU binutils for arm-none-eabi")


def test_what_is_packed_is_unpacked() -> None:
    assert read_archive(write_archive(MEMBERS)) == MEMBERS


def test_an_empty_archive_is_legal() -> None:
    assert read_archive(write_archive([])) == []


def test_equal_members_give_equal_bytes_without_times_or_owners() -> None:
    archive = write_archive(MEMBERS)
    assert write_archive(MEMBERS) == archive
    assert archive[8 + 16 : 8 + 48] == b"0           0     0     644     "


def test_the_index_leads_each_symbol_to_its_member() -> None:
    archive = write_archive(MEMBERS)
    size = int(archive[56:66])
    (count,) = struct.unpack_from(">I", archive, 68)
    offsets = struct.unpack_from(f">{count}I", archive, 72)
    names = archive[72 + 4 * count : 68 + size].split(b"\0")[:-1]
    contents = {}
    for name, offset in zip(names, offsets, strict=True):
        length = int(archive[offset + 48 : offset + 58])
        contents[name.decode()] = archive[offset + 60 : offset + 60 + length]
    assert contents == {"one": MEMBERS[0][1], "two": MEMBERS[1][1], "three": MEMBERS[2][1], "four": MEMBERS[3][1]}


def test_members_of_odd_size_are_padded() -> None:
    odd = MEMBERS[0][1] + b"\0" * (1 + len(MEMBERS[0][1]) % 2)
    assert len(odd) % 2 == 1
    archive = write_archive([("odd.o", odd), MEMBERS[1]])
    assert len(archive) % 2 == 0
    assert read_archive(archive) == [("odd.o", odd), MEMBERS[1]]


@pytest.mark.parametrize("name", ["", "a/b.o", "a\nb.o"])
def test_a_name_that_the_format_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="cannot name a member"):
        write_archive([(name, MEMBERS[0][1])])


def test_a_repeated_name_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"'one\.o' cannot name a member"):
        write_archive([MEMBERS[0], MEMBERS[0]])


def test_damaged_archives_are_refused() -> None:
    archive = write_archive(MEMBERS)
    with pytest.raises(DeviceError, match=r"not an archive \(it begins with b'ELF'\)"):
        read_archive(b"ELF")
    with pytest.raises(DeviceError, match="cut short: a member of"):
        read_archive(archive[:-8])
    with pytest.raises(DeviceError, match="no member header at byte 8"):
        read_archive(archive[:8] + b"x" * 60)


@needs_binutils
def test_gnu_ar_lists_and_unpacks_it(tmp_path: Path) -> None:
    (tmp_path / "lib.a").write_bytes(write_archive(MEMBERS))
    listed = subprocess.run(
        ["arm-none-eabi-ar", "t", "lib.a"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert listed.stdout.split() == [name for name, _ in MEMBERS]
    subprocess.run(["arm-none-eabi-ar", "x", "lib.a"], cwd=tmp_path, check=True)
    assert [(name, (tmp_path / name).read_bytes()) for name, _ in MEMBERS] == MEMBERS


@needs_binutils
def test_gnu_ar_archives_are_read(tmp_path: Path) -> None:
    for name, data in MEMBERS:
        (tmp_path / name).write_bytes(data)
    subprocess.run(["arm-none-eabi-ar", "rcsD", "lib.a", *(name for name, _ in MEMBERS)], cwd=tmp_path, check=True)
    assert read_archive((tmp_path / "lib.a").read_bytes()) == MEMBERS


@needs_binutils
def test_gnu_ld_takes_just_the_members_it_needs(tmp_path: Path) -> None:
    (tmp_path / "lib.a").write_bytes(write_archive(MEMBERS))
    subprocess.run(["arm-none-eabi-ld", "-u", "one", "-e", "one", "-o", "out.elf", "lib.a"], cwd=tmp_path, check=True)
    listed = subprocess.run(["arm-none-eabi-nm", "out.elf"], cwd=tmp_path, capture_output=True, text=True, check=True)
    defined = {line.split()[2] for line in listed.stdout.splitlines() if line.split()[1] == "T"}
    assert defined & {"one", "two", "three", "four"} == {"one", "two"}
