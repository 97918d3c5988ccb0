"""Networks that several files compile."""

from __future__ import annotations

import pytest

import tvm_tinyml as tinyml
from benchmarks.networks import (
    anomaly_detection,
    image_classification,
    keyword_spotting,
    visual_wake_words,
)

NETWORKS = {
    "kws": keyword_spotting,
    "vww": visual_wake_words,
    "ic": image_classification,
    "ad": anomaly_detection,
}


@pytest.fixture(scope="session")
def kws() -> tinyml.Model:
    """Return our keyword-spotting network with random weights."""
    return tinyml.load(keyword_spotting().data, name="kws")
