"""A library runs on QEMU by that name."""

from __future__ import annotations

import numpy as np
import pytest
from device.thumb import program

import tvm_tinyml as tinyml
from benchmarks.networks import anomaly_detection
from tvm_tinyml.device.engines import DEVICES, make_simulator
from tvm_tinyml.device.qemu import qemu_missing
from tvm_tinyml.device.simulator import simulator_installed
from tvm_tinyml.errors import DeviceError


@pytest.mark.parametrize("on", DEVICES)
def test_each_device_runs_a_function(on: str) -> None:
    if on == "sim" and not simulator_installed():
        pytest.skip("needs the extra sim: pip install tvm_tinyml[sim]")
    if on == "qemu" and qemu_missing():
        pytest.skip(qemu_missing())
    with make_simulator("cortex-m33", on) as simulator:
        assert simulator.core == "cortex-m33"
        simulator.load([program("f", "adds r0, #1;bx lr")])
        result = simulator.call("f", 41)
        assert (result.value, result.instructions) == (42, 2)


def test_a_core_that_a_device_lacks_is_told_with_those_it_has() -> None:
    with pytest.raises(DeviceError, match="QEMU cannot run 'cortex-m85'; it runs cortex-m0plus, "):
        make_simulator("cortex-m85", "qemu")


@pytest.mark.skipif(bool(qemu_missing()), reason=qemu_missing())
def test_a_library_gives_the_reference_bytes_on_qemu() -> None:
    network = anomaly_detection()
    library = tinyml.build(tinyml.load(network.data, name="ad"), "cortex-m4", emit="lib")
    inputs = network.random_inputs(3)
    (output,) = library.run(inputs[0], on="qemu").values()
    np.testing.assert_array_equal(output, network.run(inputs)[0])
    assert library.profile(inputs[0], on="qemu").instructions >= network.macs
