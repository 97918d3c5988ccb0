"""A library reads nothing that it has not written: whatever the pool holds before, the outputs are the same."""

from __future__ import annotations

import pytest

import tvm_tinyml as tinyml
from benchmarks.networks import image_classification, keyword_spotting, visual_wake_words
from tests.image_networks import image_network
from tests.poisoned import check_poisoned

NETWORKS = {
    "kws": keyword_spotting,
    "vww": lambda: visual_wake_words(dead_share=0.8),
    "ic": image_classification,
    "image": lambda: image_network(1),
}


@pytest.mark.parametrize(("goal", "io"), [("time", "caller"), ("ram", "workspace")])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_do_not_depend_on_what_the_pool_held(name: str, io: str, goal: str) -> None:
    network = NETWORKS[name]()
    library = tinyml.build(tinyml.load(network.data, name="m"), "cortex-m4", goal=goal, io=io, emit="lib")
    check_poisoned(library.metadata, library.objects, network, name)
