"""Placement, symbols and relocations. LLVM makes the objects where it emits a type, else the bytes are made here."""

from __future__ import annotations

import random
import struct

import pytest
from device.thumb import CORES, TABLE_LOOKUP, compile_ir, function, program
from simulated import needs_simulator

from tvm_tinyml.device import ElfObject, Simulator, assemble, strip
from tvm_tinyml.device.elf import (
    ABSOLUTE,
    COMMON,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_WRITE,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    UNDEFINED,
    Relocation,
    Section,
    Symbol,
)
from tvm_tinyml.device.loader import Image, link
from tvm_tinyml.device.memory import MemoryMap, Region
from tvm_tinyml.device.relocate import KINDS, Target, apply
from tvm_tinyml.errors import DeviceError

capstone = pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")
pytestmark = needs_simulator

THUMB = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
CODE = 0x0800_0100  # where the first section of code is placed


def parse(*objects: bytes) -> list[ElfObject]:
    return [ElfObject.parse(data, f"object {i}") for i, data in enumerate(objects)]


def relocation_types(data: bytes) -> set[str]:
    return {KINDS[r.type].name for s in ElfObject.parse(data).sections for r in s.relocations if r.type in KINDS}


def call(objects: list[bytes], symbol: str, *arguments: int, core: str = "cortex-m4") -> int:
    with Simulator(core) as simulator:
        simulator.load(objects)
        return simulator.call(symbol, *arguments).value


def one_relocation(code: bytes, kind: int, symbol: Symbol, flags: int = SHF_ALLOC | SHF_EXECINSTR) -> ElfObject:
    section = Section(".text.hand", SHT_PROGBITS, flags, 4, len(code), code, (Relocation(0, kind, 0),))
    return ElfObject((section,), (symbol,), name="hand.o")


def absolute(name: str, address: int, *, thumb: bool = False) -> Symbol:
    kind = STT_FUNC if thumb else STT_NOTYPE
    return Symbol(name, address | thumb, 0, STB_GLOBAL, kind, 0, ABSOLUTE)


def text_of(image: Image) -> bytes:
    return image.flash[0].data


# --- relocations as LLVM emits them, by what the code computes ------------------------------------------------------


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "cortex-m4"])
@pytest.mark.parametrize("stripped", [False, True])
def test_code_of_tvm_reads_constants_and_variables_and_calls(core: str, stripped: bool) -> None:
    main = compile_ir(TABLE_LOOKUP, core)
    assert "R_ARM_GOT_PREL" in relocation_types(main)
    main = strip(main) if stripped else main
    with Simulator(core) as simulator:
        simulator.load([main, program("increment", "adds r0, #1;bx lr")])
        for i, expected in enumerate((18, 28, 38, 48)):
            simulator.call("entry", i)
            assert simulator.read(simulator.symbols["result"], 4) == struct.pack("<i", expected)


def test_a_symbol_gets_one_table_entry_however_often_it_is_read() -> None:
    def reads_twice(name: str) -> bytes:
        body = "ldr r0, 1f;0: add r0, pc;ldr r0, [r0];ldr r1, 2f;3: add r1, pc;ldr r1, [r1];bx lr"
        table = ".balign 4;1: .long shared(GOT_PREL)-(0b+4-1b);2: .long shared(GOT_PREL)-(3b+4-2b)"
        return assemble(function(name, f"{body};{table}"))

    variable = assemble('.section .data.v,"aw",%progbits\n.global shared\nshared: .word 5')
    objects = [reads_twice("f"), variable, reads_twice("g")]
    image = link(parse(*objects), MemoryMap())
    sizes = [len(segment.data) for segment in image.flash]
    assert sizes == [sizes[0], sizes[0], 4]
    assert call(objects, "f") == call(objects, "g") == image.symbols["shared"]


@pytest.mark.parametrize("core", CORES)
def test_thm_call_reaches_forward_and_back(core: str) -> None:
    caller = program("caller", "push {r4, lr};bl before;bl behind;pop {r4, pc}")
    assert relocation_types(caller) == {"R_ARM_THM_CALL"}
    before, behind = program("before", "adds r0, #1;bx lr"), program("behind", "lsls r0, r0, #4;bx lr")
    assert call([before, caller, behind], "caller", 2, core=core) == 48


def test_thm_jump24() -> None:
    jump = program("jump", "b.w target", "cortex-m4")
    assert relocation_types(jump) == {"R_ARM_THM_JUMP24"}
    assert call([jump, program("target", "adds r0, #3;bx lr")], "jump", 4) == 7


def test_thm_jump19() -> None:
    jump = program("jump", "cmp r0, #0;beq.w target;movs r0, #1;bx lr", "cortex-m4")
    assert relocation_types(jump) == {"R_ARM_THM_JUMP19"}
    objects = [jump, program("target", "movs r0, #99;bx lr")]
    assert (call(objects, "jump", 0), call(objects, "jump", 5)) == (99, 1)


def test_thm_movw_and_movt() -> None:
    load = program(
        "load", "movw r0, #:lower16:variable + 4;movt r0, #:upper16:variable + 4;ldr r0, [r0];bx lr", "cortex-m4"
    )
    assert relocation_types(load) == {"R_ARM_THM_MOVW_ABS_NC", "R_ARM_THM_MOVT_ABS"}
    variable = assemble('.section .data.v,"aw",%progbits\n.global variable\nvariable: .word 1, 0x12345678')
    assert call([load, variable], "load") == 0x12345678


def test_thm_movw_and_movt_relative_to_the_place() -> None:
    distance = "(variable - (1f + 4))"
    body = f"movw r0, #:lower16:{distance};movt r0, #:upper16:{distance};1: add r0, pc;ldr r0, [r0];bx lr"
    load = program("load", body, "cortex-m4")
    assert relocation_types(load) == {"R_ARM_THM_MOVW_PREL_NC", "R_ARM_THM_MOVT_PREL"}
    variable = assemble('.section .data.v,"aw",%progbits\n.global variable\nvariable: .word 77')
    assert call([load, variable], "load") == 77


def test_abs32_of_a_function_has_the_thumb_bit_and_of_data_has_not() -> None:
    table = assemble('.section .rodata.t,"a",%progbits\n.global table\ntable: .word f, table, table + 8')
    assert relocation_types(table) == {"R_ARM_ABS32"}
    with Simulator("cortex-m0plus") as simulator:
        simulator.load([table, program("f", "bx lr")])
        f, start = simulator.symbols["f"], simulator.symbols["table"]
        assert f % 2 == 0
        assert struct.unpack("<3I", simulator.read(start, 12)) == (f | 1, start, start + 8)


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_literal_pools_call_through_pointers(core: str) -> None:
    caller = function("caller", "push {r4, lr};ldr r3, =target;blx r3;pop {r4, pc};.ltorg")
    assert call([assemble(caller, core), program("target", "adds r0, #5;bx lr")], "caller", 1, core=core) == 6


def test_rel32_is_relative_to_the_place() -> None:
    source = function("f", "ldr r1, 1f;adr r0, 1f;adds r0, r0, r1;ldr r0, [r0];bx lr;.balign 4;1: .word value - .")
    data = assemble('.section .rodata.v,"a",%progbits\n.word 0\n.global value\nvalue: .word 4242')
    assert relocation_types(assemble(source)) == {"R_ARM_REL32"}
    assert call([assemble(source), data], "f") == 4242


def test_rel32_of_a_function_has_the_thumb_bit() -> None:
    table = assemble('.section .rodata.t,"a",%progbits\n.global table\ntable: .word f - .')
    with Simulator("cortex-m0plus") as simulator:
        simulator.load([table, program("f", "bx lr")])
        place = simulator.symbols["table"]
        (distance,) = struct.unpack("<i", simulator.read(place, 4))
        assert place + distance == simulator.symbols["f"] | 1


# --- relocations that LLVM does not emit for us, by their bytes -----------------------------------------------------


@pytest.mark.parametrize("distance", [-252, -4, 0, 2, 254])
def test_thm_jump8(distance: int) -> None:
    # beq with the addend -4, since the pc is 4 bytes ahead of the instruction
    image = link([one_relocation(struct.pack("<H", 0xD0FE), 103, absolute("t", CODE + 4 + distance))], MemoryMap())
    (instruction,) = THUMB.disasm(text_of(image), CODE)
    assert (instruction.mnemonic, instruction.op_str) == ("beq", f"#{CODE + 4 + distance:#x}")


@pytest.mark.parametrize("distance", [-2048, -4, 0, 2, 2046])
def test_thm_jump11(distance: int) -> None:
    image = link([one_relocation(struct.pack("<H", 0xE7FE), 102, absolute("t", CODE + 4 + distance))], MemoryMap())
    (instruction,) = THUMB.disasm(text_of(image), CODE)
    assert (instruction.mnemonic, instruction.op_str) == ("b", f"#{CODE + 4 + distance:#x}")


def test_prel31_keeps_the_top_bit() -> None:
    image = link([one_relocation(struct.pack("<I", 0x8000_0010), 42, absolute("t", CODE - 0x30))], MemoryMap())
    assert text_of(image) == struct.pack("<I", 0x8000_0000 | (-0x20 & 0x7FFF_FFFF))


def test_target1_is_an_absolute_word() -> None:
    image = link([one_relocation(struct.pack("<i", -2), 38, absolute("t", 0x1234))], MemoryMap())
    assert text_of(image) == struct.pack("<I", 0x1232)


@pytest.mark.parametrize("kind", [0, 40])
def test_none_and_v4bx_change_nothing(kind: int) -> None:
    code = struct.pack("<I", 0xDEADBEEF)
    assert text_of(link([one_relocation(code, kind, absolute("t", 0x1234))], MemoryMap())) == code


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_field_gives_back_what_was_stored(kind: int) -> None:
    field = KINDS[kind].field
    generator = random.Random(kind)
    reach = 1 << (min(field.bits, 31) - 1)
    high = field is KINDS[48].field
    step = 2 if KINDS[kind].branch else 1
    for value in (-reach, -2, 0, 2, reach - 2, *(generator.randrange(-reach, reach, step) for _ in range(200))):
        code = field.write(generator.getrandbits(8 * field.size_bytes), value)
        assert code >> (8 * field.size_bytes) == 0
        bits = 16 if field in (KINDS[47].field, KINDS[48].field) else field.bits
        stored = value >> 16 if high else value
        assert (field.read(code) - stored) % (1 << bits) == 0


@pytest.mark.parametrize(("kind", "first"), [(10, 0xD000F000), (30, 0x9000F000), (51, 0x8000F000)])
def test_wide_branches_lead_where_the_disassembler_says(kind: int, first: int) -> None:
    reach = 1 << (KINDS[kind].field.bits - 1)
    generator = random.Random(kind)
    for distance in (-reach, -4, 0, 2, reach - 2, *(generator.randrange(-reach, reach, 2) for _ in range(50))):
        contents = bytearray(struct.pack("<I", KINDS[kind].field.write(first, -4)))
        place = 0x0900_0000
        apply(contents, 0, place, kind, Target("t", place + 4 + distance, 1), "here")
        (instruction,) = THUMB.disasm(bytes(contents), place)
        assert instruction.op_str == f"#{place + 4 + distance:#x}"


@pytest.mark.parametrize(
    ("kind", "code", "reach"),
    [(10, 0xFFFEF7FF, 1 << 24), (51, 0xAFFEF43F, 1 << 20), (102, 0xE7FE, 2048), (103, 0xD0FE, 256)],
)
def test_a_branch_out_of_range_names_symbol_and_distance(kind: int, code: int, reach: int) -> None:
    size = KINDS[kind].field.size_bytes
    code_bytes = code.to_bytes(size, "little")
    name = KINDS[kind].name
    for distance in (-reach - 2, reach):
        item = one_relocation(code_bytes, kind, absolute("far_away", CODE + 4 + distance))
        where = r"hand\.o, section '\.text\.hand'\+0x0"
        with pytest.raises(
            DeviceError,
            match=rf"^{where}: 'far_away' is {distance} bytes away, {name} reaches -{reach} to {reach - 1};",
        ):
            link([item], MemoryMap())


def test_an_unknown_relocation_is_named() -> None:
    with pytest.raises(DeviceError, match=r"relocation type 28 \(R_ARM_CALL\) for symbol 'main' is not one"):
        link([one_relocation(bytes(4), 28, absolute("main", 0))], MemoryMap())
    with pytest.raises(DeviceError, match=r"relocation type 200 \(a type without a name here\)"):
        link([one_relocation(bytes(4), 200, absolute("main", 0))], MemoryMap())


def test_a_call_of_arm_code_is_refused() -> None:
    arm = Symbol("old", CODE + 64, 0, STB_GLOBAL, STT_FUNC, 0, ABSOLUTE)
    with pytest.raises(DeviceError, match="'old' is ARM code, Cortex-M runs Thumb only"):
        link([one_relocation(struct.pack("<I", 0xFFFEF7FF), 10, arm)], MemoryMap())


def test_a_relocation_outside_of_its_section_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"R_ARM_ABS32 lies outside of the section's 2 bytes"):
        link([one_relocation(bytes(2), 2, absolute("t", 0))], MemoryMap())


# --- placement and symbols ------------------------------------------------------------------------------------------


def test_code_and_constants_lie_in_flash_and_variables_in_ram() -> None:
    source = "\n".join(
        [
            function("code", "bx lr"),
            '.section .rodata.a,"a",%progbits\n.balign 32\n.global constant\nconstant: .byte 1',
            '.section .data.b,"aw",%progbits\n.global variable\nvariable: .word 2',
            '.section .bss.c,"aw",%nobits\n.balign 64\n.global zeros\nzeros: .space 100',
        ]
    )
    image = link(parse(assemble(source)), MemoryMap())
    memory = MemoryMap()
    assert memory.flash.contains(image.symbols["code"])
    assert memory.flash.contains(image.symbols["constant"])
    assert image.symbols["constant"] % 32 == 0
    assert memory.ram.contains(image.symbols["variable"])
    assert memory.ram.contains(image.symbols["zeros"], 100)
    assert image.symbols["zeros"] % 64 == 0
    assert image.ram_end == image.symbols["zeros"] + 100


def test_a_symbol_defined_twice_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"^symbol 'f' is defined twice: in object 0 and in object 1$"):
        link(parse(program("f", "bx lr"), program("f", "bx lr")), MemoryMap())


def test_undefined_symbols_are_all_named_with_who_needs_them() -> None:
    objects = parse(
        program("f", "push {r4, lr};bl b;bl a;pop {r4, pc}"), program("g", "push {r4, lr};bl a;pop {r4, pc}")
    )
    with pytest.raises(
        DeviceError, match=r"^2 undefined symbols: 'a' \(needed by object 0\), 'b' \(needed by object 0\)$"
    ):
        link(objects, MemoryMap())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_weak_symbol_gives_way_to_a_global_one(order: tuple[int, int]) -> None:
    weak = assemble(function("f", "movs r0, #1;bx lr").replace(".global", ".weak"))
    objects = (weak, program("f", "movs r0, #2;bx lr"))
    assert call([objects[i] for i in order], "f") == 2


def test_of_two_weak_symbols_the_first_counts() -> None:
    first, second = (assemble(function("f", f"movs r0, #{i};bx lr").replace(".global", ".weak")) for i in (1, 2))
    assert call([first, second], "f") == 1
    assert {s.binding for s in ElfObject.parse(first).symbols if s.name == "f"} == {STB_WEAK}


def test_local_symbols_of_the_same_name_do_not_meet() -> None:
    def with_local(name: str, value: int) -> bytes:
        local = function("helper", f"movs r0, #{value};bx lr").replace(".global helper", "")
        return assemble(function(name, "push {r4, lr};bl helper;pop {r4, pc}") + "\n" + local)

    objects = [with_local("a", 1), with_local("b", 2)]
    assert (call(objects, "a"), call(objects, "b")) == (1, 2)


def test_common_symbols_are_refused_with_advice() -> None:
    common = Symbol("buffer", 4, 64, STB_GLOBAL, STT_NOTYPE, 0, COMMON)
    with pytest.raises(DeviceError, match="'buffer' is a common symbol; compile C code with -fno-common"):
        link([ElfObject((), (common,), name="old.o")], MemoryMap())


@pytest.mark.parametrize(("flags", "region"), [(SHF_ALLOC, "flash"), (SHF_ALLOC | SHF_WRITE, "RAM")])
def test_a_region_that_is_too_small_is_named_with_the_numbers(flags: int, region: str) -> None:
    small = MemoryMap(flash=Region("flash", 0x0800_0000, 4096), ram=Region("RAM", 0x2000_0000, 4096))
    section = Section("big", SHT_PROGBITS, flags, 4, 5000, bytes(5000))
    free = 4096 if flags & SHF_WRITE else 4096 - 256
    with pytest.raises(
        DeviceError, match=rf"section 'big' \(5000 bytes\) does not fit into {region}: {free} of 4096 bytes are left"
    ):
        link([ElfObject((section,), ())], small)


def test_code_that_needs_a_section_without_memory_is_refused() -> None:
    note = Section(".comment", SHT_PROGBITS, 0, 1, 4, bytes(4))
    code = Section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 4, 4, bytes(4), (Relocation(0, 2, 0),))
    symbol = Symbol("text_only", 0, 0, STB_LOCAL, STT_NOTYPE, 0, 0)
    with pytest.raises(DeviceError, match="'text_only' in a section that occupies no memory"):
        link([ElfObject((note, code), (symbol,))], MemoryMap())


def test_an_address_is_described_by_its_function() -> None:
    image = link(parse(program("first", "nop;bx lr"), program("second", "nop;nop;bx lr")), MemoryMap())
    start = image.symbols["second"]
    assert image.describe(start + 4) == f"{start + 4:#010x} (second+0x4)"
    assert image.describe(start + 6) == f"{start + 6:#010x}"
    assert image.describe(0) == "0x00000000"


def test_undefined_symbols_that_only_unwind_tables_need_do_not_matter() -> None:
    raw = compile_ir("define i32 @f(i32 %x) { ret i32 %x }\ndeclare void @g()")
    item = ElfObject.parse(raw)
    assert any(s.section == UNDEFINED for s in item.symbols) or "__aeabi_unwind_cpp_pr0" not in item.undefined_symbols()
    assert "entry" in link([item], MemoryMap()).symbols
