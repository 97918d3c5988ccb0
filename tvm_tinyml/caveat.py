"""The line that stands under every table of simulated cycles."""

from __future__ import annotations

from tvm_tinyml.device.timing import MODEL_VERSION, load_core


def caveat(core: str) -> str:
    """Return what a reader must know of a core's cycles.

    Parameters
    ----------
    core : name of a core with a timing table.
    """
    percent = load_core(core).error_percent
    bound = f"trust it to {percent} %" if percent else "never compared with a board"
    return (
        f"Cycles are an estimate of timing model {MODEL_VERSION} for {core} ({bound}); no board was measured. "
        "See docs/cycle-model.md."
    )
