"""The engines that a claim about the simulator holds for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from tvm_tinyml.device.engine import Engine
from tvm_tinyml.device.native_engine import NativeEngine, native_engine_missing
from tvm_tinyml.device.unicorn_engine import UnicornEngine

MakeEngine = Callable[..., Engine]


def engine_class(name: str) -> MakeEngine:
    """Return an engine's class, or skip where it is not installed."""
    if name == "native":
        if reason := native_engine_missing():
            pytest.skip(f"the C extension is not built ({reason}): pip install -e . with a C compiler")
        return NativeEngine
    if importlib.util.find_spec("unicorn") is None:
        pytest.skip("needs unicorn: pip install tvm_tinyml[sim]")
    return UnicornEngine


@pytest.fixture(params=["native", "unicorn"])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Return the class of each engine in turn."""
    return engine_class(request.param)


@pytest.fixture
def native() -> MakeEngine:
    """Return the native engine, or skip."""
    return engine_class("native")


@pytest.fixture
def unicorn_engine() -> MakeEngine:
    """Return the engine on Unicorn, or skip."""
    return engine_class("unicorn")
