"""Cores as parameters of tests that run code on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tvm_tinyml.device.engines import needs_qemu
from tvm_tinyml.device.qemu import qemu_missing


def runnable(cores: Iterable[str]) -> list[Any]:
    """Return one parameter a core; one that only QEMU could run here, where there is none, is skipped."""
    reason = qemu_missing()
    return [
        pytest.param(core, marks=pytest.mark.skipif(needs_qemu(core) and bool(reason), reason=reason)) for core in cores
    ]
