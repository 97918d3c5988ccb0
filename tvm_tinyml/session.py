"""A library loaded on a device: inputs in, outputs and counts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.device.engines import make_simulator
from tvm_tinyml.device.simulator import CallResult
from tvm_tinyml.device.timing import MemoryTiming
from tvm_tinyml.errors import DeviceError


@dataclass(frozen=True)
class Inference:
    """One run: the outputs in the model's order, and what the call cost."""

    outputs: list[NDArray[Any]]
    call: CallResult


class Session:
    """Calls a library's ``run`` on a simulator as an application would.

    Parameters
    ----------
    metadata : the library's.
    objects : its relocatable objects.
    on : one of ``DEVICES``.
    misalign : bytes by which the caller's buffers miss word alignment, to prove that they may; then every access that
        hardware would refuse is a fault.
    """

    def __init__(self, metadata: Metadata, objects: Sequence[bytes], *, on: str = "sim", misalign: int = 0) -> None:
        self._metadata = metadata
        self._simulator = make_simulator(metadata["target"].split("+")[0], on, check_alignment=misalign > 0)
        self._simulator.load(objects)
        self._pools = {
            pool["begin_bytes"]: self._simulator.allocate(max(pool["size_bytes"], 1), alignment=pool["align_bytes"])
            for pool in metadata["pools"].values()
        }
        self._inputs = [self._buffer(t, misalign) for t in metadata["inputs"]]
        self._outputs = [self._buffer(t, misalign) for t in metadata["outputs"]]
        self._arguments = [self._struct(fields) for fields in (self._inputs, self._outputs, [*self._pools.values()])]

    def run(self, inputs: Sequence[NDArray[Any]], memory: MemoryTiming | None = None) -> Inference:
        """Run one inference on arrays of the inputs' shapes and dtypes; with a memory its cycles are counted.

        Raises
        ------
        DeviceError : the program faulted, wrote outside its buffers, or returned an error.
        """
        self._write(inputs)
        symbol = f"tvmgen_{self._metadata['model']}_run"
        call = self._simulator.call(symbol, *self._arguments, memory=memory)
        if call.value:
            raise DeviceError(f"{symbol} returned error {call.value}.")
        self._simulator.check_guards()
        return Inference(self.outputs(), call)

    def run_layers(
        self,
        inputs: Sequence[NDArray[Any]],
        memory: MemoryTiming | None = None,
        budget_instructions: int = 2_000_000_000,
    ) -> list[CallResult | None]:
        """Call every layer's kernel once, in order, and return what each call cost.

        Together the calls compute one inference. A copy between buffers is no kernel: it is done, and None.

        Raises
        ------
        DeviceError : a kernel faulted, needed more instructions than the budget, or wrote outside the buffers.
        """
        self._write(inputs)
        calls: list[CallResult | None] = []
        for layer in self._metadata["layers"]:
            addresses = [self._address(place, position) + begin for place, position, _, begin in layer["operands"]]
            if layer["kernel"] is None:
                source, to = addresses
                self._simulator.write(to, self._simulator.read(source, layer["operands"][0][2]))
                calls.append(None)
                continue
            calls.append(
                self._simulator.call(layer["kernel"], *addresses, memory=memory, budget=budget_instructions)
            )
        self._simulator.check_guards()
        return calls

    def outputs(self) -> list[NDArray[Any]]:
        """Return what the outputs hold now, in the model's order."""
        return [self._read(i) for i in range(len(self._outputs))]

    def close(self) -> None:
        """Free the simulator."""
        self._simulator.close()

    def _write(self, inputs: Sequence[NDArray[Any]]) -> None:
        for address, array in zip(self._inputs, inputs, strict=True):
            self._simulator.write(address, np.ascontiguousarray(array).tobytes())

    def _buffer(self, tensor: dict[str, Any], misalign: int) -> int:
        if tensor["workspace_offset"] is not None:
            return self._in_pool(tensor["workspace_offset"])
        return self._simulator.allocate(tensor["size_bytes"], alignment=16, offset=misalign)

    def _struct(self, fields: Sequence[int]) -> int:
        address = self._simulator.allocate(4 * len(fields))
        self._simulator.write(address, b"".join(field.to_bytes(4, "little") for field in fields))
        return address

    def _address(self, place: str, position: int) -> int:
        match place:
            case "input":
                return self._inputs[position]
            case "output":
                return self._outputs[position]
            case "constant":
                return self._simulator.symbols[f"tvmgen_{self._metadata['model']}_constant_{position}"]
            case _:
                return self._in_pool(position)

    def _in_pool(self, offset: int) -> int:
        """Return the address of an offset in all pools laid one behind the other."""
        begin = max(begin for begin in self._pools if begin <= offset)
        return int(self._pools[begin] + offset - begin)

    def _read(self, index: int) -> NDArray[Any]:
        tensor = self._metadata["outputs"][index]
        data = self._simulator.read(self._outputs[index], tensor["size_bytes"])
        return np.frombuffer(data, np.dtype(tensor["dtype"])).reshape(tensor["shape"]).copy()
