"""Programs of torch.export, against torch itself and against the same networks as ONNX models."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tvm.ir import assert_structural_equal

import tvm_tinyml as tinyml
from tests.frontend.evaluator import operators
from tvm_tinyml.errors import ModelError
from tvm_tinyml.frontend import load
from tvm_tinyml.model import Model
from tvm_tinyml.reference.evaluate import evaluate

torch = pytest.importorskip("torch", reason="programs of torch.export need the extra torch")
nn, F = torch.nn, torch.nn.functional


class Function(nn.Module):  # type: ignore[misc, name-defined]
    """A module that computes a function of its inputs, with modules to train if there are any."""

    def __init__(self, function: Callable[..., Any], *modules: Any) -> None:
        super().__init__()
        self.function = function
        self.modules_ = nn.ModuleList(modules)

    def forward(self, *xs: Any) -> Any:
        return self.function(*self.modules_, *xs)


def seeded(module: Any) -> Any:
    """The module with seeded parameters and statistics, ready for inference."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                value.copy_(torch.randn(value.shape, generator=generator) * 0.5)
                if name.endswith("var"):
                    value.abs_().add_(0.5)
    return module.eval()


def drawn(*shapes: Sequence[int]) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(tuple(shape), generator=generator) for shape in shapes)


def exported(module: Any, inputs: tuple[Any, ...], **options: Any) -> Any:
    return torch.export.export(seeded(module), inputs, **options)


def check_equal(module: Any, model: Model, inputs: tuple[Any, ...]) -> None:
    """Compare the outputs of a module and of its import; other orders of sums are allowed for."""
    with torch.no_grad():
        expected = module(*inputs)
    expected = list(expected) if isinstance(expected, tuple | list) else [expected]
    computed = evaluate(model.module, [x.numpy() for x in inputs])
    assert len(computed) == len(expected) == len(model.outputs)
    for y, e, spec in zip(computed, expected, model.outputs, strict=True):
        assert y.shape == spec.shape == tuple(e.shape)
        np.testing.assert_allclose(y, e.numpy(), rtol=1e-4, atol=1e-5)


IMAGE = (1, 4, 6, 8)
CASES: dict[str, tuple[Any, list[Sequence[int]]]] = {
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(1, 0)), [IMAGE]),
    "conv2d without a bias": (nn.Conv2d(4, 6, 3, bias=False), [IMAGE]),
    "conv2d dilated": (nn.Conv2d(4, 6, 3, padding=2, dilation=2), [IMAGE]),
    "conv2d in groups": (nn.Conv2d(4, 6, 3, groups=2), [IMAGE]),
    "conv2d depthwise": (nn.Conv2d(4, 8, 3, padding=1, groups=4), [IMAGE]),
    "conv2d same": (nn.Conv2d(4, 6, (4, 3), padding="same"), [IMAGE]),
    "conv2d valid": (nn.Conv2d(4, 6, 3, padding="valid"), [IMAGE]),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), [IMAGE]),
    "conv_transpose2d in groups": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), [IMAGE]),
    "batch_norm after conv2d": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU()), [IMAGE]),
    "batch_norm after linear": (nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()), [(3, 4)]),
    "batch_norm alone": (nn.BatchNorm2d(4), [IMAGE]),
    "batch_norm not affine": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, affine=False)), [IMAGE]),
    "linear": (nn.Linear(8, 5), [(3, 8)]),
    "linear of three dimensions": (nn.Linear(8, 5), [(1, 3, 8)]),
    "linear of three dimensions without a bias": (nn.Linear(8, 5, bias=False), [(1, 3, 8)]),
    "mm": (Function(lambda layer, x: torch.mm(x, layer.weight.t()), nn.Linear(8, 5)), [(3, 8)]),
    "matmul": (Function(lambda layer, x: x @ layer.weight.T, nn.Linear(8, 5)), [(3, 8)]),
    "addmm": (Function(lambda layer, x: torch.addmm(layer.bias, x, layer.weight.t()), nn.Linear(8, 5)), [(3, 8)]),
    "linear after flatten": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(120, 7)), [IMAGE]),
    "relu": (nn.ReLU(), [IMAGE]),
    "relu in place": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True)), [IMAGE]),
    "relu6": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU6()), [IMAGE]),
    "hardtanh": (nn.Hardtanh(-0.5, 0.75), [IMAGE]),
    "clamp": (Function(lambda x: x.clamp(-0.5, 1.0)), [IMAGE]),
    "clamp below": (Function(lambda x: torch.clamp(x, min=-0.5)), [IMAGE]),
    "clamp_min": (Function(lambda x: torch.clamp_min(x, -0.5)), [IMAGE]),
    "clamp_max": (Function(lambda x: torch.clamp_max(x, 0.5)), [IMAGE]),
    "leaky_relu": (nn.LeakyReLU(0.3), [IMAGE]),
    "prelu": (nn.PReLU(), [IMAGE]),
    "sigmoid": (nn.Sigmoid(), [IMAGE]),
    "tanh": (nn.Tanh(), [IMAGE]),
    "abs, exp and neg": (Function(lambda x: (x.abs(), x.exp(), -x)), [IMAGE]),
    "hardswish": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.Hardswish()), [IMAGE]),
    "hardsigmoid": (Function(lambda x: F.hardsigmoid(4 * x)), [IMAGE]),
    "silu": (nn.SiLU(), [IMAGE]),
    "softmax": (nn.Softmax(dim=-1), [(3, 8)]),
    "softmax over channels": (nn.Sequential(nn.Conv2d(4, 5, 3), nn.Softmax(dim=1)), [IMAGE]),
    "max_pool2d": (nn.MaxPool2d(3, 2, padding=1), [IMAGE]),
    "max_pool2d of even windows": (nn.MaxPool2d((2, 4)), [IMAGE]),
    "max_pool2d with ceil_mode": (nn.MaxPool2d(2, ceil_mode=True), [IMAGE]),
    "avg_pool2d": (nn.AvgPool2d(2), [IMAGE]),
    "avg_pool2d that counts padding": (nn.AvgPool2d(3, 2, padding=1), [IMAGE]),
    "avg_pool2d that does not": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), [IMAGE]),
    "adaptive_avg_pool2d": (nn.AdaptiveAvgPool2d(1), [IMAGE]),
    "adaptive_avg_pool2d to a division": (nn.AdaptiveAvgPool2d((3, 2)), [IMAGE]),
    "adaptive_avg_pool2d to the same": (nn.AdaptiveAvgPool2d((6, None)), [IMAGE]),
    "mean": (Function(lambda x: x.mean((2, 3))), [IMAGE]),
    "mean of one axis": (Function(lambda x: x.mean(1, keepdim=True)), [IMAGE]),
    "mean of axis 0": (Function(lambda x: x.mean(0)), [(3, 4)]),
    "mean of all": (Function(lambda x: x.mean()), [IMAGE]),
    "sum": (Function(lambda x: x.sum((-1, -2), keepdim=True)), [IMAGE]),
    "sum of all": (Function(lambda x: x.sum()), [IMAGE]),
    "add, sub and mul": (Function(lambda x, y: (x + y) * (x - y)), [IMAGE, (1, 4, 1, 1)]),
    "numbers": (Function(lambda x: (1.5 - (x + 1) * 2 - 0.25) / 3), [IMAGE]),
    "a constant": (Function(lambda layer, x: x * layer.weight + layer.bias, nn.BatchNorm2d(8)), [IMAGE]),
    "cat": (Function(lambda x, y: torch.cat([x, y], 1)), [IMAGE, (1, 2, 6, 8)]),
    "view": (Function(lambda x: x.view(1, 8, -1)), [IMAGE]),
    "reshape": (Function(lambda x: x.reshape(2, 2, 6, 8)), [IMAGE]),
    "flatten": (Function(lambda x: torch.flatten(x, 2)), [IMAGE]),
    "unflatten": (Function(lambda x: x.unflatten(1, (2, 2))), [IMAGE]),
    "squeeze and unsqueeze": (Function(lambda x: x.squeeze(0).unsqueeze(-1)), [IMAGE]),
    "permute": (Function(lambda x: x.permute(0, 2, 3, -3)), [IMAGE]),
    "transpose": (Function(lambda x: x.transpose(1, -1).contiguous()), [IMAGE]),
    "shuffled channels": (
        Function(lambda c, x: c(x).view(1, 2, 3, 4, 6).transpose(1, 2).reshape(1, 6, 4, 6), nn.Conv2d(4, 6, 3)),
        [IMAGE],
    ),
    "split": (Function(lambda x: torch.split(x, 3, 1)), [IMAGE]),
    "split into sizes": (Function(lambda x: torch.split(x, [1, 2, 1], -3)[1]), [IMAGE]),
    "chunk": (Function(lambda x: x.chunk(3, 3)), [IMAGE]),
    "slice": (Function(lambda x: x[:, 1:, ::2, -3:-1]), [IMAGE]),
    "select": (Function(lambda x: x[:, -1]), [IMAGE]),
    "constant_pad_nd": (Function(lambda x: F.pad(x, (1, 2, 0, 3), value=-1.5)), [IMAGE]),
    "zero padding": (nn.ZeroPad2d((1, 0, 2, 1)), [IMAGE]),
    "upsample_nearest2d": (nn.Upsample(scale_factor=2), [IMAGE]),
    "upsample_nearest2d to a size": (nn.Upsample(size=(9, 8)), [IMAGE]),
    "dropout and clone": (Function(lambda d, x: d(x).clone().detach() + x, nn.Dropout(0.5)), [IMAGE]),
    "a change of type that is none": (Function(lambda x: x.to(torch.float32).float() + 1), [IMAGE]),
}


@pytest.fixture(scope="module")
def operators_listed_once() -> Iterator[None]:
    """Let torch look up which of all its operators are made of others once, not twice for every program."""
    name, users = "_collect_all_valid_cia_ops", ("exported_program", "decomp_utils")
    with pytest.MonkeyPatch.context() as patch:
        for module in (import_module(f"torch.export.{user}") for user in users):
            if hasattr(module, name):
                patch.setattr(module, name, cache(getattr(module, name)))
        yield


@pytest.mark.usefixtures("operators_listed_once")
@pytest.mark.parametrize("case", CASES)
def test_operators_compute_what_torch_computes(case: str) -> None:
    module, shapes = CASES[case]
    inputs = drawn(*shapes)
    program = exported(module, inputs)
    check_equal(module, load(program), inputs)
    if case != "prelu":  # becomes a choice by comparison
        check_equal(module, load(program.run_decompositions()), inputs)


class Block(nn.Module):  # type: ignore[misc, name-defined]
    """A residual network with all kinds of layers, for images of 1 x 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(128, 10))

    def forward(self, image: Any) -> Any:
        x = self.stem(image)
        return self.head(torch.relu(x + self.wide(self.deep(x))))


def block_onnx(module: Any) -> onnx.ModelProto:
    """`Block` as an ONNX model, written by hand."""
    state = {name: value.numpy() for name, value in module.state_dict().items()}
    norm = ("weight", "bias", "running_mean", "running_var")
    make = onnx.helper.make_node

    def batch_norm(x: str, of: str, y: str) -> onnx.NodeProto:
        return make("BatchNormalization", [x, *(f"{of}.{part}" for part in norm)], [y])

    nodes = [
        make("Conv", ["image", "stem.0.weight"], ["1"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        batch_norm("1", "stem.1", "2"),
        make("Relu", ["2"], ["3"]),
        make("Conv", ["3", "deep.0.weight", "deep.0.bias"], ["4"], pads=[1, 1, 1, 1], group=8),
        batch_norm("4", "deep.1", "5"),
        make("Clip", ["5", "zero", "six"], ["6"]),
        make("Conv", ["6", "wide.0.weight", "wide.0.bias"], ["7"]),
        batch_norm("7", "wide.1", "8"),
        make("Add", ["3", "8"], ["9"]),
        make("Relu", ["9"], ["10"]),
        make("MaxPool", ["10"], ["11"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["11"], ["12"]),
        make("Gemm", ["12", "head.3.weight", "head.3.bias"], ["logits"], transB=1),
    ]
    state |= {"zero": np.float32(0), "six": np.float32(6)}
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in state.items()]
    info = onnx.helper.make_tensor_value_info
    ends = [info("image", 1, [1, 1, 8, 8])], [info("logits", 1, [1, 10])]
    graph = onnx.helper.make_graph(nodes, "block", *ends, constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def test_onnx_and_torch_give_the_same_network_and_the_same_bytes() -> None:
    module = seeded(Block())
    models = [load(exported(module, drawn((1, 1, 8, 8))), name="net"), load(block_onnx(module), name="net")]
    assert_structural_equal(*[model.module for model in models])
    samples = drawn((8, 1, 1, 8, 8))[0].numpy()
    quantized = [tinyml.quantize(model, calibration=samples) for model in models]
    assert_structural_equal(*[model.module for model in quantized])
    objects = [tinyml.build(model, target="cortex-m4") for model in quantized]
    assert objects[0].flash_bytes == objects[1].flash_bytes
    integers = np.random.default_rng(2).integers(-128, 128, (1, 1, 8, 8)).astype(np.int8)
    one, other = (evaluate(model.module, [integers])[0] for model in quantized)
    assert one.tobytes() == other.tobytes()


def test_images_are_nhwc_and_batch_norms_and_activations_are_folded() -> None:
    model = load(exported(Block(), drawn((1, 1, 8, 8))))
    assert operators(model.module) == [
        *("reshape", "nn.conv2d", "add", "nn.relu"),  # of one channel: no transpose
        *("nn.conv2d", "add", "clip", "nn.conv2d", "add"),
        *("add", "nn.relu", "nn.max_pool2d", "reshape", "permute_dims", "matmul", "add"),
    ]


def test_inputs_and_outputs_are_called_as_the_program_calls_them() -> None:
    class Two(nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, left: Any, right: Any) -> Any:
            total = left + right
            return total, torch.relu(total), total.detach()

    program = torch.export.export(Two(), drawn((1, 3), (1, 3)))
    model = load(program)
    assert [spec.name for spec in model.inputs] == ["left", "right"]
    assert [spec.name for spec in model.outputs] == list(program.graph_signature.user_outputs)
    check_equal(Two(), model, drawn((1, 3), (1, 3)))


def test_a_batch_that_may_vary_becomes_one() -> None:
    module = Block()
    program = exported(module, drawn((2, 1, 8, 8)), dynamic_shapes=({0: torch.export.Dim("n", max=64)},))
    for each in (program, program.run_decompositions()):
        model = load(each)
        assert model.inputs[0].shape == (1, 1, 8, 8)
        check_equal(module, model, drawn((1, 1, 8, 8)))


def test_sizes_of_the_batch_in_the_program_are_followed() -> None:
    module = Function(lambda x: (x + 1).view(x.size(0), -1))
    program = exported(module, drawn((2, 3, 4)), dynamic_shapes=(({0: torch.export.Dim("n", max=64)},),))
    check_equal(module, load(program), drawn((1, 3, 4)))


def test_other_dimensions_must_be_fixed() -> None:
    program = exported(nn.ReLU(), drawn((1, 3, 8)), dynamic_shapes=({2: torch.export.Dim("width", max=64)},))
    with pytest.raises(ModelError, match=r"Input 'input': dimension 2 \(.*\) is not fixed"):
        load(program)


def test_files_content_and_names(tmp_path: Path) -> None:
    module = Block()
    program = exported(module, drawn((1, 1, 8, 8)))
    file = tmp_path / "my-net.pt2"
    torch.export.save(program, file)
    for source, name in ((file, "my_net"), (str(file), "my_net"), (file.read_bytes(), "model"), (program, "model")):
        model = load(source)
        assert model.name == name
        check_equal(module, model, drawn((1, 1, 8, 8)))
    assert load(program, name="kws").name == "kws"


def test_archives_that_are_no_programs(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"w": torch.zeros(3)}, file)
    with pytest.raises(ModelError, match=r"weights\.pt.*is no exported program.*torch\.export\.save"):
        load(file)


def test_a_module_is_to_be_exported_first() -> None:
    with pytest.raises(ModelError, match=r"A Block is no model\..*torch\.export\.export\(model\.eval\(\), inputs\)"):
        load(Block())


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "net.pt2"
    torch.export.save(exported(nn.ReLU(), drawn((1, 3))), file)
    for name in [name for name in sys.modules if name.startswith("tvm_tinyml.frontend.torch")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tvm_tinyml.frontend.torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"needs PyTorch, which is not installed.*pip install 'tvm-tinyml\[torch\]'"):
        load(file)


REFUSED: dict[str, tuple[Any, Sequence[int], str]] = {
    "several operators": (
        Function(lambda x: torch.erf(torch.atan(x) + 1)),
        (1, 3),
        r"not supported: aten\.atan 'atan', aten\.erf 'erf'\. Supported: aten\.",
    ),
    "windows of several sizes": (
        nn.AdaptiveAvgPool2d(4),
        IMAGE,
        r"aten\.adaptive_avg_pool2d '.*': from 6 x 8 to 4 x 4 its windows differ in size",
    ),
    "another divisor": (nn.AvgPool2d(2, divisor_override=3), IMAGE, "divisor_override is not supported"),
    "windows beyond the image": (nn.MaxPool2d(3, 2, ceil_mode=True), IMAGE, "ceil_mode with windows beyond"),
    "a dilated pool": (nn.MaxPool2d(2, dilation=2), IMAGE, "dilations and storage_order are not supported"),
    "the indices of a pool": (nn.MaxPool2d(2, return_indices=True), IMAGE, r"result 1 of 'max_pool2d_with_indices'"),
    "one dimension": (nn.AvgPool2d(2), (4, 6, 8), r"its input has shape \[4, 6, 8\]; 4 dimensions"),
    "an image without a batch": (nn.Conv2d(4, 5, 3), (4, 6, 8), r"conv2d '.*': its input has shape \[4, 6, 8\]"),
    "a factor of a sum": (Function(lambda x: torch.add(x, x, alpha=2)), (1, 3), "alpha is 2; 1 is supported"),
    "a factor of a difference": (Function(lambda x: torch.rsub(x, x, alpha=2)), (1, 3), "alpha is 2; 1 is supported"),
    "scaled products": (
        Function(lambda d, x: torch.addmm(d.bias, x, d.weight.t(), beta=2), nn.Linear(3, 5)),
        (1, 3),
        "beta is 2.0; 1.0 is supported",
    ),
    "a quotient of tensors": (Function(lambda x: x / (x + 1)), (1, 3), "Div 'div': its divisor 'add' must be constant"),
    "division by zero": (Function(lambda x: x / 0), (1, 3), "its divisor '.*' has zeros"),
    "a rounded quotient": (
        Function(lambda x: torch.div(x, 2, rounding_mode="floor")),
        (1, 3),
        "rounding_mode is not supported",
    ),
    "mirrored borders": (nn.ReflectionPad2d(1), IMAGE, r"mode reflect is not supported|reflection_pad2d"),
    "a factor that is cut": (nn.Upsample(scale_factor=1.4), IMAGE, "factor of 1.4 makes 8.4 of 6 elements"),
    "another type": (Function(lambda x: x.double() + 1), (1, 3), r"turns torch\.float32 into torch\.float64"),
    "computed weights": (Function(lambda x: F.conv2d(x, x)), IMAGE, "the weights '.*' must be constant"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    module, shape, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        load(exported(module, drawn(shape)))


def test_programs_for_training_are_refused() -> None:
    program = torch.export.export(Block().train(), drawn((2, 1, 8, 8)))
    with pytest.raises(ModelError, match=r"as in training: aten\.batch_norm 'batch_norm', .*model\.eval\(\)"):
        load(program)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_are_refused(dtype: Any) -> None:
    program = torch.export.export(nn.Linear(3, 4).to(dtype), (torch.zeros(1, 3, dtype=dtype),))
    with pytest.raises(ModelError, match=rf"'weight' is {dtype}; torch\.float32 is supported.*model\.float\(\)"):
        load(program)
    program = torch.export.export(nn.ReLU(), (torch.zeros(1, 3, dtype=dtype),))
    with pytest.raises(ModelError, match=rf"Input 'input' is {dtype}.*model\.float\(\)"):
        load(program)


def test_state_that_is_kept_is_refused() -> None:
    class Counter(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.seen.add_(1)
            return x + self.seen

    with pytest.raises(ModelError, match=r"Output 'add' is buffer mutation, not a tensor that the network returns"):
        load(torch.export.export(Counter(), drawn((1, 3))))


def test_the_front_end_of_torch_is_imported_only_for_its_programs() -> None:
    code = (
        "import sys, tvm_tinyml as tinyml; from tests import onnx_models; "
        "tinyml.load(onnx_models.MODELS['relu'](0).model); assert 'tvm_tinyml.frontend.torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
