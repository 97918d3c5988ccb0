"""Which algorithm each layer of a library was given, in which layout it works, and what bringing values there costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from tvm_tinyml.artifacts.metadata import Metadata
from tvm_tinyml.device.engines import can_simulate
from tvm_tinyml.library import Library
from tvm_tinyml.passes.kernels.kernel import Method
from tvm_tinyml.profile import LayerProfile


def layouts(library: Library) -> dict[str, Any]:
    """Return the algorithm and the working layout of each layer.

    Returns
    -------
    dict with the keys ``model``, ``target``, ``goal``, ``tensors`` (between layers: each layout and how many of their
    results have it), ``memory``, ``model_version`` and ``layers``. Of a layer:

    - ``name``, ``op``, ``macs``;
    - ``rule`` : recipe or schedule rule; None for a copy;
    - ``reads``, ``writes`` : layout of its input and of its result: NHWC, or what the layer behind reads as it lies;
    - ``algorithm``; ``scratch`` : layout there, empty where values are read where they lie;
    - ``scratch_bytes`` : of the workspace; 256 bytes and less lie on the stack;
    - ``estimates`` : what the recipe compared, in cycles (with Helium, instructions), the one taken first;
    - ``cycles``; ``packing_cycles`` : of those, in microkernels that bring values into scratch;
      ``cycles_by_function`` : None, all three, without a simulator of the core.
    """
    metadata = library.metadata
    layers = metadata["layers"]
    profile = None
    if library.archive and can_simulate(metadata["target"].split("+")[0]):
        profile = library.profile()
    costs = profile.layers if profile else [None] * len(layers)
    return {
        "model": library.name,
        "target": metadata["target"],
        "goal": metadata["options"]["goal"],
        "tensors": dict(Counter(described["writes"] for described in map(_method, layers)).most_common()),
        "memory": profile.memory if profile else None,
        "model_version": profile.model_version if profile else None,
        "layers": [_layer(layer, cost) for layer, cost in zip(layers, costs, strict=True)],
    }


def _layer(layer: Metadata, cost: LayerProfile | None) -> dict[str, Any]:
    method = _method(layer)
    by_function = cost.cycles_by_function if cost else None
    return {
        **{key: layer[key] for key in ("name", "op", "macs")},
        "rule": layer["schedule"],
        **{key: method[key] for key in ("reads", "writes", "algorithm", "scratch")},
        "scratch_bytes": layer["scratch_bytes"],
        "estimates": method["estimates"],
        "cycles": cost.cycles if cost else None,
        "packing_cycles": sum(by_function.get(name, 0) for name in method["packing"]) if by_function else None,
        "cycles_by_function": by_function,
    }


def _method(layer: Metadata) -> Metadata:
    """Return how a layer is computed, if need be without what only recipes say."""
    algorithm = f"loops by the rule {layer['schedule']}" if layer["schedule"] else "copy"
    return layer["method"] or asdict(Method(algorithm))
