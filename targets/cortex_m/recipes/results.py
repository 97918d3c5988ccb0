"""Where a convolution's results go: out, or block by block to the operator behind it.

A recipe that computes a block of pixels after the other makes one function of a convolution and what reads its result
(`integer_ops.CONV2D_THEN`): each block is handed on while it lies in scratch, so that the tensor between the two never
exists as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from tvm_tinyml.choice import NONE, Knobs
from tvm_tinyml.passes.fuse_pools import covers
from tvm_tinyml.passes.integer_ops import Attributes, conv2d, shape_of, then_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Overlap, Recipe
from tvm_tinyml.passes.kernels.reduction import average_of, scaled_mean_of
from tvm_tinyml.targets.cortex_m.microkernels.add_up import MOST_PIXELS, add_up
from tvm_tinyml.targets.cortex_m.microkernels.microkernel import Microkernel
from tvm_tinyml.targets.cortex_m.microkernels.places import Places
from tvm_tinyml.targets.cortex_m.recipes.depthwise_geometry import Index

HANDED_BYTES = 2048
"""Of a block that is handed on, about: small beside most tensors, and large beside what a call takes."""


class Results:
    """What a recipe's function does with results: as it is here, they go out.

    While the function is built, `parameters` comes first, `begin` with its scratch; then `pointer` as often as a block
    of pixels is written, and `take` behind each block; at last `end`.

    Parameters
    ----------
    size : bytes of the output, from the first to the last.
    step : bytes from a pixel to the next where `pointer` points.

    Attributes
    ----------
    most_pixels : of a block, as far as the recipe can do with so few.
    microkernels : that are called.
    """

    def __init__(self, size: int, step: int, microkernels: Sequence[Microkernel] = ()) -> None:
        self.step = step
        self.most_pixels = size
        self.microkernels = microkernels
        self._size = size

    @property
    def places(self) -> Places:
        """Return where outputs lie from `pointer` on."""
        return Places(self.step)

    def parameters(self) -> None:
        """Add the last parameters of the function."""
        self._output = T.arg("output", T.Buffer((self._size,), "int8"))

    def begin(self, pixels: int) -> None:
        """Allocate what blocks of at most so many pixels need."""

    def pointer(self, pixel: Index, place: Index, channel: int) -> Expr:
        """Return where a channel of a pixel is written, the pixel number `place` of its block."""
        return T.address_of(self._output[pixel * self.step + channel])

    def take(self, first: Index, pixels: int, known: int = 0) -> None:
        """Do what comes behind a block of pixels, the first of which, if `known`, another block had already."""

    def end(self) -> None:
        """Do what comes behind the last block."""

    def finish(self, kernel: Kernel) -> Kernel:
        """Return a convolution's kernel that has been made so, with all there is to say of it."""
        return kernel


class _Handed(Results):
    """A block of results lies in scratch, one pixel behind the other."""

    def __init__(self, size: int, step: int, microkernels: Sequence[Microkernel] = ()) -> None:
        super().__init__(size, step, microkernels)
        self.most_pixels = HANDED_BYTES // step

    def begin(self, pixels: int) -> None:
        self._block = T.sblock_alloc_buffer((pixels * self.step,), "int8")

    def pointer(self, pixel: Index, place: Index, channel: int) -> Expr:
        return self._block.access_ptr("w", offset=place * self.step + channel)

    @staticmethod
    def _described(kernel: Kernel, kind: str, what: str) -> Kernel:
        """Return the kernel as one of that kind, with what is done to each block."""
        assert kernel.method is not None
        method = replace(kernel.method, algorithm=f"{kernel.method.algorithm}, each block {what}")
        return replace(kernel, kind=kind, method=method)


class Added(_Handed):
    """Results are added to another tensor of their shape, whose place the sum may take.

    Parameters
    ----------
    other : that tensor.
    kernel, words : the microkernel of (constants, a, b, sum, elements), and its constants.
    """

    def __init__(self, other: relax.Expr, kernel: Microkernel, words: NDArray[np.int32]) -> None:
        super().__init__(math.prod(shape_of(other)), shape_of(other)[-1], [kernel])
        self._other, self._words = other, words

    def parameters(self) -> None:
        self._added = T.arg("added", T.Buffer((self._size,), "int8"))
        self._constants = T.arg("sum_constants", T.Buffer((len(self._words),), "int32"))
        super().parameters()

    def take(self, first: Index, pixels: int, known: int = 0) -> None:
        start = (first + known) * self.step
        places = T.address_of(self._added[start]), T.address_of(self._output[start])
        made = self._block.access_ptr("r", offset=known * self.step)
        call = self._constants.access_ptr("r"), made, *places, (pixels - known) * self.step
        T.evaluate(T.call_extern("int32", self.microkernels[0].name, *call))

    def finish(self, kernel: Kernel) -> Kernel:
        arguments = [*kernel.arguments, relax.op.reshape(self._other, (self._size,)), relax.const(self._words)]
        # What a block is added to has been read when its sum is written.
        overlaps = [*kernel.overlaps, Overlap(len(kernel.arguments), 0)]
        return replace(self._described(kernel, "conv2d_add", "added"), arguments=arguments, overlaps=overlaps)


class Averaged(_Handed):
    """Results are averaged over all pixels: the sum of each channel grows with every block.

    Parameters
    ----------
    image : shape of the results.
    kind : name of the operator that averages.
    kernel : the microkernel that adds a block up.
    """

    def __init__(self, image: Sequence[int], kind: str, attributes: Attributes, kernel: Microkernel) -> None:
        super().__init__(image[3], image[3], [kernel])
        self.most_pixels = min(self.most_pixels, MOST_PIXELS)
        self._pixels, self._kind, self._attributes = image[1] * image[2], kind, attributes

    def begin(self, pixels: int) -> None:
        super().begin(pixels)
        self._sums = T.sblock_alloc_buffer((self.step,), "int32")
        with T.serial(self.step) as channel:
            T.buffer_store(self._sums, 0, [channel])

    def take(self, first: Index, pixels: int, known: int = 0) -> None:
        made = self._block.access_ptr("r", offset=known * self.step)
        call = self._sums.access_ptr("rw"), made, pixels - known, self.step
        T.evaluate(T.call_extern("int32", self.microkernels[0].name, *call))

    def end(self) -> None:
        average = average_of if self._kind == "avg_pool2d" else scaled_mean_of
        with T.serial(self.step) as channel:
            T.buffer_store(self._output, average(self._sums[channel], self._pixels, self._attributes), [channel])

    def finish(self, kernel: Kernel) -> Kernel:
        # The loops that write the output are no microkernel: its place is its own.
        return replace(self._described(kernel, f"conv2d_{self._kind}", "added up"), overlaps=())


class ByBlocks(Protocol):
    """A recipe for ``tinyml.conv2d`` that hands blocks of results on."""

    @property
    def name(self) -> str:
        """What a choice calls it."""

    def lower(
        self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs, results: Results
    ) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""


Second = Callable[[Sequence[int], Sequence[relax.Expr], Attributes], Results | None]
"""From the shape of a convolution's results, the other operands and the attributes of the operator behind it."""

Sum = Callable[[Attributes], "tuple[Microkernel, NDArray[np.int32]] | None"]
"""From the attributes of a sum to its microkernel and constants, if there are any."""


class Then(Recipe):
    """A convolution of one image together with the operator behind it, by the recipe that it would have alone.

    Parameters
    ----------
    recipe : the convolution's.
    second : returns None where the operator behind it has a kernel of its own only.
    """

    def __init__(self, recipe: ByBlocks, second: Second) -> None:
        self._recipe = recipe
        self._second = second

    @property
    def name(self) -> str:
        """That of the convolution's recipe."""
        return self._recipe.name

    def lower(self, arguments: Sequence[relax.Expr], attributes: Attributes, knobs: Knobs = NONE) -> Kernel | None:
        """Return the kernel, or None where its conditions are not met."""
        own = len(conv2d.arguments)
        image = conv2d.shape([shape_of(argument) for argument in arguments[:own]], attributes)
        results = self._second(image, arguments[own:], then_of(attributes)) if image[0] == 1 else None
        return None if results is None else self._recipe.lower(arguments[:own], attributes, knobs, results)


def then(recipe: ByBlocks, add: Sum, *, dsp: bool) -> dict[str, tuple[Recipe, ...]]:
    """Return the recipes for a convolution with an operator behind it, by name of the two.

    Parameters
    ----------
    add : makes sums on the same cores.
    dsp : whether these have the DSP extension.
    """

    def added(_image: Sequence[int], others: Sequence[relax.Expr], attributes: Attributes) -> Results | None:
        found = add(attributes)
        return None if found is None else Added(others[0], *found)

    def averaged(kind: str) -> Second:
        def results(image: Sequence[int], _others: Sequence[relax.Expr], attributes: Attributes) -> Results | None:
            return Averaged(image, kind, attributes, add_up(dsp=dsp)) if covers(image, attributes) else None

        return results

    pools = {f"tinyml.conv2d_{kind}": (Then(recipe, averaged(kind)),) for kind in ("avg_pool2d", "mean_pool2d", "mean")}
    return {"tinyml.conv2d_add": (Then(recipe, added),), **pools}
