"""Arm's kernel library CMSIS-NN on our simulator, layer by layer: the peer of `benchmarks.peers`.

Its sources are no part of this project. They are compiled as they are, from a checkout of
github.com/ARM-software/CMSIS-NN, with arm-none-eabi-gcc; a small program of constants calls the library's own wrappers,
which choose the kernel, on what the reference computes for the layer before. Every output is compared with the
reference. What an interpreter adds around the kernels is not counted.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.device import Simulator
from tvm_tinyml.errors import DeviceError
from tvm_tinyml.targets.cortex_m import cortex_m

COMPILER = "arm-none-eabi-gcc"
LEVELS = ("-O2", "-O3")
FLAGS = ("-std=gnu11", "-ffunction-sections", "-fdata-sections", "-fomit-frame-pointer", "-DNDEBUG")
FOLDERS = ("Activation", "Convolution", "FullyConnected", "BasicMath", "NNSupport", "Pooling")
"""Folders of its sources; those of floating-point kernels are left out by name."""

SCRATCH_BYTES = 64 * 1024
DENSE_OFFSET = 128
"""A dense layer's integer form has no zero point left. Any offset gives the same result with its bias; this one is that
of an input behind a ReLU."""


@dataclass(frozen=True)
class Layer:
    """An operator of the integer graph with what it computes for one input.

    Attributes
    ----------
    op : ``conv2d``, ``depthwise_conv2d``, ``dense``, ``add``, ``avg_pool2d`` or another name.
    tensors : activations, then constants, in the order of the dialect.
    attributes : of the dialect.
    """

    op: str
    tensors: Sequence[NDArray[Any]]
    attributes: Mapping[str, Any]
    result: NDArray[Any]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding included."""
        weighted = self.op in ("conv2d", "depthwise_conv2d", "dense")
        return int(self.result.size * np.prod(self.tensors[1].shape[1:])) if weighted else 0


@dataclass(frozen=True)
class Figures:
    """What a layer takes."""

    cycles: int
    instructions: int


class CmsisNN:
    """A checkout of the library.

    Parameters
    ----------
    folder : with ``Include`` and ``Source``.

    Raises
    ------
    DeviceError : it holds none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._compiled: dict[tuple[str, str], list[bytes]] = {}
        if not (folder / "Include" / "arm_nnfunctions.h").is_file():
            raise DeviceError(
                f"'{folder}' is no checkout of CMSIS-NN: there is no Include/arm_nnfunctions.h. "
                "Clone github.com/ARM-software/CMSIS-NN and give its folder."
            )

    def measure(self, layers: Sequence[Layer], target: str, memories: Sequence[str]) -> list[dict[str, Figures] | None]:
        """Return by layer and memory what the faster of both levels takes; None for operators that are not called.

        Raises
        ------
        DeviceError : a layer's output differs from the reference, or the sources do not compile.
        """
        levels = [self._measure(layers, target, memories, level) for level in LEVELS]
        return [_fastest(each) for each in zip(*levels, strict=True)]

    def _measure(
        self, layers: Sequence[Layer], target: str, memories: Sequence[str], level: str
    ) -> list[dict[str, Figures] | None]:
        calls = {i: text for i, layer in enumerate(layers) if (text := "".join(_function(i, layer)))}
        with TemporaryDirectory() as folder, Simulator(target) as simulator:
            simulator.load(self._objects(Path(folder), target, level, _HEAD + "".join(calls.values())))
            scratch = simulator.allocate(SCRATCH_BYTES)
            return [
                {m: _run(simulator, f"layer_{i}", layer, scratch, m) for m in memories} if i in calls else None
                for i, layer in enumerate(layers)
            ]

    def _objects(self, folder: Path, target: str, level: str, program: str) -> list[bytes]:
        if (target, level) not in self._compiled:
            sources = (file for name in FOLDERS for file in (self._folder / "Source" / f"{name}Functions").glob("*.c"))
            chosen = [str(f) for f in sorted(sources) if not any(kind in f.stem for kind in ("_f16", "_f32", "_flt"))]
            self._compiled[target, level] = self._compile(folder, target, level, chosen)
        (folder / "program.c").write_text(program, encoding="ascii")
        return [*self._compiled[target, level], *self._compile(folder, target, level, ["program.c"])]

    def _compile(self, folder: Path, target: str, level: str, sources: Sequence[str]) -> list[bytes]:
        command = (COMPILER, *cortex_m(target).gcc_flags, level, *FLAGS, "-c", "-I", str(self._folder / "Include"))
        done = subprocess.run([*command, *sources], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DeviceError(f"CMSIS-NN does not compile for {target}: {done.stderr.strip().splitlines()[0]}")
        return [(folder / Path(source).with_suffix(".o").name).read_bytes() for source in sources]


def compiler_version() -> str:
    """Return the compiler's name and version."""
    printed = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout
    return printed.splitlines()[0]


def _fastest(levels: Sequence[dict[str, Figures] | None]) -> dict[str, Figures] | None:
    found = [level for level in levels if level]
    if not found:
        return None
    return {memory: min((each[memory] for each in found), key=lambda figures: figures.cycles) for memory in found[0]}


def _run(simulator: Simulator, symbol: str, layer: Layer, scratch: int, memory: str) -> Figures:
    addresses = []
    for tensor in layer.tensors[: 2 if layer.op == "add" else 1]:
        addresses.append(simulator.allocate(tensor.nbytes))
        simulator.write(addresses[-1], tensor.tobytes())
    to = simulator.allocate(layer.result.nbytes)
    call = simulator.call(symbol, addresses[0], addresses[-1], to, scratch, memory=memory)
    written = np.frombuffer(simulator.read(to, layer.result.nbytes), np.int8)
    differing = int((written != layer.result.ravel()).sum())
    if call.value or differing:
        raise DeviceError(
            f"CMSIS-NN's {layer.op} ({symbol}) returns {call.value}; {differing} of {written.size} bytes differ."
        )
    simulator.check_guards()
    assert call.cycles is not None, "a call that is given a memory counts cycles"
    return Figures(call.cycles.total, call.instructions)


_HEAD = '#include "arm_nnfunctions.h"\n'


def _array(kind: str, name: str, values: NDArray[Any]) -> str:
    numbers = ",".join("INT32_MIN" if v == -(2**31) else str(v) for v in values.ravel().tolist())
    return f"static const {kind} {name}[] = {{{numbers}}};\n"


def _dims(*extents: int) -> str:
    return f"&(const cmsis_nn_dims){{{','.join(str(extent) for extent in extents)}}}"


def _function(index: int, layer: Layer) -> Iterator[str]:
    """Yield the C of a layer: its constants, and a function of (input, second input, output, scratch)."""
    calls = {"conv2d": _conv2d, "depthwise_conv2d": _conv2d, "dense": _dense, "add": _add, "avg_pool2d": _avg_pool2d}
    if layer.op not in calls:
        return
    names = ("w", "b", "m", "s")
    if len(layer.tensors) == 5:
        for name, values in zip(names, _constants(layer), strict=True):
            yield _array("int8_t" if name == "w" else "int32_t", f"{name}{index}", values)
    yield f"int layer_{index}(const int8_t *x, const int8_t *z, int8_t *y, void *scratch) {{\n  (void)z;\n"
    yield f"  const cmsis_nn_context context = {{scratch, {SCRATCH_BYTES}}};\n  (void)context;\n"
    yield f"{calls[layer.op](str(index), layer)}}}\n"


def _constants(layer: Layer) -> tuple[NDArray[Any], ...]:
    """Return weights as the library stores them, the model's bias, multipliers and shifts (to the left)."""
    weight, bias, multiplier, shift = layer.tensors[1:]
    sums = weight.reshape(len(weight), -1).sum(axis=1, dtype=np.int64)
    offset = DENSE_OFFSET if layer.op == "dense" else -layer.attributes["input_zero_point"]
    if layer.op == "depthwise_conv2d":
        weight = weight[..., 0].transpose(1, 2, 0)
    return weight, bias - offset * sums, multiplier, shift


def _conv2d(i: str, layer: Layer) -> str:
    a, x, w, y = layer.attributes, layer.tensors[0].shape, layer.tensors[1].shape, layer.result.shape
    (stride_h, stride_w), (dilation_h, dilation_w), (top, left, *_) = a["strides"], a["dilation"], a["padding"]
    depthwise = layer.op == "depthwise_conv2d"
    kind, name = ("dw_conv", "depthwise_conv") if depthwise else ("conv", "convolve")
    multiplier = f"{y[3] // x[3]}," if depthwise else ""
    offsets = f"{-a['input_zero_point']},{a['output_zero_point']},{multiplier}"
    steps = f"{{{stride_w},{stride_h}}},{{{left},{top}}},{{{dilation_w},{dilation_h}}}"
    filters = _dims(1, w[1], w[2], y[3]) if depthwise else _dims(*w)
    return (
        f"  const cmsis_nn_{kind}_params params = {{{offsets}{steps},{{{a['clamp_min']},{a['clamp_max']}}}}};\n"
        f"  const cmsis_nn_per_channel_quant_params scales = {{(int32_t *)m{i}, (int32_t *)s{i}}};\n"
        f"  return arm_{name}_wrapper_s8(&context, &params, &scales, {_dims(*x)}, x, {filters}, w{i}, "
        f"{_dims(1, 1, 1, y[3])}, b{i}, {_dims(*y)}, y);\n"
    )


def _dense(i: str, layer: Layer) -> str:
    a, (rows, length), channels = layer.attributes, layer.tensors[0].shape, layer.result.shape[1]
    shared = all(len(set(values.tolist())) == 1 for values in layer.tensors[3:])
    return (
        f"  const cmsis_nn_fc_params params = {{{DENSE_OFFSET},0,{a['output_zero_point']},"
        f"{{{a['clamp_min']},{a['clamp_max']}}}}};\n"
        f"  const cmsis_nn_quant_params scales = {{(int32_t *)m{i}, (int32_t *)s{i}, {int(not shared)}}};\n"
        f"  return arm_fully_connected_wrapper_s8(&context, &params, &scales, {_dims(rows, 1, 1, length)}, x, "
        f"{_dims(length, 1, 1, channels)}, w{i}, {_dims(1, 1, 1, channels)}, b{i}, {_dims(rows, 1, 1, channels)}, y);\n"
    )


def _add(_i: str, layer: Layer) -> str:
    a = layer.attributes
    sides = [(-a[f"{side}_zero_point"], a[f"{side}_multiplier"], a[f"{side}_shift"]) for side in ("input1", "input2")]
    output = (a["output_zero_point"], a["output_multiplier"], a["output_shift"], a["clamp_min"], a["clamp_max"])
    before = ",".join(str(number) for number in (*sides[0], *sides[1], a["left_shift"]))
    behind = ",".join(str(number) for number in (*output, layer.result.size))
    return f"  return arm_elementwise_add_s8(x, z, {before}, y, {behind});\n"


def _avg_pool2d(_i: str, layer: Layer) -> str:
    a, x, y = layer.attributes, layer.tensors[0].shape, layer.result.shape
    (stride_h, stride_w), (top, left, *_) = a["strides"], a["padding"]
    clamp = f"{{{a['clamp_min']},{a['clamp_max']}}}"
    return (
        f"  const cmsis_nn_pool_params params = {{{{{stride_w},{stride_h}}},{{{left},{top}}},{clamp}}};\n"
        f"  return arm_avgpool_s8(&context, &params, {_dims(*x)}, x, {_dims(1, *a['pool_size'], 1)}, {_dims(*y)}, y);\n"
    )
