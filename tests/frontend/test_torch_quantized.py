"""Programs with quantizers: written by hand as PT2E does, and by PT2E of torchao."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_tinyml as tinyml
from tests.frontend.evaluator import operators
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import load
from tvm_tinyml.model import Model
from tvm_tinyml.passes.fold_quantization import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate

torch = pytest.importorskip("torch", reason="programs of torch.export need the extra torch")
import_module("torch.ao.quantization.fx._decomposed")  # the operators of quantized programs
ops, nn = torch.ops.quantized_decomposed, torch.nn


class Quantized(nn.Module):  # type: ignore[misc, name-defined]
    """A convolution and a ReLU between quantizers, with options for what may differ."""

    def __init__(self, dtype: Any = torch.int8, *, limits: tuple[int, int] | None = None, folded: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.dtype, self.folded = dtype, folded
        info = torch.iinfo(dtype)
        self.limits = limits or (info.min, info.max)
        self.zero = 5 if dtype == torch.int8 else 133
        weight = torch.randn(4, 3, 3, 3, generator=generator)
        scales = weight.abs().amax((1, 2, 3)) / 127
        integers = torch.round(weight / scales.reshape(-1, 1, 1, 1)).clamp(-127, 127).to(torch.int8)
        self.register_buffer("weight", integers if folded else weight)
        self.register_buffer("scales", scales)
        self.register_buffer("zeros", torch.zeros(4, dtype=torch.int64))
        self.bias = nn.Parameter(torch.randn(4, generator=generator))

    def forward(self, x: Any) -> Any:
        x = self.requantized(x, 0.05, self.zero)
        parameters = self.scales, self.zeros, 0, -127, 127, torch.int8
        weight = self.weight if self.folded else ops.quantize_per_channel(self.weight, *parameters)
        weight = ops.dequantize_per_channel(weight, *parameters)
        y = torch.relu(nn.functional.conv2d(x, weight, self.bias, padding=1))
        return self.requantized(y, 0.07, -128 if self.dtype == torch.int8 else 0)

    def requantized(self, x: Any, scale: float, zero: int) -> Any:
        parameters = scale, zero, *self.limits, self.dtype
        return ops.dequantize_per_tensor(ops.quantize_per_tensor(x, *parameters), *parameters)


def drawn(*shape: int) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def integers_of(model: Model, x: Any) -> np.ndarray[Any, Any]:
    """What the integer network makes of float inputs, as integers."""
    spec = model.inputs[0]
    integers = np.clip(np.rint(x.numpy() / np.float32(spec.scale)) + spec.zero_point, -128, 127).astype(np.int8)
    return evaluate(FoldQuantization()(model.module), [integers])[0].astype(int)


def wanted(model: Model, y: Any) -> np.ndarray[Any, Any]:
    """The integers that a program's output stands for."""
    spec = model.outputs[0]
    return np.rint(y.detach().numpy() / spec.scale).astype(int) + spec.zero_point


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_quantizers_become_integers(dtype: Any, folded: bool) -> None:
    module, x = Quantized(dtype, folded=folded), drawn(1, 3, 6, 6)
    model = load(torch.export.export(module, (x,)))
    assert operators(model.module) == ["permute_dims", "nn.conv2d", "add", "nn.relu", "quantize", "permute_dims"]
    assert (model.inputs[0].dtype, model.inputs[0].zero_point) == ("int8", 5)
    assert model.inputs[0].scale == np.float32(0.05)
    difference = integers_of(model, x) - wanted(model, module(x))
    assert np.abs(difference).max() <= 1
    assert np.mean(difference == 0) > 0.97  # TFLite's multipliers round twice


def test_parameters_may_be_constant_tensors() -> None:
    class Tensors(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([0.05]))
            self.register_buffer("zero", torch.tensor([3]))

        def forward(self, x: Any) -> Any:
            parameters = self.scale, self.zero, -128, 127, torch.int8
            return ops.dequantize_per_tensor.tensor(ops.quantize_per_tensor.tensor(x, *parameters), *parameters)

    model = load(torch.export.export(Tensors(), (drawn(1, 3),)))
    assert (model.inputs[0].scale, model.inputs[0].zero_point) == (np.float32(0.05), 3)


def test_a_part_of_the_integers_is_refused() -> None:
    program = torch.export.export(Quantized(limits=(-127, 127)), (drawn(1, 3, 6, 6),))
    with pytest.raises(
        ModelError, match=r"quantize_per_tensor '.*': integers from -127 to 127 of int8, which has -128"
    ):
        load(program)


def test_quantization_by_what_a_tensor_holds_is_refused() -> None:
    class Dynamic(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            scale = x.abs().amax((0, 1)) / 127
            parameters = scale, torch.zeros((), dtype=torch.int64), -128, 127, torch.int8
            return ops.dequantize_per_tensor.tensor(ops.quantize_per_tensor.tensor(x, *parameters), *parameters)

    with pytest.raises(ModelError, match=r"aten\.amax 'amax'"):
        load(torch.export.export(Dynamic(), (drawn(1, 3),)))


def test_files_of_quantized_programs(tmp_path: Path) -> None:
    file = tmp_path / "quantized.pt2"
    torch.export.save(torch.export.export(Quantized(), (drawn(1, 3, 6, 6),)), file)
    assert load(file).inputs[0].dtype == "int8"


class Network(nn.Module):  # type: ignore[misc, name-defined]
    """A small convolutional network."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 5)),
        )

    def forward(self, image: Any) -> Any:
        return self.body(image)


def prepared(training: bool) -> Callable[[Any, Any], Any]:
    quantize = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e", reason="PT2E is in torchao")
    return quantize.prepare_qat_pt2e if training else quantize.prepare_pt2e  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_pt2e_quantizes() -> None:
    """One test for both ways: what they import takes longer than they do."""
    for training in (False, True):
        check_what_pt2e_quantizes(training)


def check_what_pt2e_quantizes(training: bool) -> None:
    prepare = prepared(training)
    pt2e = import_module("torchao.quantization.pt2e")
    xnnpack = import_module("torchao.testing.pt2e._xnnpack_quantizer")
    torch.manual_seed(0)
    samples = torch.randn(16, 2, 3, 8, 8)
    module = torch.export.export(Network().train(training), (samples[0],)).module()
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_qat=training)
    module = prepare(module, xnnpack.XNNPACKQuantizer().set_global(config))
    for sample in samples:
        module(sample)
    module = pt2e.quantize_pt2e.convert_pt2e(module)
    if training:
        pt2e.move_exported_model_to_eval(module)
    x = samples[0]
    model = load(torch.export.export(module, (x,)))
    assert all(spec.dtype == "int8" for spec in (*model.inputs, *model.outputs))
    difference = integers_of(model, x) - wanted(model, module(x))
    assert np.abs(difference).max() <= 2
    tinyml.build(model, target="cortex-m4")
