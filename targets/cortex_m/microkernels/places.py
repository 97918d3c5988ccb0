"""Where the outputs of a matrix product go: pixel after pixel, or plane after plane."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Places:
    """What lies between the outputs of a tile.

    Attributes
    ----------
    step : bytes from a pixel to the next, whose channels lie side by side; in planes from a channel to the next, whose
        pixels do.
    planes : which of the two.
    """

    step: int
    planes: bool = False

    @property
    def name(self) -> str:
        """Part of a microkernel's name."""
        return f"{'planes_' if self.planes else ''}{self.step}"

    @property
    def pixel_step(self) -> int:
        """From a pixel to the next, in bytes."""
        return 1 if self.planes else self.step

    @property
    def channel_step(self) -> int:
        """From a channel to the next, in bytes."""
        return self.step if self.planes else 1
