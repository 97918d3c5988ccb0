"""What Armv8.1-M adds: LLVM assembles it, and our table must say the same name, class and registers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations, product

import numpy as np
import pytest
from device.thumb import function
from device.timing.helium_cases import CASES

from tvm_tinyml.device import ElfObject, assemble
from tvm_tinyml.device.timing import helium, load_core
from tvm_tinyml.device.timing.decode import decode
from tvm_tinyml.errors import DeviceError

pytest.importorskip("capstone", reason="needs capstone: pip install tvm_tinyml[sim]")

CORES = ("cortex-m55", "cortex-m85")
POOLS = {
    "Q": helium.VECTOR,
    "R": (*(f"r{i}" for i in range(13)), "lr"),
    "L": tuple(f"r{i}" for i in range(8)),
    "E": ("r0", "r2", "r4", "r6", "r8", "r10", "r12", "lr"),
    "O": ("r1", "r3", "r5", "r7", "r9", "r11"),
}
ROLES = {
    "d": "writes",
    "u": "reads writes",
    "a": "reads writes accumulator",
    "r": "reads",
    "b": "reads address",
    "w": "reads address writes base",
    "o": "reads address offsets",
    "x": "reads address offsets writes base",
}
TOKEN = re.compile(r"\b([QRLEO])([24]?)([duarbwox])(\d?)\b")


@dataclass
class Case:
    text: str
    kind: str
    roles: dict[str, set[str]]

    @property
    def name(self) -> str:
        """Its mnemonic; ``vmov`` of a vector is ``vorr``, and the letters of a predicated block do not count."""
        name = self.text.split()[0]
        if re.fullmatch(r"vmov q\d, q\d", self.text):
            name = "vorr"
        return re.sub(r"^(vps?t)[te]*(?=\.|$)", r"\1", name)

    @property
    def lines(self) -> list[str]:
        """Itself, and the instructions of the predicated block that it begins."""
        block = re.match(r"vps?t([te]*)", self.text)
        return [self.text, *(f"vadd{letter}.i8 q0, q1, q2" for letter in ("t" + block[1] if block else ""))]


def cases(rng: np.random.Generator, repeat: int) -> Iterator[Case]:
    """Every choice of every line, each with other registers and constants."""
    for kind, lines in CASES.items():
        for line in lines.strip().splitlines():
            words = line.split()
            implied = [word for word in words if word[0] in "<>" and len(word) > 1]
            text = " ".join(word for word in words if word not in implied and word != "!=")
            parts = re.split(r"\(([^)]*)\)", text)
            for choice in product(*(part.split("|") if i % 2 else [part] for i, part in enumerate(parts))):
                for _ in range(repeat):
                    yield _case("".join(choice), kind, implied, "!=" in words, rng)


def _case(text: str, kind: str, implied: list[str], differ: bool, rng: np.random.Generator) -> Case:
    roles: dict[str, set[str]] = {role: set() for role in helium.Decoded.ROLES}
    for note in implied:
        roles["reads" if note[0] == "<" else "writes"].add(note[1:])
    chosen: dict[str, str] = {}

    def register(match: re.Match[str]) -> str:
        token, bank, count, role = match[0], match[1], int(match[2] or 1), match[3]
        if token not in chosen:
            pool = POOLS[bank][: len(POOLS[bank]) + 1 - count]
            pool += ("sp",) if bank == "R" and role == "b" else ()
            taken = set(chosen.values()) if differ or bank != "Q" else set()
            chosen[token] = str(rng.choice([name for name in pool if name not in taken]))
        names = tuple(POOLS[bank][POOLS[bank].index(chosen[token]) :][:count]) if count > 1 else (chosen[token],)
        for each in ROLES[role].split():
            roles[each].update(names)
        if bank != "Q" and role in "ur":
            roles["scalars"].update(names)
        return ", ".join(names)

    def constant(match: re.Match[str]) -> str:
        lowest, highest, step = int(match[1]), int(match[2]), int(match[3] or 1)
        return str(lowest + step * int(rng.integers((highest - lowest) // step + 1)))

    text = re.sub(r"(-?\d+)\.\.(\d+)(?:/(\d+))?", constant, text)
    return Case(TOKEN.sub(register, text), kind, roles)


def words(lines: list[str], core: str) -> list[int]:
    """Assemble instructions of 32 bits."""
    parsed = ElfObject.parse(assemble(function("f", ";".join(lines)), core))
    code = next(section.data for section in parsed.sections if section.name == ".text.f")
    halves = [int.from_bytes(code[i : i + 2], "little") for i in range(0, len(code), 2)]
    assert len(halves) == 2 * len(lines)
    return [high << 16 | low for high, low in zip(halves[::2], halves[1::2], strict=True)]


def _bytes(word: int) -> bytes:
    return (word >> 16).to_bytes(2, "little") + (word & 0xFFFF).to_bytes(2, "little")


@cache
def _fixed() -> tuple[list[Case], list[int]]:
    """The same cases for several tests, and their encodings."""
    found = list(cases(np.random.default_rng(5), 3))
    encoded = words([line for case in found for line in case.lines], "cortex-m55")
    *starts, _ = accumulate((len(case.lines) for case in found), initial=0)
    return found, [encoded[start] for start in starts]


def test_each_instruction_has_llvms_name_and_its_registers() -> None:
    found, encoded = _fixed()
    assert len(found) > 3000
    for case, word in zip(found, encoded, strict=True):
        decoded = helium.decode(word)
        assert decoded is not None, case
        assert (decoded.name, decoded.kind) == (case.name, case.kind), case
        assert {role: set(names) for role, names in decoded.roles.items()} == case.roles, case


def test_both_cores_have_the_same_encodings(rng: np.random.Generator) -> None:
    lines = [line for case in cases(rng, 1) for line in case.lines]
    assert words(lines, CORES[0]) == words(lines, CORES[1])


def test_every_row_is_met_and_none_shadows_another() -> None:
    _, encoded = _fixed()
    matching = [[row for row in helium.rows() if word & row.mask == row.value] for word in encoded]
    assert {len(rows) for rows in matching} == {1}
    met = {(row.kind, row.name, tuple(row.fields)) for (row,) in matching}
    assert met == {(row.kind, row.name, tuple(row.fields)) for row in helium.rows()}
    assert {kind for kind, _, _ in met} == helium.CLASSES


def test_no_two_rows_have_an_instruction_in_common() -> None:
    for one, other in combinations(helium.rows(), 2):
        assert (one.value ^ other.value) & one.mask & other.mask, (one, other)


OLDER = """
    (and|orr|eor|bic|orn|add|sub|rsb|adc|sbc)(s|) Rd, Rr, Rr1, (lsl|lsr|asr|ror) #1..31
    (and|orr|eor|bic|orn|rsb|adc|sbc)(s|) Rd, Rr, #1..255
    (add|sub)(s|).w Rd, Rr, #1..255
    (mov|mvn)(s|).w Rd, Rr
    (lsl|lsr|asr|ror)(s|).w Rd, Rr, #1..31
    (lsl|lsr|asr|ror)(s|).w Rd, Rr, Rr1
    (cmp|cmn|tst|teq).w Rr, Rr1, lsl #1..31
    (movw|movt) Rd, #0..65535
    (sxtb|sxth|uxtb|uxth|sxtb16|uxtb16) Rd, Rr, ror #(8|16)
    (sxtab|uxtah|sxtab16) Rd, Rr, Rr1, ror #8
    (sbfx|ubfx) Rd, Rr, #3, #1..20
    (bfi Rd, Rr|bfc Rd), #3, #1..20
    (ssat|usat) Rd, #1..31, Rr, asr #1..31
    (pkhbt Rd, Rr, Rr1, lsl|pkhtb Rd, Rr, Rr1, asr) #1..31
    (qadd|qsub|sadd16|uhsub8|sel|mul|smmul|smuad|sdiv|udiv|smulbb) Rd, Rr, Rr1
    (mla|mls|smlad|smladx|smlabb|smmlar|usada8) Rd, Rr, Rr1, Rr2
    (smull|umull|smlal|umlal|umaal|smlald) Rd, Rd1, Rr, Rr1
    (rev.w|rev16.w|rbit|clz) Rd, Rr
    (ldr|ldrb|ldrh|ldrsb|ldrsh|str|strb|strh).w Rd, [Rb, #0..4095]
    (ldr|ldrb|ldrh|ldrsb|ldrsh|str|strb|strh) Rd, [Rw, #-255..255]!
    (ldr|ldrb|ldrh|ldrsb|ldrsh|str|strb|strh) Rd, [Rw], #-255..255
    (ldr|ldrb|ldrh|ldrsb|ldrsh|str|strb|strh).w Rd, [Rb, Rr, lsl #0..3]
    (ldrd|strd) Rd, Rd1, [Rb, #-1020..1020/4]
    (ldrd|strd) Rd, Rd1, [Rw], #-1020..1020/4
    (ldm|stm|ldmdb|stmdb).w Rb, {r1, r3, r8}
    (push|pop).w {r4-r11, lr}
    (tbb [Rb, Rr]|tbh [Rb, Rr, lsl #1])
    (b.w|bl) (.+2048|.-4096)
    (vadd|vsub|vmul|vdiv|vmla|vmls|vfma|vfms|vnmul|vmaxnm|vminnm).f(32 s1, s14, s31|64 d1, d9, d15)
    (vabs|vneg|vsqrt|vcmp|vmov|vrintz).f(32 s1, s14|64 d1, d9)
    vcvt.(s32.f32 s0, s1|f32.u32 s0, s1|f64.f32 d1, s3|s32.f64 s1, d7|f32.s32 s0, s0, #3)
    (vseleq|vselge).f(32 s1, s14, s31|64 d1, d9, d15)
    vmov (s13, Rr|Rd, s13|d7, Rr, Rr1|Rd, Rd1, d7|Rd, Rd1, s3, s4)
    (vldr|vstr) (s17|d9), [Rb, #-1020..1020/4]
    (vldm|vstm) Rb(|!), {(s7-s15|d2-d11)}
    (vpush|vpop) {(s16-s31|d8-d15)}
    (vmrs Rd, fpscr|vmsr fpscr, Rr|vmrs apsr_nzcv, fpscr)
    (mrs Rd, primask|mrs Rd, msp|msr primask, Rr|dsb|dmb|isb)
"""


def test_no_row_takes_an_older_instruction(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "older", OLDER)
    lines = [case.text for _ in range(5) for case in cases(rng, 1) if case.kind == "older"]
    assert len(lines) > 1000
    for line, word in zip(lines, words(lines, "cortex-m7"), strict=True):
        assert helium.decode(word) is None, line
        code = _bytes(word)
        assert load_core("cortex-m55").decode(code, 0) == load_core("cortex-m7").decode(code, 0), line


def test_which_cores_know_them() -> None:
    code = bytes.fromhex("f2ee240f")  # vmladava.s8 r0, q1, q2
    for core in CORES:
        (instruction,) = load_core(core).decode(code, 0)
        assert (instruction.kind, instruction.text) == ("vector_dot", "vmladava.s8 q1, r0, q2")
    for core in ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33"):
        with pytest.raises(DeviceError, match="does not know the instruction at 0x00000000: eef2 0f24"):
            load_core(core).decode(code, 0)


def test_a_general_register_is_the_same_in_old_and_new_instructions() -> None:
    parsed = ElfObject.parse(
        assemble(function("f", "ldrb r3, [sp], #1;vmla.i8 q0, q1, r3;vstrw.32 q0, [sp]"), CORES[0])
    )
    load, multiply, store = decode(next(s.data for s in parsed.sections if s.name == ".text.f"), 0, helium=True)
    assert load.writes - load.base == multiply.scalars
    assert multiply.writes == store.reads - store.address
    assert load.base == store.address


@pytest.mark.parametrize(
    "word",
    [
        0xEF320844,  # VADD of elements of size 3, which is Neon's of 64 bits
        0xEF020845,  # VADD with a vector that begins in the middle of another one
        0xEEFD0F24,  # VADDVA of elements of size 3
        0xFC90BE01,  # VLD40 of q5 to q8
        0xEE8F0F20,  # VRMLALDAVHA with the program counter's half
        0xF01FE001,  # DLSTP of the program counter
        0xF9200A0F,  # Neon's VLD1
    ],
)
def test_bits_that_mean_nothing_are_an_error(word: int) -> None:
    assert helium.decode(word) is None
    with pytest.raises(DeviceError, match=f"0x08000100: {word >> 16:04x} {word & 0xFFFF:04x}"):
        decode(_bytes(word), 0x0800_0100, helium=True)
