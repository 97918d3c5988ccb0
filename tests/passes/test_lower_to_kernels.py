"""Every integer operator becomes a function that computes the same bytes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tvm import relax

from tests.passes.graphs import PLAIN, calls, conv2d, inputs_of, int8, integer, names, same
from tests.passes.kernels import FACTORS, KERNELS, UNSCHEDULED, build, computed, expected, functions, lowered, run
from tests.simulated import needs_simulator
from tvm_tinyml import arithmetic
from tvm_tinyml.passes import LowerToKernels, SplitPadding, integer_ops
from tvm_tinyml.passes.kernels import KernelTraits
from tvm_tinyml.passes.kernels.elementwise import largest_offset, largest_scaled
from tvm_tinyml.passes.kernels.reduction import exact_reciprocal
from tvm_tinyml.passes.kernels.requantize import RIGHT_LIMIT, requantize_helper
from tvm_tinyml.passes.kernels.sums import largest_sum
from tvm_tinyml.reference.evaluate import evaluate

KINDS = {
    "conv2d", "depthwise_conv2d", "dense", "add", "subtract", "multiply", "lookup", "avg_pool2d", "max_pool2d",
    "mean_pool2d", "mean", "softmax", "pad2d", "gather2d",
}  # fmt: skip


@needs_simulator
@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_kernels_as_they_are_written_down_compute_what_their_operators_mean(core: str) -> None:
    for ours, theirs in zip(computed(core, UNSCHEDULED), expected(), strict=True):
        assert [name for name in KERNELS if not np.array_equal(ours[name], theirs[name])] == []


def test_all_kinds_of_kernels_are_met_by_these_tests() -> None:
    met = {str(f.attrs["tinyml.kind"]) for name in KERNELS for f in lowered(name).values()}
    assert met == KINDS


@pytest.mark.parametrize("name", KERNELS)
def test_no_kernel_divides_to_find_an_index(name: str) -> None:
    for function in lowered(name, 1).values():
        assert not re.search(r"//|%|floordiv|floormod", function.script()), function


@pytest.mark.parametrize("name", KERNELS)
def test_only_a_padded_average_or_mean_divides_at_run_time(name: str) -> None:
    text = "".join(function.script() for function in lowered(name, 1).values())
    assert ("truncdiv" in text or "T.Div" in text or " / " in text) == (
        name in ("average with padding", "mean of a window with padding")
    )


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("pointwise", 4 * 5 * 6 * 8),
        ("3x3", 4 * 5 * 4 * 9 * 4),
        ("3x3 with strides and padding", 3 * 4 * 5 * 9 * 3),
        ("grouped", 3 * 3 * 9 * 9 * 5),
        ("depthwise", 3 * 4 * 8 * 9),
        ("depthwise, three outputs a channel", 2 * 2 * 12 * 9),
        ("dense", 37 * 6),
        ("lookup", 0),
    ],
)
def test_macs_are_outputs_times_taps(name: str, macs: int) -> None:
    assert sum(int(f.attrs["tinyml.macs"]) for f in lowered(name).values()) == macs


def test_a_convolution_becomes_one_call_of_one_kernel(rng: np.random.Generator) -> None:
    module = LowerToKernels(KernelTraits(4))(conv2d(rng, (1, 4, 4, 4), (2, 3, 3, 4)))
    assert names(module) == ["relax.reshape", "relax.call_tir"]
    assert str(calls(module)[1].args[0].name_hint) == "conv2d"
    assert module.attrs["tinyml.reference"] == "tflite"


@pytest.mark.parametrize(
    ("dot_length", "length", "expected"),
    [(4, 8, ["dot"]), (4, 7, ["dot", "tail"]), (4, 3, ["tail"]), (1, 7, ["dot"])],
)
def test_a_reduction_is_cut_at_the_last_whole_dot_product(
    rng: np.random.Generator, dot_length: int, length: int, expected: list[str]
) -> None:
    (function,) = functions(conv2d(rng, (1, 2, 2, length), (2, 1, 1, length)), dot_length).values()
    assert re.findall(r'T\.sblock\("(dot|tail)"\)', function.script()) == expected


def test_layers_that_compute_the_same_share_a_kernel(rng: np.random.Generator) -> None:
    def twice(second: dict[str, int]) -> int:
        builder = relax.BlockBuilder()
        x = relax.Var("x", relax.TensorType([4, 4], "int8"))
        with builder.function("main", [x]):
            with builder.dataflow():
                y = builder.emit(integer_ops.multiply(x, x, **{**FACTORS, **PLAIN}))
                z = builder.emit_output(integer_ops.multiply(y, y, **{**FACTORS, **PLAIN, **second}))
            builder.emit_func_output(z)
        return len(functions(builder.get()))

    assert twice({}) == 1
    assert twice({"output_shift": -6}) == 2


def test_what_is_no_integer_operator_stays() -> None:
    module = integer(lambda x: relax.op.permute_dims(x), (3, 4))
    assert same(LowerToKernels(KernelTraits(4))(module), module)


def test_twice_is_once_and_the_module_that_comes_in_stays(rng: np.random.Generator) -> None:
    module = conv2d(rng, (1, 4, 4, 4), (2, 3, 3, 4))
    before = module.script(show_meta=True)
    once = LowerToKernels(KernelTraits(4))(module)
    assert same(LowerToKernels(KernelTraits(4))(once), once)
    assert module.script(show_meta=True) == before


def test_padding_must_be_split_off_first(rng: np.random.Generator) -> None:
    with pytest.raises(AssertionError, match="SplitPadding comes first"):
        LowerToKernels(KernelTraits(4))(conv2d(rng, (1, 4, 4, 4), (2, 3, 3, 4), padding=[1, 1, 1, 1]))


# --- which helper requantizes ---------------------------------------------------------------------------------------


def helper_of(module: object) -> str:
    (text,) = {function.script() for function in functions(module).values()}  # type: ignore[arg-type]
    (name,) = set(re.findall(r'"(tinyml_requantize\w*)"', text))
    return str(name)


def test_the_short_helper_is_taken_for_right_shifts_of_small_numbers_only() -> None:
    def helper(shifts: list[int], largest: int) -> str:
        return requantize_helper(np.array(shifts, np.int32), largest)

    assert helper([-9, -1], RIGHT_LIMIT - 1) == "tinyml_requantize_right"
    assert helper([-9, -1], RIGHT_LIMIT) == "tinyml_requantize"
    assert helper([-9, 0], 100) == "tinyml_requantize"


@pytest.mark.parametrize("name", ["pointwise", "3x3", "grouped", "depthwise", "dense"])
def test_layers_of_usual_size_take_the_short_helper(rng: np.random.Generator, name: str) -> None:
    assert helper_of(KERNELS[name](rng)) == "tinyml_requantize_right"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_large_bias_takes_the_long_helper_and_the_bytes_are_right(rng: np.random.Generator, sign: int) -> None:
    bias = np.array([sign * (2**30 + 12345), 0, 7], np.int32)
    module = conv2d(rng, (1, 3, 3, 4), (3, 1, 1, 4), bias=bias, shifts=(-24, -23))
    assert helper_of(module) == "tinyml_requantize"
    inputs = inputs_of(module, rng)
    for core in ("cortex-m0plus", "cortex-m4"):
        np.testing.assert_array_equal(run(build(module, core), inputs)[0], evaluate(module, inputs)[0])


def test_one_step_below_the_limit_the_short_helper_is_taken_and_right(rng: np.random.Generator) -> None:
    weight = np.full((2, 1, 1, 4), -128, np.int8)
    reach = 128 * 128 * 4
    bias = np.array([2**30 - 1 - reach, -(2**30) + 1 + 127 * 128 * 4], np.int32)
    module = conv2d(rng, (1, 2, 2, 4), (2, 1, 1, 4), bias=bias, shifts=(-24, -24))
    (call,) = calls(module)
    arguments = [relax.const(weight), *call.args[2:]]
    attributes = integer_ops.attributes_of(call)
    module = integer(lambda x: integer_ops.conv2d(x, *arguments, **attributes), (1, 2, 2, 4))
    assert helper_of(module) == "tinyml_requantize_right"
    for value in (-128, 127):
        inputs = [np.full((1, 2, 2, 4), value, np.int8)]
        for core in ("cortex-m0plus", "cortex-m4"):
            np.testing.assert_array_equal(run(build(module, core), inputs)[0], evaluate(module, inputs)[0])


def test_the_bound_of_a_layers_sums_is_met_exactly(rng: np.random.Generator) -> None:
    for _ in range(50):
        weight, bias = int8(rng, 3, 2, 2, 4), rng.integers(-(2**20), 2**20, 3).astype(np.int32)
        flat = weight.reshape(3, -1).astype(np.int64)
        highest, lowest = np.where(flat > 0, 127, -128), np.where(flat > 0, -128, 127)
        sums = [(flat * x).sum(axis=1) + bias for x in (highest, lowest)]
        assert largest_sum(weight, bias) == max(int(np.abs(s).max()) for s in sums)


def test_the_bound_of_an_input_less_its_zero_point_is_met_exactly() -> None:
    values = np.arange(-128, 128)
    assert all(largest_offset(zero) == int(np.abs(values - zero).max()) for zero in range(-128, 128))


def test_the_bound_of_a_scaled_number_holds(rng: np.random.Generator) -> None:
    for _ in range(300):
        largest = int(rng.integers(0, 2**30))
        multiplier, shift = int(rng.integers(2**30, 2**31)), int(rng.integers(-31, 1))
        scaled = arithmetic.multiply_by_quantized_multiplier([largest, -largest], multiplier, shift)
        assert int(np.abs(scaled.astype(np.int64)).max()) <= largest_scaled(multiplier, shift, largest)


def test_a_mean_of_very_many_takes_the_long_helper() -> None:
    def mean(count: int) -> str:
        given = {"axes": [1], "keepdims": 0, "input_zero_point": -128, "left_shift": 0, "shift": -22, **PLAIN}
        return helper_of(integer(lambda x: integer_ops.mean(x, multiplier=1 << 30, **given), (1, count)))

    assert mean(2**30 // 255) == "tinyml_requantize_right"
    assert mean(2**30 // 255 + 1) == "tinyml_requantize"


def test_a_raised_product_counts_as_what_it_is_raised_to() -> None:
    def product(left_shift: int) -> str:
        given = {**FACTORS, **PLAIN, "left_shift": left_shift}
        return helper_of(integer(lambda x, y: integer_ops.multiply(x, y, **given), (4,), (4,)))

    assert (255 * 255) << 14 < 2**30 <= (255 * 255) << 15
    assert product(14) == "tinyml_requantize_right"
    assert product(15) == "tinyml_requantize"


# --- division by a constant -----------------------------------------------------------------------------------------


def test_the_reciprocal_of_every_window_up_to_16x16_is_exact_where_there_is_one() -> None:
    windows = sorted({a * b for a in range(1, 17) for b in range(1, 17)})
    without = [count for count in windows if exact_reciprocal(count, 256 * count) is None]
    for count in windows:
        pair = exact_reciprocal(count, 256 * count)
        if pair:
            multiplier, shift = pair
            assert all(n * multiplier >> shift == n // count for n in range(256 * count + 1))
            assert 256 * count * multiplier < 2**31
    assert all(count > 128 for count in without)


def test_there_is_no_reciprocal_where_its_product_overflows() -> None:
    assert exact_reciprocal(1000003, 2**31 - 1) is None


def test_an_average_rounds_halves_away_from_zero(rng: np.random.Generator) -> None:
    options = {"strides": [1, 2], "padding": [0, 0, 0, 0], "clamp_min": -128, "clamp_max": 127}
    pairs = np.array([[3, 4], [-3, -4], [-1, 0], [1, 0], [-128, -127], [127, 126], [-128, -128]], np.int8)
    module = integer(lambda x: integer_ops.avg_pool2d(x, pool_size=[1, 2], **options), (1, 1, 14, 1))
    (result,) = run(build(SplitPadding()(module), "cortex-m0plus"), [pairs.reshape(1, 1, 14, 1)])
    assert result.reshape(-1).tolist() == [4, -4, -1, 1, -128, 127, -128]
