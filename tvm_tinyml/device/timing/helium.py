"""Find an instruction that Armv8.1-M adds (Helium, low-overhead loops, selects) in the table: class and registers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import ClassVar

from tvm_tinyml.device.timing.helium_table import OPTIONS, TABLE

GENERAL = (*(f"r{number}" for number in range(13)), "sp", "lr")
VECTOR = tuple(f"q{number}" for number in range(8))
PREDICATE = "vpr"

_BANKS = {"vector": VECTOR, "general": GENERAL, "even": GENERAL[0::2], "odd": GENERAL[1::2]}

# Letter of a field -> its bank, how many registers from that one on, their roles.
_FIELDS: Mapping[str, tuple[str, int, str]] = {
    "d": ("vector", 1, "writes"),
    "e": ("vector", 1, "reads writes"),
    "a": ("vector", 1, "reads writes accumulator"),
    "n": ("vector", 1, "reads"),
    "m": ("vector", 1, "reads"),
    "o": ("vector", 1, "reads address offsets"),
    "w": ("vector", 1, "reads address offsets writes base"),
    "p": ("vector", 2, "writes"),
    "k": ("vector", 4, "writes"),
    "q": ("vector", 2, "reads"),
    "r": ("vector", 4, "reads"),
    "h": ("general", 1, "writes"),
    "l": ("general", 1, "writes"),
    "u": ("general", 1, "reads scalars writes"),
    "j": ("general", 1, "reads writes accumulator"),
    "f": ("general", 1, "reads scalars"),
    "g": ("general", 1, "reads scalars"),
    "b": ("general", 1, "reads address"),
    "i": ("general", 1, "reads address writes base"),
    "s": ("even", 1, "writes"),
    "v": ("even", 1, "reads scalars writes"),
    "x": ("even", 1, "reads writes accumulator"),
    "t": ("odd", 1, "writes"),
    "z": ("odd", 1, "reads scalars writes"),
    "y": ("odd", 1, "reads writes accumulator"),
    "c": ("odd", 1, "reads scalars"),
}


@dataclass(frozen=True)
class Row:
    """The instructions that differ in nothing but registers and constants.

    mask, value : an instruction is one of them if it has ``value`` in the bits of ``mask``.
    fields : letter -> its bits, the highest first.
    implied : role -> registers that no field names.
    """

    name: str
    kind: str
    mask: int
    value: int
    fields: Mapping[str, Sequence[int]]
    implied: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Decoded:
    """An instruction's name and class, its registers by their names, and their roles as in ``Instruction``."""

    name: str
    kind: str
    registers: tuple[str, ...]
    roles: Mapping[str, frozenset[str]]

    ROLES: ClassVar[tuple[str, ...]] = ("reads", "writes", "address", "accumulator", "base", "offsets", "scalars")


def _expand(kind: str, name: str, pattern: str, notes: Sequence[str]) -> Iterator[Row]:
    """Make a row for each choice of the name's parts, and as many as it takes to leave out the excluded values."""
    excluded = [note.split("!=") for note in notes if "!=" in note]
    if "+" in pattern:
        excluded.append(["+", "0" * pattern.count("+")])
    implied = {
        role: [note[1:] for note in notes if note[0] == sign] for role, sign in (("reads", "<"), ("writes", ">"))
    }
    options = sorted({letter for letter in pattern if letter.isupper()})
    for choice in product(*(OPTIONS[letter].items() for letter in options)):
        chosen = dict(zip(options, choice, strict=True))
        bits = pattern
        for letter, (digits, _) in chosen.items():
            bits = _fill(bits, letter, digits)
        fields = {letter: [31 - i for i, c in enumerate(bits) if c == letter] for letter in bits if letter in _FIELDS}
        parts = {letter: text for letter, (_, text) in chosen.items()}
        patterns = [bits]
        for letter, value in excluded:
            places = [i for i, c in enumerate(bits) if c == letter]
            patterns = [fixed for rest in patterns for fixed in _without(rest, places, value)]
        for fixed in patterns:
            mask = int("".join("1" if digit in "01" else "0" for digit in fixed), 2)
            bits_there = int("".join(digit if digit in "01" else "0" for digit in fixed), 2)
            yield Row(name.format(**parts), kind.format(**parts), mask, bits_there, fields, implied)


def _fill(pattern: str, letter: str, digits: str) -> str:
    """Put digits into the places of a letter, which stays where a digit is a dot."""
    rest = iter(digits)
    return "".join((c if (digit := next(rest)) == "." else digit) if c == letter else c for c in pattern)


def _without(bits: str, places: Sequence[int], value: str) -> Iterator[str]:
    """Yield patterns that together take all but one value in some places: each differs from it in another digit."""
    wanted = [(place, digit) for place, digit in zip(places, value, strict=True) if digit != "."]
    if any(bits[place] in "01" and bits[place] != digit for place, digit in wanted):
        yield bits
        return
    for place, digit in wanted:
        if bits[place] not in "01":
            yield bits[:place] + ("1" if digit == "0" else "0") + bits[place + 1 :]
            bits = bits[:place] + digit + bits[place + 1 :]


CLASSES = frozenset(kind.format(Z=size) for kind in TABLE for size in OPTIONS["Z"].values())
"""Every class of the table; a few are classes of other instructions too."""


@cache
def rows() -> tuple[Row, ...]:
    """Return the whole table; no two rows take the same instruction."""
    return tuple(
        row
        for kind, lines in TABLE.items()
        for line in lines.strip().splitlines()
        for words in [line.split()]
        for row in _expand(kind, words[0], "".join(words[1:9]), words[9:])
    )


def decode(word: int) -> Decoded | None:
    """Decode an instruction of 32 bits, whose first halfword is the upper one; None if the table lacks it."""
    row = next((row for row in rows() if word & row.mask == row.value), None)
    if row is None:
        return None
    roles = {role: set(row.implied.get(role, ())) for role in Decoded.ROLES}
    registers: list[str] = []
    for letter, bits in row.fields.items():
        bank, count, names = _FIELDS[letter]
        number = int("".join(str(word >> bit & 1) for bit in bits), 2)
        # Number 15 is none: the constant 0, or the program counter.
        named = _BANKS[bank][number : number + count]
        registers += named
        for role in names.split():
            roles[role].update(named)
    return Decoded(row.name, row.kind, tuple(registers), {role: frozenset(names) for role, names in roles.items()})
