"""A convolution's results in planes for the depthwise convolution behind it, their border with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.passes.kernels.kernel import Kernel
from tvm_tinyml.passes.tensor_layouts import Planes
from tvm_tinyml.targets.cortex_m.microkernels.fill_edges import fill_edges
from tvm_tinyml.targets.cortex_m.microkernels.places import Places
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Index
from tvm_tinyml.targets.cortex_m.recipes.results import Results

EDGE_CYCLES = 20
"""What filling an edge takes, beside a cycle for every two of its bytes; about, on a Cortex-M4."""


class InPlanes(Results):
    """Results go out in planes, whose edges are filled first."""

    def __init__(self, layout: Planes) -> None:
        has_edges = layout.top or layout.bottom
        super().__init__(layout.size_bytes, layout.plane_bytes, [fill_edges()] if has_edges else [])
        self._layout = layout

    @property
    def places(self) -> Places:
        return Places(self._layout.plane_bytes, planes=True)

    def begin(self, pixels: int) -> None:
        layout = self._layout
        above, below = layout.top * layout.width, layout.bottom * layout.width
        end = layout.left + layout.channels * layout.plane_bytes
        self._fill(layout.left, above, 1)
        self._fill(layout.left + layout.plane_bytes - below, below + above, layout.channels - 1)
        self._fill(end - below, below, 1)

    def pointer(self, pixel: Index, place: Index, channel: int) -> Expr:
        return T.address_of(self._output[self._layout.first + channel * self._layout.plane_bytes + pixel])

    def finish(self, kernel: Kernel) -> Kernel:
        # Where a pixel is read has nothing to do with where its channels are written.
        return replace(kernel, output_layout=self._layout, output_step=0, overlaps=(), in_place=())

    def _fill(self, begin: int, size: int, edges: int) -> None:
        if size and edges:
            value = int.from_bytes(np.full(4, self._layout.border, np.int8).tobytes(), "little", signed=True)
            call = T.address_of(self._output[begin]), T.int32(value), size, self._layout.plane_bytes, edges
            T.evaluate(T.call_extern("int32", self.microkernels[0].name, *call))


def edge_cycles(layout: Planes) -> int:
    """Return what filling the edges of planes takes, about."""
    return layout.channels * (EDGE_CYCLES + (layout.top + layout.bottom) * layout.width // 2)
