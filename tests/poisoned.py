"""A session that shows what a library reads without having written it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.int8_graph import Network
from tvm_tinyml.session import Session

PATTERNS = (0x00, 0x55, 0xAA, 0xFF)


class Poisoned(Session):
    """A session whose pool is filled before each run."""

    def fill(self, pattern: int) -> None:
        """Fill the pool."""
        for address, pool in zip(self._pools.values(), self._metadata["pools"].values(), strict=True):
            self._simulator.write(address, bytes([pattern]) * pool["size_bytes"])


def check_poisoned(metadata: dict[str, Any], objects: Sequence[bytes], network: Network, about: str) -> None:
    """Compare bytes with the reference for several contents of the pool before."""
    inputs = network.random_inputs(2)
    reference = network.run(inputs)
    session = Poisoned(metadata, objects)
    for pattern in PATTERNS:
        session.fill(pattern)
        for output, expected in zip(session.run(inputs).outputs, reference, strict=True):
            np.testing.assert_array_equal(output, expected.reshape(output.shape), f"{about}, pool of {pattern:#x}")
    session.close()
