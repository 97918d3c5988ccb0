"""Sixty layers that no famous network has: the shapes by which the kernels are judged, drawn from a fixed seed.

They were drawn before the first kernel was written for them, so that no kernel is made to its benchmark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.int8_graph import Int8Graph, Network

SEED, COUNT = 2026, 60
LARGEST_MACS = 1_200_000

CHANNELS = (1, 3, 5, 7, 8, 12, 16, 24, 40, 96)
KERNELS = ((1, 1), (1, 1), (1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (11, 11), (3, 1), (1, 5), (10, 4), (2, 2))
EXTENTS = (1, 5, 7, 9, 13, 14, 19, 24, 31, 48)
ACTIVATIONS = ("NONE", "RELU", "RELU6")
KINDS = ("conv", "conv", "conv", "depthwise", "depthwise", "grouped", "dense")


@dataclass(frozen=True)
class LayerShape:
    """One layer with one input, in NHWC.

    kind : "conv", "depthwise", "grouped" or "dense".
    height, width, channels_in : of the input; a dense layer has 1 x 1 and ``batch`` rows.
    channels_out : of the output; for "depthwise" a multiple of ``channels_in``.
    groups : of a "grouped" convolution.
    """

    kind: str
    batch: int
    height: int
    width: int
    channels_in: int
    channels_out: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    padding: str
    activation: str

    @property
    def name(self) -> str:
        """Short enough for a table: ``conv 3x3 14x14 24->40 s2 d1 same relu``."""
        size = f"{self.height}x{self.width}" if self.batch == 1 else f"{self.batch}x{self.height}x{self.width}"
        parts = [self.kind, "x".join(map(str, self.kernel)), size, f"{self.channels_in}->{self.channels_out}"]
        if self.groups > 1:
            parts.append(f"g{self.groups}")
        if self.strides != (1, 1):
            parts.append("s" + "x".join(map(str, self.strides)))
        if self.dilation != (1, 1):
            parts.append("d" + "x".join(map(str, self.dilation)))
        return " ".join([*parts, self.padding.lower(), self.activation.lower()])

    @property
    def taps(self) -> int:
        """Multiply-accumulates of one output element."""
        inside = 1 if self.kind == "depthwise" else self.channels_in // self.groups
        return self.kernel[0] * self.kernel[1] * inside

    def network(self) -> Network:
        """Return a model of this layer alone, with seeded weights."""
        graph = Int8Graph(SEED, samples=2)
        x = graph.input((self.batch, self.height, self.width, self.channels_in), (0.05, -4))
        window = {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}
        match self.kind:
            case "dense":
                y = graph.dense(
                    graph.reshape(x, (self.batch, self.channels_in)), self.channels_out, activation=self.activation
                )
            case "depthwise":
                multiplier = self.channels_out // self.channels_in
                y = graph.depthwise(x, self.kernel, multiplier=multiplier, activation=self.activation, **window)
            case _:
                y = graph.conv(
                    x, self.channels_out, self.kernel, groups=self.groups, activation=self.activation, **window
                )
        return graph.finish("layer", y)


def layer_shapes() -> list[LayerShape]:
    """Return the sixty shapes, all different, none of more than 1.2 million multiply-accumulates."""
    rng = np.random.default_rng(SEED)
    shapes: list[LayerShape] = []
    while len(shapes) < COUNT:
        shape = _draw(rng)
        outputs = shape.batch * _outputs(shape)
        if outputs and 2_000 <= outputs * shape.channels_out * shape.taps <= LARGEST_MACS and shape not in shapes:
            shapes.append(shape)
    return shapes


def _draw(rng: np.random.Generator) -> LayerShape:
    def pick(*choices: object) -> int:
        return int(rng.integers(len(choices)))

    kind = KINDS[pick(*KINDS)]
    channels_in, channels_out = CHANNELS[pick(*CHANNELS)], CHANNELS[pick(*CHANNELS)]
    height, width = EXTENTS[pick(*EXTENTS)], EXTENTS[pick(*EXTENTS)]
    kernel = KERNELS[pick(*KERNELS)]
    strides = ((1, 1), (1, 1), (2, 2), (3, 3), (2, 1))[pick(*range(5))]
    dilation = ((1, 1), (1, 1), (1, 1), (2, 2), (1, 3))[pick(*range(5))] if strides == (1, 1) else (1, 1)
    batch = (1, 1, 1, 3)[pick(*range(4))]
    padding, activation = ("SAME", "VALID")[pick(0, 1)], ACTIVATIONS[pick(*ACTIVATIONS)]
    groups = 1
    match kind:
        case "dense":
            height = width = 1
            kernel = strides = dilation = (1, 1)
            channels_in, channels_out = channels_in * int(rng.integers(1, 13)), channels_out * int(rng.integers(1, 5))
            padding = "VALID"
        case "depthwise":
            channels_out = channels_in * (1, 1, 1, 2)[pick(*range(4))]
        case "grouped":
            groups = (2, 3, 4)[pick(*range(3))]
            channels_in, channels_out = channels_in * groups, channels_out * groups
    return LayerShape(
        kind, batch, height, width, channels_in, channels_out, kernel, strides, dilation, groups, padding, activation
    )


def _outputs(shape: LayerShape) -> int:
    """Pixels of the output of one image; 0 if the window does not fit."""
    pixels = 1
    for axis, extent in enumerate((shape.height, shape.width)):
        reach = (shape.kernel[axis] - 1) * shape.dilation[axis] + 1
        covered = extent if shape.padding == "SAME" else extent - reach + 1
        pixels *= max(0, -(-covered // shape.strides[axis]))
    return pixels
