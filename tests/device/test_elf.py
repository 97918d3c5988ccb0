from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from device.thumb import TABLE_LOOKUP, compile_ir, function, program
from elftools.elf.elffile import ELFFile

from tvm_tinyml.device import ElfObject, ObjectSize, assemble, strip
from tvm_tinyml.device.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_NOTYPE,
    UNDEFINED,
    Relocation,
    Section,
    Symbol,
)
from tvm_tinyml.errors import DeviceError


@pytest.fixture(scope="module")
def tvm_object() -> bytes:
    return compile_ir(TABLE_LOOKUP)


def section_names(data: bytes) -> set[str]:
    return {section.name for section in ElfFile(data).iter_sections() if section.name}


def ElfFile(data: bytes) -> ELFFile:
    return ELFFile(io.BytesIO(data))


def test_parse_agrees_with_pyelftools(tvm_object: bytes) -> None:
    ours = ElfObject.parse(tvm_object)
    theirs = ElfFile(tvm_object)
    for section in ours.sections:
        other = theirs.get_section_by_name(section.name)
        assert section.size_bytes == other["sh_size"]
        assert section.data == (b"" if other["sh_type"] == "SHT_NOBITS" else other.data())
        table = theirs.get_section_by_name(".rel" + section.name)
        expected = (
            [(r["r_offset"], r["r_info_type"], r["r_info_sym"] - 1) for r in table.iter_relocations()] if table else []
        )
        assert [(r.offset, r.type, r.symbol) for r in section.relocations] == expected
    symbols = list(theirs.get_section_by_name(".symtab").iter_symbols())[1:]
    assert [(s.name, s.value, s.size_bytes) for s in ours.symbols if s.name] == [
        (s.name, s["st_value"], s["st_size"]) for s in symbols if s.name and s["st_info"]["type"] != "STT_SECTION"
    ]


def test_what_is_written_is_read_back_equal(tvm_object: bytes) -> None:
    item = ElfObject.parse(strip(tvm_object))
    again = ElfObject.parse(item.to_bytes())
    assert again == item


def test_pyelftools_reads_what_is_written(tvm_object: bytes) -> None:
    theirs = ElfFile(strip(tvm_object))
    symtab = theirs.get_section_by_name(".symtab")
    names = [s.name for s in symtab.iter_symbols()]
    assert {"entry", "table", "offset", "increment"} <= set(names)
    locals_first = [s["st_info"]["bind"] == "STB_LOCAL" for s in symtab.iter_symbols()]
    assert locals_first == sorted(locals_first, reverse=True)
    assert symtab["sh_info"] == locals_first.count(True)
    for table in (s for s in theirs.iter_sections() if s["sh_type"] == "SHT_REL"):
        assert theirs.get_section(table["sh_info"]).name == table.name.removeprefix(".rel")
        assert all(names[r["r_info_sym"]] for r in table.iter_relocations())


def test_tvm_objects_carry_what_strip_removes(tvm_object: bytes) -> None:
    item = ElfObject.parse(tvm_object)
    assert "__aeabi_unwind_cpp_pr0" in item.undefined_symbols()
    assert {"__truncsfhf2", "__extendhfsf2"} <= set(item.defined_symbols())
    assert {".ARM.exidx", ".text.tvm.fp16.conv", ".debug_info", ".note.GNU-stack"} <= section_names(tvm_object)


def test_strip_keeps_only_what_a_library_needs(tvm_object: bytes) -> None:
    stripped = strip(tvm_object)
    assert section_names(stripped) == {
        ".text",
        ".rodata",
        ".data",
        ".bss",
        ".ARM.attributes",
        ".rel.text",
        ".symtab",
        ".strtab",
        ".shstrtab",
    } & (section_names(tvm_object) | {".shstrtab"})
    item = ElfObject.parse(stripped)
    assert item.undefined_symbols() == ("increment",)
    assert item.defined_symbols() == ("entry", "offset", "result", "table")
    assert len(stripped) < len(tvm_object) / 2


def test_strip_is_deterministic_and_idempotent(tvm_object: bytes) -> None:
    once = strip(tvm_object)
    assert strip(tvm_object) == once
    assert strip(once) == once
    assert strip(compile_ir(TABLE_LOOKUP)) == once


def test_strip_keeps_the_mapping_symbols_of_code_and_data(tvm_object: bytes) -> None:
    item = ElfObject.parse(strip(tvm_object))
    kept = {s.name for s in item.symbols if item.sections[s.section].name == ".text" and s.local}
    assert {"$t", "$d"} <= kept


def test_a_global_symbol_of_a_removed_section_becomes_undefined() -> None:
    source = function("caller", "push {r4, lr};bl helper;pop {r4, pc}")
    source += "\n" + function("helper", "bx lr", section=".text.tvm.fp16.conv")
    item = ElfObject.parse(assemble(source))
    assert item.undefined_symbols() == ("helper",)
    assert item.defined_symbols() == ("caller",)


def test_strip_refuses_code_that_needs_a_local_symbol_of_a_removed_section() -> None:
    gone = Section(".comment", SHT_PROGBITS, 0, 1, 4, bytes(4))
    code = Section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, 4, bytes(4), (Relocation(0, 2, 0),))
    symbol = Symbol("secret", 0, 0, STB_LOCAL, STT_NOTYPE, 0, 0)
    data = ElfObject((gone, code), (symbol,)).to_bytes()
    with pytest.raises(DeviceError, match=r"^lib\.o: code refers to 'secret' in a section that stripping removes$"):
        strip(data, "lib.o")


def test_strip_refuses_sections_that_need_start_up_code() -> None:
    constructors = Section(".init_array", 14, SHF_ALLOC | 1, 4, 4, bytes(4))
    with pytest.raises(DeviceError, match=r"'\.init_array' has type 0xe, which needs start-up code"):
        strip(ElfObject((constructors,), ()).to_bytes())


def test_size_adds_up_by_kind() -> None:
    source = "\n".join(
        [
            function("code", "nop;nop;bx lr"),
            '.section .rodata.a,"a",%progbits',
            ".space 10",
            '.section .data.b,"aw",%progbits',
            ".space 20",
            '.section .bss.c,"aw",%nobits',
            ".space 40",
        ]
    )
    assert ElfObject.parse(assemble(source)).size() == ObjectSize(6, 10, 20, 40)


def test_undefined_symbols_are_listed_once_and_sorted() -> None:
    body = "push {r4, lr};bl zeta;bl alpha;bl zeta;pop {r4, pc}"
    assert ElfObject.parse(program("f", body)).undefined_symbols() == ("alpha", "zeta")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: b"MZ" + d[2:], r"obj: not an ELF file \(it begins with b'MZLF'\)"),
        (lambda d: d[:4] + b"\x02" + d[5:], "obj: not a 32-bit little-endian ELF file"),
        (lambda d: d[:5] + b"\x02" + d[6:], "obj: not a 32-bit little-endian ELF file"),
        (lambda d: d[:18] + b"\x03\x00" + d[20:], "expected a relocatable ARM object .* got type 1, machine 3"),
        (lambda d: d[:16] + b"\x02\x00" + d[18:], "got type 2, machine 40"),
    ],
)
def test_a_wrong_file_is_refused(damage, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DeviceError, match=message):
        ElfObject.parse(damage(program("f", "bx lr")), "obj")


def test_every_cut_is_noticed() -> None:
    data = program("f", "bx lr")
    for length in range(len(data)):
        with pytest.raises(DeviceError):
            ElfObject.parse(data[:length])


def test_explicit_addends_are_refused() -> None:
    data = bytearray(program("f", "push {r4, lr};bl g;pop {r4, pc}"))
    table = next(i for i, s in enumerate(ElfFile(bytes(data)).iter_sections()) if s["sh_type"] == "SHT_REL")
    position = ElfFile(bytes(data))["e_shoff"] + 40 * table + 4
    data[position : position + 4] = (4).to_bytes(4, "little")
    with pytest.raises(DeviceError, match="explicit addends"):
        ElfObject.parse(bytes(data))


@pytest.mark.skipif(not shutil.which("arm-none-eabi-ld"), reason="needs arm-none-eabi-ld")
def test_gnu_ld_links_a_stripped_object(tvm_object: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.o").write_bytes(strip(tvm_object))
    (tmp_path / "b.o").write_bytes(program("increment", "adds r0, #1;bx lr"))
    done = subprocess.run(
        ["arm-none-eabi-ld", "-e", "entry", "-o", "out.elf", "a.o", "b.o"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_local_symbols_are_moved_to_the_front_with_their_relocations() -> None:
    code = Section(
        ".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, 8, bytes(8), (Relocation(0, 2, 0), Relocation(4, 2, 1))
    )
    far = Symbol("far", 0, 0, STB_GLOBAL, STT_NOTYPE, 0, UNDEFINED)
    near = Symbol("near", 0, 0, STB_LOCAL, STT_NOTYPE, 0, 0)
    item = ElfObject.parse(ElfObject((code,), (far, near)).to_bytes())
    assert item.symbols == (near, far)
    names = [item.symbols[r.symbol].name for r in item.sections[0].relocations]
    assert names == ["far", "near"]
    assert replace(item.sections[0], relocations=()) == replace(code, relocations=())
