"""Modules that round numbers to those that integers stand for, with a step that is learned.

Source: Esser et al., Learned Step Size Quantization, ICLR 2020. Gradients pass the rounding as if it were not there,
and the step's own are scaled as in section 2.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LOWEST, HIGHEST = -128, 127
"""Integers of activations."""

LEAST_SCALE = 2.0**-30
"""Of what is learned, so that a step never vanishes."""

STEPS = 41
"""That weights may begin with, from the one that reaches over all of them down."""

LEAST_SHARE = 0.2
"""Of the weights' range that a first step reaches over."""


class Quantizer(nn.Module):
    """Rounds to the nearest integer multiple of a step, halves away from zero, within limits.

    Attributes
    ----------
    scale : the step, a parameter: of shape () or one for each extent of `axis`.
    zero_point : the integer that stands for 0.
    low, high : the least and the largest integer.
    """

    zero_point: Tensor

    def __init__(self, scale: Tensor, zero_point: int, low: int, high: int, axis: int | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)
        self.register_buffer("zero_point", torch.tensor(zero_point))
        self.low, self.high, self.axis = low, high, axis

    def integers(self, x: Tensor) -> Tensor:
        """Return the integers that stand for `x`, as floats."""
        return self._integers(x, self._spread(self.steps, x))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the integers stand for."""
        factor = (self._shared(x) * self.high) ** -0.5
        step = self._spread(_ScaledGradient.apply(self.steps, factor), x)  # type: ignore[no-untyped-call]
        return (self._integers(x, step) - self.zero_point) * step

    @property
    def steps(self) -> Tensor:
        """The scale, positive whatever was learned."""
        return self.scale.abs().clamp_min(LEAST_SCALE)

    def _integers(self, x: Tensor, step: Tensor) -> Tensor:
        rounded: Tensor = _Round.apply(x / step)  # type: ignore[no-untyped-call]
        return (rounded + self.zero_point).clamp(self.low, self.high)

    def _spread(self, steps: Tensor, x: Tensor) -> Tensor:
        return steps if self.axis is None else steps.reshape([-1 if i == self.axis else 1 for i in range(x.ndim)])

    def _shared(self, x: Tensor) -> int:
        """Return how many numbers one step is for."""
        return x.numel() // self.scale.numel()


class ActivationQuantizer(Quantizer):
    """For tensors that are computed: int8, asymmetric, with an integer for 0.

    While `observing` it leaves what passes as it is and notes the range; `start` makes scale and zero point of that.
    """

    def __init__(self) -> None:
        super().__init__(torch.ones(()), 0, LOWEST, HIGHEST)
        self.observing = True
        self._least, self._largest = 0.0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return what the integers stand for, or `x` itself and note its range."""
        if not self.observing:
            return super().forward(x)
        self._least = min(self._least, float(x.min()))
        self._largest = max(self._largest, float(x.max()))
        return x

    def start(self) -> None:
        """Begin to round: to integers that reach over the range that was seen."""
        self.observing = False
        scale = (self._largest - self._least) / (HIGHEST - LOWEST) or 1.0
        with torch.no_grad():
            self.scale.fill_(scale)
            self.zero_point.fill_(max(LOWEST, min(HIGHEST, round(LOWEST - self._least / scale))))

    def _shared(self, x: Tensor) -> int:
        return max(x[0].numel(), 1) if x.ndim else 1  # of one sample


class FixedQuantizer(Quantizer):
    """For what functions with known bounds make: TFLite fixes its quantization, and nothing is learned."""

    observing = False

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__(torch.tensor(scale), zero_point, LOWEST, HIGHEST)
        self.scale.requires_grad_(False)


class WeightQuantizer(Quantizer):
    """For weights: symmetric, a step for each output channel.

    Parameters
    ----------
    values : at the start.
    axis : of the output channels; None for one step in all.
    bits : of an integer, 2 to 8: [-127, 127] for 8.
    """

    def __init__(self, values: Tensor, axis: int | None, bits: int = 8) -> None:
        high = 2 ** (bits - 1) - 1
        values = values.detach()
        rows = values.reshape(1, -1) if axis is None else values.movedim(axis, 0).flatten(1)
        steps = _least_error_steps(rows, high)
        super().__init__(steps.reshape(()) if axis is None else steps, 0, -high, high, axis)


def _least_error_steps(rows: Tensor, high: int) -> Tensor:
    """Return for each row the step with the least squared error: with few integers it cuts large numbers off."""
    peaks = rows.abs().amax(1)
    peaks = torch.where(peaks > 0, peaks, torch.full_like(peaks, high))
    best, least = peaks / high, torch.full_like(peaks, float("inf"))
    for share in torch.linspace(1.0, LEAST_SHARE, STEPS):
        steps = peaks * share / high
        kept = (rows / steps[:, None]).round().clamp(-high, high) * steps[:, None]
        error = (rows - kept).square().sum(1)
        best, least = torch.where(error < least, steps, best), torch.minimum(error, least)
    return best


class _Round(torch.autograd.Function):
    """Round halves away from zero; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        whole = torch.trunc(x)
        return whole + torch.where((x - whole).abs() >= 0.5, torch.sign(x), torch.zeros_like(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _ScaledGradient(torch.autograd.Function):
    """Nothing but a factor for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None
