"""Seeded weights of four bits of each kind, as layers have them and as kernels keep them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.passes.weight_codes import FORMS, GROUP, UPPER, Coding, Form, Kind

KINDS = list(Kind)

WAYS = [(form, pairs) for form in Form for pairs in (False, True) if form is not Form.PLAIN or not pairs]
"""Forms, with and without pairs of weights."""


def weights(rng: np.random.Generator, kind: Kind, shape: tuple[int, ...], group: int = 2 * GROUP) -> NDArray[np.int8]:
    """Return weights of a layer [output channels, ...]; `group` of them in a row share a multiplier."""
    bits = rng.integers(-7, 8, shape)
    match kind:
        case Kind.PLAIN:
            return bits.astype(np.int8)
        case Kind.TABLE:
            return _table(rng)[bits + 7]
        case Kind.SCALED:
            rows = bits.reshape(len(bits), -1)
            groups = -(-rows.shape[1] // group)
            multipliers = rng.integers(1, 17, (len(rows), groups)).repeat(group, axis=1)[:, : rows.shape[1]]
            return (rows * multipliers).reshape(shape).astype(np.int8)


def words(rng: np.random.Generator, form: Form, *, pairs: bool) -> tuple[NDArray[np.int32], Coding]:
    """Return words of which some runs are weights as a kernel keeps them, the others anything, and their coding."""
    table, parts = _table(rng), list[NDArray[np.int8]]()

    def run(groups: int) -> NDArray[np.int8]:
        match form:
            case Form.PLAIN:
                numbers = rng.integers(-8, 8, (groups, GROUP))
            case Form.TABLE:
                numbers = table[rng.integers(0, len(table), (groups, GROUP))]
            case Form.LANES:
                numbers = rng.integers(-8, 8, (groups, GROUP)) * rng.integers(1, 16, GROUP)
            case Form.ODD | Form.HALVES:
                multipliers = rng.integers(1, 16, (groups, 2))[:, UPPER[form].astype(int)]
                numbers = rng.integers(-8, 8, (groups, GROUP)) * multipliers
        kept = numbers.astype(np.int8).ravel()
        if pairs:
            kept[1::2] -= kept[::2] < 0
        return kept

    for _ in range(int(rng.integers(1, 6))):
        parts += [run(int(rng.integers(0, 40))), rng.integers(-128, 128, 4 * int(rng.integers(0, 9))).astype(np.int8)]
    kind = next(kind for kind, forms in FORMS.items() if form in forms)
    coding = Coding(kind, tuple(int(value) for value in table) if kind is Kind.TABLE else ())
    return np.concatenate([*parts, run(150)]).view("<i4"), coding  # so much that packing pays


def _table(rng: np.random.Generator) -> NDArray[np.int8]:
    return np.sort(rng.choice(np.arange(-127, 128), 16, replace=False)).astype(np.int8)
