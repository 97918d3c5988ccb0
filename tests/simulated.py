"""What tests need that run code on a simulated core, by whichever engine there is."""

from __future__ import annotations

import pytest

from tvm_tinyml.device.engines import needs_qemu
from tvm_tinyml.device.simulator import simulator_installed

needs_simulator = pytest.mark.skipif(
    not simulator_installed(), reason="needs a simulator and capstone: pip install tvm_tinyml[sim]"
)
needs_helium = pytest.mark.skipif(
    needs_qemu("cortex-m55") or not simulator_installed(), reason="the project's own engine is not built"
)


def on_cores(*cores: str) -> list[object]:
    """Return these cores as parameters of a test that needs a simulator; those with Helium need the project's own."""
    return [pytest.param(core, marks=needs_helium if core == "cortex-m55" else ()) for core in cores]
