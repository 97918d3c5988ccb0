"""The gate: no change may alter an output, or cost more than 1 % of cycles, instructions, RAM or flash."""

from __future__ import annotations

import json
from itertools import product

import pytest

from benchmarks.baseline import FIGURES, FILE, OURS, REAL, TARGETS, TOLERANCE, measure, shared_models


@pytest.mark.parametrize(("name", "target"), [*product(OURS, TARGETS), *product(REAL, TARGETS[1:])])
def test_a_network_costs_no_more_than_the_baseline(name: str, target: str) -> None:
    if name in REAL and not (shared_models() / REAL[name]).exists():
        pytest.skip("needs the folder shared beside the checkout (or TVM_TINYML_SHARED)")
    baseline = json.loads(FILE.read_text(encoding="utf-8"))[name][target]
    now = measure(name, target)
    assert now["outputs_sha256"] == baseline["outputs_sha256"], f"{name} on {target} computes other bytes"
    worse = {f: (baseline[f], now[f]) for f in FIGURES if now[f] > baseline[f] * (1 + TOLERANCE)}
    assert not worse, f"{name} on {target} got worse, before and now: {worse}"
