"""A whole network costs the same on QEMU as on the first engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from device.qemu.compare import MakeEngine, jumps_to, pair
from device.thumb import CORES

import tvm_tinyml as tinyml
from benchmarks.networks import keyword_spotting
from tvm_tinyml.device.qemu import QemuEngine


@pytest.mark.parametrize("core", CORES)
def test_a_compiled_network_gives_the_same_bytes_instructions_and_stack(
    native: MakeEngine, engine: Callable[[str], QemuEngine], core: str
) -> None:
    network = keyword_spotting()
    library = tinyml.build(tinyml.load(network.data, name="kws"), core, emit="lib")
    (x,) = network.random_inputs(3)[0:1]
    (expected,) = network.run([x])
    results = []
    for simulator in pair(native, engine)(core):
        simulator.load(library.objects)
        pool = library.metadata["pools"]["sram"]
        source, sink = simulator.allocate(x.nbytes, offset=1), simulator.allocate(expected.nbytes, offset=3)
        simulator.write(source, x.tobytes())
        structs = []
        for address in (source, sink, simulator.allocate(pool["size_bytes"], alignment=pool["align_bytes"])):
            structs.append(simulator.allocate(4))
            simulator.write(structs[-1], address.to_bytes(4, "little"))
        result = simulator.call("tvmgen_kws_run", *structs)
        simulator.check_guards()
        assert simulator.read(sink, expected.nbytes) == expected.tobytes()
        counts = dict(result.instructions_by_symbol)
        results.append((result.value, result.instructions, counts, result.stack_bytes, jumps_to(result.profile)))
    assert results[0] == results[1]
    assert results[0][0] == 0
