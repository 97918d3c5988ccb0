"""Which engine runs a core by the name of a device."""

from __future__ import annotations

import pytest

from tvm_tinyml.device import engines
from tvm_tinyml.device.engines import can_simulate, make_simulator
from tvm_tinyml.errors import DeviceError


@pytest.fixture
def native_without_helium(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave this test an own engine that knows no core with Helium."""
    left = {core: features for core, features in engines.CORE_FEATURES.items() if core not in engines.HELIUM_CORES}
    monkeypatch.setattr(engines, "CORE_FEATURES", left)


@pytest.mark.usefixtures("native_without_helium")
def test_what_only_qemu_can_run_runs_on_it() -> None:
    from tvm_tinyml.device.qemu import qemu_missing

    if reason := qemu_missing():
        pytest.skip(reason)
    with make_simulator("cortex-m55", "sim") as simulator:
        assert simulator.core == "cortex-m55"


@pytest.mark.usefixtures("native_without_helium")
def test_without_qemu_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_tinyml.device.qemu.qemu_missing", lambda: "qemu-system-arm is not installed")
    with pytest.raises(
        DeviceError, match=r"^only QEMU runs 'cortex-m55' here, and it cannot be used: qemu-system-arm "
    ):
        make_simulator("cortex-m55", "sim")
    assert not can_simulate("cortex-m55")


@pytest.mark.usefixtures("without_engine")
def test_helium_needs_qemu_where_the_own_engine_is_not_built() -> None:
    assert [core for core in ("cortex-m4", "cortex-m55", "cortex-m85") if engines.needs_qemu(core)] == [
        "cortex-m55",
        "cortex-m85",
    ]
