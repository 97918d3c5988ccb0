"""The build call of the Python interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.targets.cortex_m import cortex_m


def build(
    model: Model,
    target: str = "cortex-m4",
    *,
    goal: str = "balanced",
    io: str = "caller",
    weights: str = "flash",
    float_abi: str | None = None,
    emit: str = "both",
    memory: str = "zero-wait",
    disabled_passes: Sequence[str] = (),
    ram_limit_bytes: int | None = None,
    flash_limit_bytes: int | None = None,
    pools: Mapping[str, int] | None = None,
) -> Library:
    """Compile a model into a library.

    Parameters
    ----------
    model : from `load`.
    target : a core, less what the part lacks: ``cortex-m4``, ``cortex-m4+nofp``, ``cortex-m33+nodsp``.
    goal : ``time``, ``balanced``, ``ram`` or ``flash``.
    io : ``caller``: inputs and outputs are the caller's buffers; ``workspace``: they live in the pool.
    weights : ``flash`` or ``ram``.
    float_abi : ``hard``, ``softfp`` or ``soft``; None: ``hard`` with an FPU, ``soft`` without.
    emit : ``lib``, ``c`` or ``both``.
    memory : what code and constants lie in, for figures in cycles: ``zero-wait``, ``l4r5zi-120``, ``nrf5340-128``, or
        the path of a file that describes another.
    disabled_passes : optional passes to leave out.
    ram_limit_bytes, flash_limit_bytes : what the library may take at most; to keep to the RAM, layers are computed in
        stripes of rows.

    pools : names and sizes in bytes of the memories for activations and scratch, the fastest first:
        ``{"dtcm": 65536, "sram": 262144}``. None: one of any size, ``sram``.

    Raises
    ------
    TargetError : a target or option that is not offered.
    ModelError : the model is not fully quantized.
    FitError : it takes more; the message says which options would fit.
    """
    options = BuildOptions(
        goal=goal,
        io=io,
        weights=weights,
        emit=emit,
        memory=memory,
        disabled_passes=disabled_passes,
        ram_limit_bytes=ram_limit_bytes,
        flash_limit_bytes=flash_limit_bytes,
        pools=pools or {},
    )
    return compile_model(model, cortex_m(target, float_abi), options)
