"""The figures of one library: the content of ``bench --json``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from tvm_tinyml.arrays import count_differing
from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate
from tvm_tinyml.samples import sample_inputs


def bench(
    library: Library, model: Model | None = None, *, on: str = "sim", memory: str | None = None
) -> dict[str, Any]:
    """Run a library on the benchmark's input and return its figures.

    Parameters
    ----------
    model : the source of the library; with it the outputs are compared with the reference.
    on : as for `Library.run`.
    memory : as for `build`. None: the one that the library was built for.

    Returns
    -------
    dict with the keys of ``bench --json``.
    """
    inputs = sample_inputs(library.metadata["inputs"])
    profile = library.profile(inputs, on=on, memory=memory)
    metadata = library.metadata
    return {
        "model": library.name,
        "target": metadata["target"],
        "memory": profile.memory,
        "clock_hz": profile.clock_hz,
        "on": on,
        "model_version": profile.model_version,
        "macs": metadata["macs"],
        "macs_executed": metadata["macs_executed"],
        "cycles": profile.cycles,
        "instructions": profile.instructions,
        "flash_stall_cycles": profile.flash_stall_cycles,
        "ram_bytes": metadata["ram_bytes"],
        "stack_bytes_measured": profile.stack_bytes,
        "flash_bytes": metadata["flash_bytes"],
        "reference": _compare(library, model, inputs, on) if model else None,
        "kernels": metadata["kernels"],
        "layers": [asdict(layer) for layer in profile.layers],
    }


def _compare(library: Library, model: Model, inputs: dict[str, NDArray[Any]], on: str) -> dict[str, Any]:
    expected = evaluate(FoldQuantization()(model.module), list(inputs.values()))
    differing, size = count_differing(list(library.run(inputs, on=on).values()), expected)
    return {"name": model.reference, "differing": differing, "of": size}
