"""The build call of the Python interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_tinyml.library import Library
from tvm_tinyml.model import Model
from tvm_tinyml.options import BuildOptions
from tvm_tinyml.pipeline import compile_model
from tvm_tinyml.targets.cortex_m import cortex_m

if TYPE_CHECKING:
    from tvm_tinyml.tuning.tune import Progress


def tune(
    model: Model,
    target: str = "cortex-m4",
    *,
    tuning_log: str | Path,
    trials: int = 1000,
    minutes: float | None = None,
    target_cycles: int | None = None,
    memory: str = "l4r5zi-120",
    seed: int = 0,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
) -> Progress:
    """Search for the fastest kernels of a model and add them to a log that `build` reads.

    Parameters
    ----------
    model : from `load`.
    target : as for `build`.
    tuning_log : folder; made if it is not there.
    trials, minutes, target_cycles : where to stop: kernels measured, time, cycles of the network.
    memory : in which cycles count: ``l4r5zi-120`` or ``zero-wait``.
    seed : of the search.
    resume : trials of earlier runs that were stopped count.
    report : called now and then with how far it is.

    Returns
    -------
    What was measured and found.

    Raises
    ------
    TargetError, ModelError : as for `build`.
    TuningLogError : the log is damaged, in use by another run, or cannot be written.
    """
    from tvm_tinyml.tuning.tune import TuneOptions
    from tvm_tinyml.tuning.tune import tune as search

    options = TuneOptions(
        trials=trials, minutes=minutes, target_cycles=target_cycles, memory=memory, seed=seed, resume=resume
    )
    return search(model, target, tuning_log, options, report)


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
    tuning_log: str | Path | None = None,
    require_tuned: bool = False,
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
    memory : what code and constants lie in, for figures in cycles and the choice of constants that fill the RAM:
        ``zero-wait``, ``l4r5zi-120``, ``nrf5340-128``, or the path of a file that describes another.
    disabled_passes : optional passes to leave out.
    ram_limit_bytes, flash_limit_bytes : what the library may take at most; to keep to the RAM, layers are computed in
        stripes of rows. With the goal ``time``, what is left of it holds constants that would wait for flash longest.

    pools : names and sizes in bytes of the memories for activations and scratch, the fastest first:
        ``{"dtcm": 65536, "sram": 262144}``. None: one of any size, ``sram``.
    tuning_log : folder with records of `tune`, which go before those that come with the package.
    require_tuned : operators without a record are an error.

    Raises
    ------
    TargetError : a target or option that is not offered.
    ModelError : the model is not fully quantized.
    FitError : it takes more; the message says which options would fit.
    TuningLogError : the tuning log is damaged.
    NotTunedError : operators have no record that fits, and records are required.
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
        tuning_log=None if tuning_log is None else str(tuning_log),
        require_tuned=require_tuned,
    )
    return compile_model(model, cortex_m(target, float_abi), options)
