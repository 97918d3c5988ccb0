"""Knobs of recipes: each value computes the reference's bytes or is refused, and what is decided is told in full."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import tvm_ffi
from tvm import relax

from tests.knobs import nonsense, run, settings
from tests.passes.graphs import calls, integer
from tests.simulated import needs_helium, needs_simulator
from tvm_tinyml.choice import KERNEL, Knobs, Space, allowed
from tvm_tinyml.passes import integer_ops
from tvm_tinyml.passes.integer_ops import attributes_of
from tvm_tinyml.passes.kernels.kernel import Kernel, Recipe, constant
from tvm_tinyml.targets.cortex_m import cortex_m

PLAIN = {"output_zero_point": -3, "clamp_min": -128, "clamp_max": 127}


def layer(
    shape: tuple[int, ...],
    filters: tuple[int, ...],
    *,
    outlier: bool = False,
    one_shift: bool = False,
    **options: object,
) -> relax.Call:
    """Return a convolution, or a dense layer of a shape of two, that every recipe's arithmetic takes.

    Parameters
    ----------
    filters : shape, OHWI, or [O, K].
    outlier : a channel is scaled up, which no recipe's epilogue can.
    one_shift : all channels have a scale, and the clamp an end, for which a single shift is exact.
    """
    rng = np.random.default_rng(5)
    count = filters[0]
    weight = rng.integers(-100, 101, filters).astype(np.int8)
    bias = rng.integers(-5000, 5000, count).astype(np.int32)
    multiplier = np.full(count, 1 << 30) if one_shift else rng.integers(2**30, 2**31, count)
    shift = np.full(count, -6) if one_shift else rng.integers(-9, -5, count)
    shift[0] = 3 if outlier else shift[0]
    rest = [relax.const(array.astype(np.int32)) for array in (bias, multiplier, shift)]
    if len(shape) == 2:
        (call,) = calls(integer(lambda x: integer_ops.dense(x, relax.const(weight), *rest, **PLAIN), shape))
        return call
    plain = {"strides": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1, "input_zero_point": -3}
    given = {**PLAIN, **plain, **options, **({"clamp_min": -3} if one_shift else {})}
    (call,) = calls(integer(lambda x: integer_ops.conv2d(x, relax.const(weight), *rest, **given), shape))
    return call


LAYERS: dict[str, Callable[[], relax.Call]] = {
    "pointwise": lambda: layer((1, 5, 5, 8), (6, 1, 1, 8)),
    "many pixels": lambda: layer((1, 9, 8, 6), (5, 1, 1, 6)),
    "3x3": lambda: layer((1, 8, 9, 8), (5, 3, 3, 8)),
    "strides": lambda: layer((1, 11, 12, 3), (4, 3, 3, 3), strides=[2, 3]),
    "groups": lambda: layer((1, 6, 7, 6), (6, 3, 3, 3), groups=2),
    "outlier": lambda: layer((1, 7, 6, 5), (7, 2, 2, 5), outlier=True),
    "padded": lambda: layer((1, 9, 8, 16), (12, 3, 3, 16), padding=[1, 1, 1, 1]),
    "few pixels": lambda: layer((1, 3, 3, 5), (9, 3, 3, 5)),
    "dense": lambda: layer((1, 33), (13, 33)),
    "dense of several rows": lambda: layer((9, 20), (7, 20)),
    "depthwise": lambda: layer((1, 9, 7, 6), (6, 3, 3, 1), groups=6, padding=[1, 1, 1, 1], one_shift=True),
    "depthwise, strides": lambda: layer((1, 13, 10, 5), (5, 5, 2, 1), groups=5, strides=[2, 1]),
    "depthwise, dilation": lambda: layer((1, 12, 9, 4), (8, 3, 3, 1), groups=4, dilation=[2, 3]),
    "depthwise, few taps": lambda: layer((1, 9, 7, 6), (6, 2, 2, 1), groups=6, one_shift=True),
    "depthwise, outlier": lambda: layer((1, 6, 6, 8), (8, 3, 3, 1), groups=8, outlier=True),
}
CORES = ("cortex-m4", "cortex-m3", "cortex-m0plus", "cortex-m55")
RUNS = [
    *((name, core) for name in LAYERS for core in ("cortex-m4", "cortex-m7")),
    *((name, core) for name in LAYERS for core in ("cortex-m3", "cortex-m0plus") if name != "padded"),  # no Winograd
    *((name, "cortex-m4+nofp") for name in ("3x3", "depthwise")),
    *(pytest.param(name, "cortex-m55", marks=needs_helium) for name in ("3x3", "strides")),
]
TUNED = {
    "cortex-m4": {"ConvGemm", "Winograd", "Depthwise", "DepthwiseWords", "DenseRows", "DenseGemm"},
    "cortex-m3": {"ScalarConv", "ScalarDepthwise", "ScalarDense", "DenseGemm"},
    "cortex-m0plus": {"ScalarConv", "ScalarDepthwise", "ScalarDense", "DenseGemm"},
    "cortex-m55": {"HeliumConv"},
}
"""Which recipes have knobs."""


def lowered(recipe: Recipe, call: relax.Call, knobs: Knobs | None = None) -> Kernel | None:
    return recipe.lower(call.args, attributes_of(call), knobs or {})


@functools.cache
def cases(core: str, name: str) -> Sequence[tuple[Recipe, relax.Call, Kernel]]:
    """Return the recipes that take a layer without knobs, and what they make of it."""
    call = LAYERS[name]()
    recipes = cortex_m(core).recipes("time").get(str(call.op.name), ())
    made = [(recipe, call, lowered(recipe, call)) for recipe in recipes]
    return [(recipe, call, kernel) for recipe, call, kernel in made if kernel is not None]


def every(core: str) -> Iterator[tuple[Recipe, relax.Call, Kernel]]:
    for name in LAYERS:
        yield from cases(core, name)


def space_of(recipe: Recipe, call: relax.Call) -> Space:
    return recipe.space(call.args, attributes_of(call))


def same(a: Kernel, b: Kernel) -> bool:
    """Return whether two kernels are one function with the same constants."""
    constants = zip(a.arguments[1:], b.arguments[1:], strict=True)
    return tvm_ffi.structural_equal(a.func, b.func) and all(
        np.array_equal(constant(x), constant(y)) for x, y in constants
    )


@needs_simulator
@pytest.mark.parametrize(("name", "core"), RUNS)
def test_each_value_computes_the_reference_or_is_refused(name: str, core: str, rng: np.random.Generator) -> None:
    choices = []
    for recipe, call, default in cases(core, name):
        tried = settings(default.knobs, space_of(recipe, call), rng)
        for knobs in tried if "outlier" not in name else tried[::3]:  # each has a loop of its own
            kernel = lowered(recipe, call, knobs)
            if kernel is not None:
                assert dict(kernel.knobs) == dict(knobs)
                choices.append({KERNEL: recipe.name, **knobs})
    assert len(choices) > 1
    assert run(call, cortex_m(core), choices) == [(choice, 0) for choice in choices]


@pytest.mark.parametrize("core", CORES)
def test_what_is_decided_without_knobs_is_told_in_full(core: str) -> None:
    seen = set()
    for recipe, call, default in every(core):
        space = space_of(recipe, call)
        assert set(default.knobs) == set(space)
        assert allowed(default.knobs, space)
        again = lowered(recipe, call, default.knobs)
        assert again is not None
        assert same(again, default)
        seen |= {recipe.name} if space else set()
    assert seen == TUNED[core]


@pytest.mark.parametrize("core", CORES)
def test_every_knob_has_a_layer_for_which_it_has_a_choice(core: str) -> None:
    spaces = [(recipe.name, space_of(recipe, call)) for recipe, call, _ in every(core)]
    knobs = {(recipe, name) for recipe, space in spaces for name in space}
    chosen = {(recipe, name) for recipe, space in spaces for name, values in space.items() if len(values) > 1}
    # The Armv6-M has registers for one pair of outputs only.
    assert knobs - chosen == ({("ScalarDepthwise", "outputs")} if core == "cortex-m0plus" else set())


@pytest.mark.parametrize("core", CORES)
def test_what_is_not_given_is_left_to_the_recipe(core: str) -> None:
    for name in ("padded", "dense of several rows", "few pixels", "depthwise"):
        for recipe, call, _ in cases(core, name):
            for knob, values in space_of(recipe, call).items():
                kernels = {value: lowered(recipe, call, {knob: value}) for value in values}
                assert any(kernels.values())
                assert all(kernel.knobs[knob] == value for value, kernel in kernels.items() if kernel)


@pytest.mark.parametrize("core", CORES)
def test_what_is_no_value_of_a_knob_is_refused(core: str) -> None:
    for recipe, call, default in every(core):
        for knobs in nonsense(default.knobs, space_of(recipe, call)):
            assert lowered(recipe, call, knobs) is None, (recipe.name, knobs)


@pytest.mark.parametrize("core", CORES)
def test_spaces_and_guards_are_plain_and_the_same_each_time(core: str) -> None:
    for name in ("3x3", "padded", "dense", "depthwise", "outlier"):
        first, second = LAYERS[name](), LAYERS[name]()
        for recipe in cortex_m(core).recipes("time").get(str(first.op.name), ()):
            space = space_of(recipe, first)
            assert json.loads(json.dumps(space)) == {knob: list(values) for knob, values in space.items()}
            assert all(len(set(values)) == len(values) for values in space.values())
            assert list(space_of(recipe, second).items()) == list(space.items())
            guards = [recipe.guard(call.args, attributes_of(call)) for call in (first, second)]
            assert guards[0] == guards[1]


LARGE: dict[str, tuple[str, Callable[[], relax.Call]]] = {
    "convolution": ("tiles", lambda: layer((1, 24, 24, 16), (4, 3, 3, 16))),
    "depthwise": ("rows", lambda: layer((1, 48, 40, 4), (4, 3, 3, 1), groups=4)),
}
"""And which of their knobs takes scratch."""


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m3", "cortex-m0plus"])
@pytest.mark.parametrize("name", LARGE)
def test_a_goal_that_allows_less_scratch_refuses_more(name: str, core: str) -> None:
    size, make = LARGE[name]
    call = make()
    most = {}
    for goal in ("time", "ram"):
        recipes = cortex_m(core).recipes(goal)["tinyml.conv2d"]
        recipe = next(r for r in recipes if r.name != "Winograd" and lowered(r, call) is not None)
        most[goal] = max(space_of(recipe, call)[size], key=int)
        accepted = {each: lowered(recipe, call, {size: value}) is not None for each, value in most.items()}
        assert accepted == ({"time": True} if goal == "time" else {"time": False, "ram": True})
    assert int(most["ram"]) < int(most["time"])


@pytest.mark.parametrize("core", CORES)
def test_a_border_is_part_of_the_shape_whichever_pass_makes_it(core: str) -> None:
    """A recipe is asked about a padded layer before the border is made, and builds it afterwards."""
    padded, bordered = layer((1, 6, 5, 8), (4, 3, 3, 8), padding=[1, 2, 1, 0]), layer((1, 8, 7, 8), (4, 3, 3, 8))
    for recipe in cortex_m(core).recipes("time")["tinyml.conv2d"]:
        if recipe.name in ("ConvGemm", "ScalarConv", "HeliumConv"):
            spaces = [space_of(recipe, call) for call in (padded, bordered)]
            assert spaces[0] == spaces[1]
            assert spaces[0]


@pytest.mark.parametrize("core", CORES)
def test_guards_tell_what_the_weights_allow_beside_outliers(core: str) -> None:
    shape: tuple[tuple[int, ...], tuple[int, ...]] = ((1, 7, 6, 5), (7, 2, 2, 5))
    plain, one = layer(*shape), layer(*shape, outlier=True)
    for recipe in cortex_m(core).recipes("time")["tinyml.conv2d"]:
        if lowered(recipe, plain) is not None:
            guards = [recipe.guard(call.args, attributes_of(call)) for call in (plain, one)]
            assert "none" not in guards[1]
            assert "outliers" not in guards[0]
            assert guards[1].endswith(", outliers 1")
