"""Weights of which four bits say all: which those are, and how they are stored.

A code is a list of words. Each run begins with one: in its lower half how many groups of 16 weights follow, in its
upper half how many words after them are only copied; a word of 0 ends all. A group is two words: byte b of word w has
the four bits of weight 8 w + b in its lower half and of weight 8 w + 4 + b in its upper half. What they say:

- `Form.PLAIN` : the weight, plus 8.
- `Form.TABLE` : the index of the weight in a table of 16 bytes, with which the code begins. After Han et al., Deep
  Compression, ICLR 2016, section 3. Here alone a byte has two weights that follow each other, the first in its lower
  half: they are looked up together.
- The other forms: the weight over a multiplier, in two's complement. So scales may differ within a channel: as in Dai
  et al., VS-Quant, MLSys 2021, the second scale is an integer. A multiplier is stored less 1, in four bits.
  `Form.LANES` : each of a group's 16 weights has one, for all groups of a run: two words before the groups, the first
  in the lowest bits. `Form.ODD`, `Form.HALVES` : each group has two, in a byte; these are before the groups, up to a
  whole word. The upper one is for weights of which bit 0, or bit 1, of the address is set: where those of two channels
  take turns, or two of each.

Kernels may keep two weights as the number ``first + 256 * second``, of 16 bits: with ``pairs`` a group has the weights
that such numbers are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LEAST, LARGEST = -8, 7
"""What four bits express."""

MULTIPLIERS = 16
"""The largest."""

GROUP = 16
"""Weights that are packed at a time."""

GROUP_WORDS = GROUP // 4

MOST = 0xFFFF
"""Groups, or words that are copied, in one run."""


class Kind(IntEnum):
    """What four bits say of a layer's weights: all, with a multiplier for some inputs of a channel, or an index."""

    PLAIN = 0
    SCALED = 1
    TABLE = 2


class Form(IntEnum):
    """How they say it where a kernel wants the weights in an order of its own."""

    PLAIN = 0
    TABLE = 1
    LANES = 2
    ODD = 3
    HALVES = 4


FORMS: Mapping[Kind, Sequence[Form]] = {
    Kind.PLAIN: (Form.PLAIN,),
    Kind.SCALED: (Form.LANES, Form.ODD, Form.HALVES),
    Kind.TABLE: (Form.TABLE,),
}
"""Those that can be tried for weights as they are."""

SIGN = -128
"""The bit that some kernels want flipped."""

UPPER: Mapping[Form, Array] = {form: (np.arange(GROUP) & bit) != 0 for form, bit in ((Form.ODD, 1), (Form.HALVES, 2))}
"""Which weights of a group have the multiplier in the upper half of its byte."""


@dataclass(frozen=True)
class Coding:
    """How the weights of a layer are coded; the table is in order, and empty without one."""

    kind: Kind
    table: tuple[int, ...] = ()

    @property
    def flipped(self) -> Coding | None:
        """How the same weights are coded with their sign bits flipped; None where no table says it."""
        match self.kind:
            case Kind.PLAIN:
                return Coding(Kind.TABLE, tuple(sorted(bits ^ SIGN for bits in range(LEAST, LARGEST + 1))))
            case Kind.TABLE:
                return Coding(Kind.TABLE, tuple(sorted(number ^ SIGN for number in self.table)))
            case _:
                return None


def coding_of(weights: Array) -> Coding | None:
    """Return how four bits can say what a layer's weights are, or None where they cannot.

    Parameters
    ----------
    weights : int8 [output channels, ...].
    """
    if weights.min() >= LEAST and weights.max() <= LARGEST:
        return Coding(Kind.PLAIN)
    distinct = np.flatnonzero(np.bincount(weights.ravel().view(np.uint8), minlength=256)).astype(np.uint8).view(np.int8)
    if len(distinct) <= 2 * LARGEST + 2:
        return Coding(Kind.TABLE, tuple(sorted(int(value) for value in distinct)))
    return Coding(Kind.SCALED) if multipliers_of(weights.reshape(len(weights), -1), GROUP).all() else None


def multipliers_of(weights: NDArray[np.int8], group: int) -> NDArray[np.int64]:
    """Return for each so many weights in a row the least multiplier by which all are numbers of four bits, or 0.

    Parameters
    ----------
    weights : [output channels, inputs]; the last group of a channel may be shorter.

    Returns
    -------
    [output channels, groups], 0 to `MULTIPLIERS`.
    """
    groups = np.pad(weights, ((0, 0), (0, -weights.shape[1] % group))).reshape(len(weights), -1, group)
    sets = np.bitwise_and.reduce(_multipliers()[groups.view(np.uint8)], axis=2).astype(np.int64)
    lowest = sets & -sets
    return np.where(sets, np.log2(np.maximum(lowest, 1)).astype(np.int64) + 1, 0)


def encoded(values: Array, coding: Coding, form: Form, *, pairs: bool) -> NDArray[np.int32]:
    """Return a short code of some words, in which there may be weights.

    Parameters
    ----------
    values : int8 or int32, a multiple of 4 bytes. What is no weight is copied.
    """
    words = np.ascontiguousarray(values).ravel().view("<i4")
    numbers = words.view(np.int8)
    if pairs:
        numbers = numbers.copy()
        numbers[1::2] += numbers[::2] < 0
    table = np.array(coding.table, np.int8)
    parts: list[Array] = [np.resize(table, GROUP).view("<i4")] if form is Form.TABLE else []
    for first, groups, copied in _runs(_lengths(numbers, form, table), form):
        middle = first + groups * GROUP_WORDS
        parts.append(np.array([groups | copied << 16], np.int64).astype(np.uint32).view("<i4"))
        if groups:
            parts += _coded(numbers[4 * first : 4 * middle].reshape(-1, GROUP), form, table)
        parts.append(words[middle : middle + copied])
    return np.concatenate([*parts, np.zeros(1, "<i4")])


def decoded(code: Array, form: Form, *, pairs: bool) -> NDArray[np.int8]:
    """Return the bytes of what was encoded."""
    words, made, i = code.astype("<i4"), list[Array](), 0
    table = np.empty(0, np.int8)
    if form is Form.TABLE:
        table, i = words[:GROUP_WORDS].view(np.int8), GROUP_WORDS
    while words[i] != 0:
        groups, copied = int(words[i]) & MOST, int(words[i]) >> 16 & MOST
        head, i = words[i + 1 : i + 1 + head_words(form, groups)], i + 1 + head_words(form, groups)
        packed = words[i : i + 2 * groups]
        bits = np.concatenate([packed.view(np.uint8).reshape(-1, 1, 4) >> shift & 15 for shift in (0, 4)], axis=1)
        bits = bits.astype(np.int8).reshape(-1, GROUP)
        match form:
            case Form.PLAIN:
                numbers = bits + np.int8(LEAST)
            case Form.TABLE:
                numbers = table[_nibbles(packed)]
            case Form.LANES:
                numbers = _signed(bits) * (_nibbles(head)[:GROUP] + 1 if groups else np.int8(1))
            case Form.ODD | Form.HALVES:
                both = _nibbles(head)[: 2 * groups].reshape(-1, 2) + 1
                numbers = _signed(bits) * np.where(UPPER[form], both[:, 1:], both[:, :1])
        numbers = numbers.ravel()
        if pairs:
            numbers[1::2] -= numbers[::2] < 0
        i += 2 * groups
        made += [numbers, words[i : i + copied].view(np.int8)]
        i += copied
    return np.concatenate([np.empty(0, np.int8), *made])


def head_words(form: Form, groups: int) -> int:
    """Return the words between the first one of a run and its groups."""
    match form:
        case Form.LANES:
            return 2 if groups else 0
        case Form.ODD | Form.HALVES:
            return -(-groups // 4)
        case _:
            return 0


@cache
def _multipliers() -> NDArray[np.uint16]:
    """Return for each byte the set of multipliers, bit m - 1 for m, by which it is a number of four bits."""
    value, multiplier = np.arange(256, dtype=np.uint8).view(np.int8).astype(int)[:, None], np.arange(1, MULTIPLIERS + 1)
    quotient = value // multiplier
    possible = (quotient * multiplier == value) & (quotient >= LEAST) & (quotient <= LARGEST)
    sets: NDArray[np.uint16] = (possible << np.arange(MULTIPLIERS)).sum(axis=1).astype(np.uint16)
    return sets


def _lengths(numbers: NDArray[np.int8], form: Form, table: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return for each word how many groups in a row, from it on, a run can have."""
    match form:
        case Form.PLAIN:
            return _in_a_row(np.logical_and.reduce(_windows((numbers >= LEAST) & (numbers <= LARGEST)), axis=1))
        case Form.TABLE:
            return _in_a_row(np.logical_and.reduce(_windows(np.isin(numbers, table)), axis=1))
        case Form.LANES:
            return _with_common_multipliers(_windows(_multipliers()[numbers.view(np.uint8)]))
        case Form.ODD | Form.HALVES:
            sets, upper = _windows(_multipliers()[numbers.view(np.uint8)]), UPPER[form]
            lower_set, upper_set = (np.bitwise_and.reduce(sets[:, where], axis=1) for where in (~upper, upper))
            return _in_a_row(np.logical_and(lower_set, upper_set))


def _windows(of_bytes: Array) -> Array:
    """Return for each word what belongs to the group that begins there; zeros where there is not enough left."""
    count = len(of_bytes) // 4
    padded = np.concatenate([of_bytes, np.zeros(GROUP - 4, of_bytes.dtype)])
    return np.lib.stride_tricks.sliding_window_view(padded, GROUP)[::4] if count else padded[:0].reshape(0, GROUP)


def _in_a_row(possible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each word how many groups from it on are possible, one behind the other."""
    count = len(possible)
    phases = np.concatenate([possible, np.zeros(-count % GROUP_WORDS, bool)]).reshape(-1, GROUP_WORDS)
    rows = np.arange(len(phases))[:, None]
    stops = np.where(phases, len(phases), rows)
    nearest = np.minimum.accumulate(stops[::-1], axis=0)[::-1]
    lengths: NDArray[np.int64] = (nearest - rows).ravel()[:count]
    return lengths


def _with_common_multipliers(sets: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return for each word how many groups from it on have common multipliers.

    Sets for 1, 2, 4, ... groups are found one from the other; then each length is put together from them, the largest
    part first.
    """
    count = len(sets)
    lengths, common = np.zeros(count, np.int64), np.full((count, GROUP), 0xFFFF, np.uint16)
    doubled = [np.ascontiguousarray(sets)]
    while len(doubled) < 16 and doubled[-1].all(axis=1).any():
        before, step = doubled[-1], GROUP_WORDS << (len(doubled) - 1)
        following = np.zeros_like(before)
        following[: max(count - step, 0)] = before[step:]
        doubled.append(before & following)
    for power in reversed(range(len(doubled))):
        where = np.arange(count) + GROUP_WORDS * lengths
        inside = where < count
        trial = common & np.where(inside[:, None], doubled[power][np.minimum(where, count - 1)], 0)
        longer = trial.all(axis=1)
        common[longer] = trial[longer]
        lengths += longer.astype(np.int64) << power
    return lengths


def _runs(lengths: NDArray[np.int64], form: Form) -> Iterator[tuple[int, int, int]]:
    """Yield the first word, the groups and the copied words of each run, so that the code is short.

    From the end on, for each word: the code's words from there if a run begins, and if one is being copied. A run has
    all groups that it can have, or none.
    """
    count = len(lengths)
    begun, copying = [0] * (count + 1), [0] * (count + 1)
    groups = [min(int(length), MOST) for length in lengths]
    for i in reversed(range(count)):
        begun[i] = 2 + copying[i + 1]
        if groups[i]:
            packed = 1 + head_words(form, groups[i]) + 2 * groups[i] + copying[i + GROUP_WORDS * groups[i]]
            if packed <= begun[i]:
                begun[i] = packed
            else:
                groups[i] = 0
        copying[i] = min(1 + copying[i + 1], begun[i])
    i = 0
    while i < count:
        middle = i + GROUP_WORDS * groups[i]
        end = middle
        while end < count and end - middle < MOST and (copying[end] < begun[end] or end == i):
            end += 1
        yield i, groups[i], end - middle
        i = end


def _coded(groups: NDArray[np.int8], form: Form, table: NDArray[np.int8]) -> list[NDArray[np.int32]]:
    """Return what comes before a run's groups, and these."""
    head: Array = np.empty(0, np.uint8)
    bits: Array = groups
    match form:
        case Form.PLAIN:
            bits = groups - np.int8(LEAST)
        case Form.TABLE:
            return [_joined(np.searchsorted(table, groups))]
        case Form.LANES:
            head = _less_one(np.bitwise_and.reduce(_multipliers()[groups.view(np.uint8)], axis=0))
            bits = groups // (head + 1).astype(np.int8) & 15
        case Form.ODD | Form.HALVES:
            sets, upper = _multipliers()[groups.view(np.uint8)], UPPER[form]
            both = [_less_one(np.bitwise_and.reduce(sets[:, where], axis=1)) for where in (~upper, upper)]
            head = np.stack(both, axis=1).ravel()
            bits = groups // (np.where(upper, both[1][:, None], both[0][:, None]) + 1).astype(np.int8) & 15
    halves = bits.reshape(-1, 2, 4).swapaxes(1, 2)  # so that weights 4 apart are in a byte
    return [_joined(np.pad(head, (0, -len(head) % 8))), _joined(halves)]


def _less_one(sets: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the least multiplier of each set, less 1: the number of its lowest bit."""
    lowest = sets & -sets.astype(np.int32)
    numbers: NDArray[np.uint8] = np.log2(lowest).astype(np.uint8)
    return numbers


def _joined(bits: Array) -> NDArray[np.int32]:
    """Return words of numbers of four bits, the lowest first."""
    halves = bits.astype(np.uint8).reshape(-1, 2)
    return np.ascontiguousarray(halves[:, 0] | halves[:, 1] << 4).view("<i4")


def _nibbles(words: Array) -> NDArray[np.int8]:
    """Return what `_joined` was given."""
    taken = np.ascontiguousarray(words).view(np.uint8)
    return np.stack([taken & 15, taken >> 4], axis=1).ravel().astype(np.int8)


def _signed(bits: NDArray[np.int8]) -> NDArray[np.int8]:
    return (bits ^ 8) + np.int8(LEAST)
