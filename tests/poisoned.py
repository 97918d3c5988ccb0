"""A session that shows what a library reads without having written it."""

from __future__ import annotations

from tvm_tinyml.session import Session

PATTERNS = (0x00, 0x55, 0xAA, 0xFF)


class Poisoned(Session):
    """A session whose pool is filled before each run."""

    def fill(self, pattern: int) -> None:
        """Fill the pool."""
        for address, pool in zip(self._pools.values(), self._metadata["pools"].values(), strict=True):
            self._simulator.write(address, bytes([pattern]) * pool["size_bytes"])
