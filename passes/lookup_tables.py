"""Tables of 256 entries: functions of an 8-bit number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Table = NDArray[Any]


def numbers(dtype: str) -> Table:
    """Return all numbers of an 8-bit type in the order of a table's entries: the table that changes nothing.

    >>> numbers("int8")[[0, -1]].tolist(), numbers("uint8")[[0, -1]].tolist()
    ([-128, 127], [0, 255])
    """
    info = np.iinfo(dtype)
    return np.arange(info.min, info.max + 1).astype(dtype)


def composed(outer: Table, inner: Table) -> Table:
    """Return the table of ``outer(inner(x))``.

    >>> composed(-numbers("int8"), np.array([5, -3], np.int8)).tolist()
    [-5, 3]
    """
    return outer[inner.astype(np.intp) - np.iinfo(inner.dtype).min]
