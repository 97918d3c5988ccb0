"""Every operator that a float model may have becomes integers that are close to it, and a graph that folds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pytest

from tests import onnx_models, tflite_models
from tests.float_models import float_onnx, float_tflite
from tvm_tinyml import quantize
from tvm_tinyml.frontend import load
from tvm_tinyml.model import Model
from tvm_tinyml.passes import FoldQuantization
from tvm_tinyml.quantization.signal import decibels
from tvm_tinyml.reference.evaluate import evaluate

ABOUT_QUANTIZATION = {"requantize", "quantize", "dequantize", "knife_edge", "extreme_scale", "integer_interface"}

LEAST = {"int8": 15, "int16x8": 30}
"""Decibels."""

FUNCTIONS = {"abs", "exp", "hard_sigmoid", "hard_swish", "leaky_relu", "logistic", "neg", "prelu", "sigmoid", "tanh"}

LEAST_OF_FUNCTIONS = {"int8": 30, "int16x8": 65}
"""Without weights of 8 bits. The least is that of exp, 70 dB, whose results reach over a wide range."""


def cases(kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Return all kinds of operators with all recipes."""
    return list(itertools.product((kind for kind in kinds if kind not in ABOUT_QUANTIZATION), LEAST))


def check(model: Model, kind: str, recipe: str) -> None:
    rng = np.random.default_rng(0)
    samples = {spec.name: rng.normal(size=(16, *spec.shape)).astype(np.float32) for spec in model.inputs}
    made = quantize(model, recipe, calibration=samples, observer="min-max")
    folded = FoldQuantization()(made.module)
    signal, noise = 0.0, 0.0
    for i in range(16):
        wanted = evaluate(model.module, [samples[spec.name][i] for spec in model.inputs])
        integers = [
            np.clip(np.round(samples[s.name][i] / s.scale) + s.zero_point, np.iinfo(s.dtype).min, np.iinfo(s.dtype).max)
            for s in made.inputs
        ]
        given = [x.astype(spec.dtype) for x, spec in zip(integers, made.inputs, strict=True)]
        for y, e, spec in zip(evaluate(folded, given), wanted, made.outputs, strict=True):
            assert y.shape == e.shape
            assert spec.scale is not None
            assert spec.zero_point is not None
            signal += float(np.square(e).sum())
            noise += float(np.square(e - spec.scale * (y.astype(float) - spec.zero_point)).sum())
    assert decibels(signal, noise) > (LEAST_OF_FUNCTIONS if kind in FUNCTIONS else LEAST)[recipe]


@pytest.mark.parametrize(("kind", "recipe"), cases(tflite_models.MODELS))
def test_operators_of_tflite(kind: str, recipe: str) -> None:
    check(load(float_tflite(tflite_models.MODELS[kind](1).data), name="model"), kind, recipe)


@pytest.mark.parametrize(("kind", "recipe"), cases(onnx_models.MODELS))
def test_operators_of_onnx(kind: str, recipe: str) -> None:
    for seed in (0, 1) if kind == "conv_transpose" else (1,):  # with groups and without
        check(load(float_onnx(onnx_models.MODELS[kind](seed).model)), kind, recipe)
