"""Records, keys and logs from seeded generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tvm_tinyml.tuning.log import TuningLog
from tvm_tinyml.tuning.records import Record

TARGET = "cortex-m4"
KERNELS = ("ConvGemm", "Winograd", "DotProduct")


def record(**fields: Any) -> Record:
    """Return a record with these fields; the others have values of their own."""
    usual = {
        "choice": {"kernel": "ConvGemm", "product": "raw", "tiles": 8},
        "cycles": {"zero-wait": 1000, "l4r5zi-120": 1200},
        "instructions": 800,
        "workspace_bytes": 512,
        "code_bytes": 2048,
        "model_version": "1",
        "tvm": "0.27.0.post1",
        "tool": "0.1.0",
    }
    return Record(**{**usual, **fields})


def random_record(rng: np.random.Generator, values: int = 12) -> Record:
    """Return a record whose costs are of few values, so that many are equal and many dominate others."""
    zero_wait, waits, workspace, code = (int(value) for value in rng.integers(0, values, 4))
    return record(
        choice={"kernel": str(rng.choice(KERNELS)), "tiles": int(rng.integers(4))},
        cycles={"l4r5zi-120": 100 + zero_wait + waits, "zero-wait": 100 + zero_wait},
        workspace_bytes=20 * workspace**3,
        code_bytes=100 * code,
        instructions=int(rng.integers(50, 55)),
    )


def key(operator: str = "conv2d", channels: int = 64, **more: Any) -> dict[str, Any]:
    """Return a key as the tuner makes it."""
    return {
        "operator": operator,
        "shapes": [[1, 25, 5, channels], [64, 1, 1, channels], [64]],
        "dtypes": ["int8", "int8", "int32"],
        "layout": "NHWC",
        "padding": [0, 0, 0, 0],
        "epilogue": "halves corrected, upper bound",
        "guards": {"ConvGemm": "raw 16x4", "Winograd": ""},
        "kernels": 1,
        **more,
    }


def random_log(folder: str | Path, rng: np.random.Generator, entries: int = 12) -> TuningLog:
    """Return a log in memory; keys are of few kinds, so that two logs have some in common."""
    log = TuningLog(folder, TARGET)
    for _ in range(entries):
        where = key(str(rng.choice(["conv2d", "dense", "add"])), int(rng.integers(1, 7)))
        found = [random_record(rng) for _ in range(rng.integers(1, 30))]
        log.add(where, found, int(rng.integers(1, 300)))
    return log


def files(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds, the lock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
