"""Codes of weights: which weights have one, that nothing is lost, and that none is longer than it need be."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.narrow_weights import KINDS, WAYS, weights, words
from tvm_tinyml.passes.weight_codes import FORMS, GROUP, Coding, Form, Kind, coding_of, decoded, encoded


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(8, 3, 3, 16), (5, 100), (16, 1, 1, 3), (1, 40)])
def test_weights_tell_their_kind(kind: Kind, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    coding = coding_of(weights(rng, kind, shape))
    assert coding is not None
    few = kind is Kind.SCALED and np.prod(shape) < 100  # numbers so few are a table as well
    assert coding.kind == kind or few


def test_weights_of_eight_bits_have_no_code(rng: np.random.Generator) -> None:
    assert coding_of(rng.integers(-127, 128, (8, 64)).astype(np.int8)) is None
    assert coding_of(np.arange(-40, 40, dtype=np.int8).repeat(4).reshape(8, 40)) is None


@pytest.mark.parametrize(("form", "pairs"), WAYS)
def test_nothing_is_lost(form: Form, pairs: bool, rng: np.random.Generator) -> None:
    for _ in range(20):
        values, coding = words(rng, form, pairs=pairs)
        code = encoded(values, coding, form, pairs=pairs)
        np.testing.assert_array_equal(decoded(code, form, pairs=pairs).view("<i4"), values)
        assert code.nbytes < 0.75 * values.nbytes
        other = encoded(values, coding, form, pairs=not pairs)  # a wrong guess costs space, never a weight
        np.testing.assert_array_equal(decoded(other, form, pairs=not pairs).view("<i4"), values)


@pytest.mark.parametrize("values", [np.zeros(0, np.int8), np.full(4, 100, np.int8), np.arange(256).astype(np.int8)])
@pytest.mark.parametrize("form", Form)
def test_what_has_no_weights_is_copied(values: np.ndarray, form: Form) -> None:
    kind = next(kind for kind, forms in FORMS.items() if form in forms)
    code = encoded(values, Coding(kind, (0,) if kind is Kind.TABLE else ()), form, pairs=False)
    np.testing.assert_array_equal(decoded(code, form, pairs=False), values)


def test_sizes_are_what_four_bits_take(rng: np.random.Generator) -> None:
    count = 64 * GROUP
    plain, table = weights(rng, Kind.PLAIN, (count,)), weights(rng, Kind.TABLE, (count,))
    assert encoded(plain, Coding(Kind.PLAIN), Form.PLAIN, pairs=False).nbytes == count / 2 + 8
    coding = coding_of(table.reshape(1, -1))
    assert coding is not None
    assert encoded(table, coding, Form.TABLE, pairs=False).nbytes == count / 2 + 8 + 16
    scaled, coding = weights(rng, Kind.SCALED, (1, count), group=4 * GROUP), Coding(Kind.SCALED)
    assert encoded(scaled, coding, Form.LANES, pairs=False).nbytes <= count / 2 + count / (4 * GROUP) * 12 + 4
    assert encoded(scaled, coding, Form.ODD, pairs=False).nbytes == count / 2 + 8 + count / GROUP


def test_more_than_a_run_can_count(rng: np.random.Generator) -> None:
    count, coding = 4 * 4 * 0x10010, Coding(Kind.PLAIN)
    for values in (weights(rng, Kind.PLAIN, (count,)), np.full(count, 100, np.int8)):
        code = encoded(values, coding, Form.PLAIN, pairs=False)
        np.testing.assert_array_equal(decoded(code, Form.PLAIN, pairs=False), values)
