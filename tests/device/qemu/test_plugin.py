"""What is found and made before QEMU starts: QEMU, a C compiler, the plugin, the code at the beginning of flash."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import struct
from pathlib import Path

import pytest
from device.thumb import function

from tvm_tinyml.device import ElfObject, assemble
from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.device.qemu import QemuEngine, firmware, qemu_missing
from tvm_tinyml.device.qemu.boards import BOARDS
from tvm_tinyml.device.qemu.plugin import build_plugin, plugin_api
from tvm_tinyml.errors import DeviceError

needs_qemu = pytest.mark.skipif(bool(qemu_missing()), reason=qemu_missing())
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="needs a C compiler"
)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tvm_tinyml"


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


# --- QEMU -----------------------------------------------------------------------------------------------------------


def test_a_missing_qemu_is_told_with_what_to_install() -> None:
    message = "qemu-system-nothing is not installed: apt install qemu-system-arm"
    with pytest.raises(DeviceError, match=message):
        QemuEngine("cortex-m4", executable="qemu-system-nothing")
    assert message in qemu_missing("qemu-system-nothing")


def test_a_core_without_a_board_is_told_with_those_that_have_one() -> None:
    with pytest.raises(DeviceError) as error:
        QemuEngine("cortex-m23")
    assert str(error.value) == (
        "QEMU cannot run 'cortex-m23'; it runs cortex-m0plus, cortex-m3, cortex-m4, cortex-m7, cortex-m33, cortex-m55"
    )


@pytest.mark.parametrize(
    ("version", "api"),
    [("6.2.0", 1), ("7.2.22 (Debian 1:7.2+dfsg-7)", 1), ("9.0.2", 2), ("9.1.0", 3), ("10.0.2", 4), ("10.1.0", 5),
     ("11.0.0", 6), ("11.1.0", 7), ("12.0.0", 7)],
)  # fmt: skip
def test_each_qemu_takes_the_interface_of_its_time(tmp_path: Path, version: str, api: int) -> None:
    qemu = executable(tmp_path / "qemu", f"#!/bin/sh\necho 'QEMU emulator version {version}'\n")
    assert plugin_api(str(qemu)) == api


def test_a_qemu_that_does_not_say_its_version_is_told(tmp_path: Path) -> None:
    qemu = executable(tmp_path / "qemu", "#!/bin/sh\necho 'something else'\n")
    with pytest.raises(DeviceError, match="does not say its version: something else"):
        plugin_api(str(qemu))


@needs_compiler
def test_what_a_qemu_says_that_does_not_start_is_told(tmp_path: Path, cache: Path) -> None:
    script = 'case "$1" in --version) echo "QEMU emulator version 7.2.0";; *) echo "no such board" >&2; exit 3;; esac'
    qemu = executable(tmp_path / "qemu", f"#!/bin/sh\n{script}\n")
    with pytest.raises(DeviceError, match=r"^QEMU ended unexpectedly \(status 3\): no such board$"):
        QemuEngine("cortex-m4", executable=str(qemu))


# --- the plugin -----------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("compiler", ["cc", "gcc", "clang", "gcc -std=c99 -Wall -Wextra -Wpedantic -Werror"])
@pytest.mark.parametrize("api", [1, 3, 7])
def test_any_compiler_will_do(monkeypatch: pytest.MonkeyPatch, cache: Path, compiler: str, api: int) -> None:
    if not shutil.which(compiler.split()[0]):
        pytest.skip(f"needs {compiler.split()[0]}")
    monkeypatch.setenv("CC", compiler)
    plugin = build_plugin(api)
    assert plugin.parent == cache
    assert plugin.read_bytes()[:4] == b"\x7fELF" or os.uname().sysname != "Linux"


@needs_compiler
def test_the_plugin_is_compiled_once_for_each_interface(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first, second = build_plugin(1), build_plugin(2)
    assert first != second
    assert sorted(cache.iterdir()) == sorted([first, second])  # nothing unfinished is left
    monkeypatch.setenv("CC", "false")
    assert build_plugin(1) == first


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="there is no C compiler to build it: install gcc or clang, or set CC"):
        build_plugin(1)


def test_what_a_compiler_says_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    compiler = executable(tmp_path / "cc", "#!/bin/sh\necho 'out of ink' >&2\nexit 1\n")
    monkeypatch.setenv("CC", f"{compiler} -O3")
    with pytest.raises(DeviceError, match=r"(?s)cc -O3' cannot compile QEMU's plugin:\nout of ink"):
        build_plugin(1)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("CC", "true")
    with pytest.raises(DeviceError, match=r"cannot keep QEMU's plugin in .*; set XDG_CACHE_HOME"):
        build_plugin(1)


@needs_qemu
def test_a_cache_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a, b=c ü"))
    QemuEngine("cortex-m3").close()


# --- memory and code ------------------------------------------------------------------------------------------------


def test_the_boot_code_is_what_its_source_says() -> None:
    for core in BOARDS:
        parsed = ElfObject.parse(assemble(function("boot", ";".join(firmware.BOOT_SOURCE.strip().splitlines())), core))
        (section,) = (s for s in parsed.sections if s.name == ".text.boot")
        image = firmware.firmware(0x1000, [(1, 2)])
        assert image[firmware.BOOT :].startswith(section.data)


def test_flash_begins_with_vectors_and_settings() -> None:
    image = firmware.firmware(0x0040_0000, [(0xE000_ED08, 0x0040_0000), (3, 4)])
    assert struct.unpack_from("<15I", image, 4) == (0x0040_0041,) * 15
    assert struct.unpack_from("<4I", image, firmware.SETTINGS) == (0xE000_ED08, 0x0040_0000, 3, 4)


@pytest.mark.parametrize("core", BOARDS)
def test_regions_do_not_meet_and_the_settings_fit(core: str) -> None:
    board = BOARDS[core]
    memory = board.memory
    regions = sorted([memory.flash, memory.ram, memory.stack], key=lambda region: region.origin)
    assert all(a.end <= b.origin for a, b in itertools.pairwise(regions))
    assert not memory.flash.contains(memory.stack.origin - 1)
    assert not memory.ram.contains(memory.stack.origin - 1)
    assert memory.reserved_bytes == firmware.SIZE_BYTES
    assert firmware.SETTINGS + 8 * len(board.settings(memory)) <= firmware.SIZE_BYTES


@needs_qemu
def test_a_smaller_memory_can_be_asked_for() -> None:
    whole = BOARDS["cortex-m33"].memory
    memory = MemoryMap(whole.flash, Region("RAM", whole.ram.origin + 4096, 8192), whole.stack, whole.reserved_bytes)
    engine = QemuEngine("cortex-m33", memory)
    engine.write(memory.ram.end - 1, b"x")
    assert engine.read(memory.ram.end - 1, 1) == b"x"
    with pytest.raises(DeviceError, match="are not inside one region"):
        engine.read(memory.ram.end, 1)
    engine.close()


def test_memory_that_the_board_does_not_have_is_refused() -> None:
    whole = BOARDS["cortex-m4"].memory
    elsewhere = MemoryMap(whole.flash, Region("RAM", 0x5000_0000, 4096), whole.stack, whole.reserved_bytes)
    with pytest.raises(DeviceError, match=r"^RAM from 0x50000000 to 0x50001000 does not lie where QEMU's board has it"):
        QemuEngine("cortex-m4", elsewhere)
    with pytest.raises(DeviceError, match=r"^256 bytes of flash are reserved; with QEMU the first 4096 must be$"):
        QemuEngine("cortex-m4", MemoryMap(whole.flash, whole.ram, whole.stack, 256))
    odd = MemoryMap(whole.flash, Region("RAM", whole.ram.origin, 12288), whole.stack, whole.reserved_bytes)
    with pytest.raises(DeviceError, match=r"^RAM \(12288 bytes at 0x21000000\) cannot be protected: on this core"):
        QemuEngine("cortex-m4", odd)
