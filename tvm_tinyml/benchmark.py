"""The figures of one library: the content of ``bench --json``."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.arrays import count_differing
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.samples import sample_inputs


def bench(library: Library, model: Model | None = None, *, on: str = "sim") -> dict[str, Any]:
    """Run a library on the benchmark's input and return its figures.

    Parameters
    ----------
    model : the source of the library; with it the outputs are compared with the reference.

    Returns
    -------
    dict with the keys of ``bench --json``. ``cycles`` is None: the simulator counts instructions.
    """
    inputs = sample_inputs(library.metadata["inputs"])
    profile = library.profile(inputs, on=on)
    metadata = library.metadata
    counts = {layer.name: layer.instructions for layer in profile.layers}
    return {
        "model": library.name,
        "target": metadata["target"],
        "memory": "zero-wait",
        "on": on,
        "model_version": None,
        "macs": metadata["macs"],
        "macs_executed": metadata["macs"],
        "cycles": None,
        "instructions": profile.instructions,
        "ram_bytes": metadata["ram_bytes"],
        "stack_bytes_measured": profile.stack_bytes,
        "flash_bytes": metadata["flash_bytes"],
        "reference": _compare(library, model, inputs, on) if model else None,
        "kernels": metadata["kernels"],
        "layers": [
            {"name": l["name"], "op": l["op"], "macs": l["macs"], "cycles": None, "instructions": counts[l["name"]]}
            for l in metadata["layers"]
        ],
    }


def _compare(library: Library, model: Model, inputs: dict[str, NDArray[Any]], on: str) -> dict[str, Any]:
    expected = evaluate(FoldQuantization()(model.module), list(inputs.values()))
    differing, size = count_differing(list(library.run(inputs, on=on).values()), expected)
    return {"name": model.reference, "differing": differing, "of": size}
