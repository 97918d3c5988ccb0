"""Fine-tuning in torch: what rounds there is what the integers do, and what is learned is what is loaded."""

from __future__ import annotations

import sys
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.ir import GenericConst

import tvm_tinyml as tinyml
from tvm_tinyml.errors import ModelError, QuantizationError
from tvm_tinyml.model import Model
from tvm_tinyml.passes.fold_quantization import FoldQuantization
from tvm_tinyml.reference.evaluate import evaluate

torch = pytest.importorskip("torch", reason="training needs the extra torch")
training = pytest.importorskip("tvm_tinyml.training")
nn, F = torch.nn, torch.nn.functional

Array = np.ndarray[Any, Any]


def drawn(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):  # type: ignore[misc, name-defined]
    """A small network with what larger ones have."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.wide = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(128, 10))

    def forward(self, image: Any) -> Any:
        x = self.stem(image)
        return self.head(torch.relu(x + self.wide(self.deep(x))))


class Function(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, function: Any, *layers: Any) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Any) -> Any:
        return self.function(*self.layers, x)


def made(build: Any) -> Any:
    torch.manual_seed(0)
    return build()


def integers(model: Model, x: Any) -> Array:
    """What the integer network makes of each sample."""
    spec, module = model.inputs[0], FoldQuantization()(model.module)
    rounded = np.clip(np.round(x.numpy() / np.float32(spec.scale)) + spec.zero_point, -128, 127).astype(np.int8)
    return np.concatenate([evaluate(module, [sample[None]])[0] for sample in rounded]).astype(int)


def wanted(model: Model, y: Any) -> Array:
    spec = model.outputs[0]
    return np.rint(y.detach().numpy() / spec.scale).astype(int) + spec.zero_point


def weights(model: Model) -> list[Array]:
    """The int8 constants with more than one dimension, in order."""
    values = [
        argument.value.numpy()
        for block in model.module["main"].body.blocks
        for binding in block.bindings
        if isinstance(binding.value, relax.Call)
        for argument in binding.value.args
        if isinstance(argument, GenericConst)
    ]
    return [value for value in values if value.ndim > 1 and value.dtype == np.int8]


def test_halves_are_rounded_away_from_zero_and_limits_hold() -> None:
    quantizer = training.Quantizer(torch.tensor(0.5), 3, -128, 127)
    x = torch.tensor([-0.75, -0.25, -0.2, 0.0, 0.2, 0.25, 0.75, 1e3, -1e3])
    assert quantizer.integers(x).tolist() == [1, 2, 3, 3, 3, 4, 5, 127, -128]
    assert quantizer(x).tolist() == [-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0, 62.0, -65.5]


def test_gradients_are_those_of_a_learned_step() -> None:
    quantizer = training.Quantizer(torch.tensor(0.5), 0, -4, 3)
    x = torch.tensor([0.6, -0.4, 9.0, -9.0], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]
    # The paper's equation 3, times 1 / sqrt(numbers * largest integer).
    inside = (round(0.6 / 0.5) - 0.6 / 0.5) + (round(-0.4 / 0.5) + 0.4 / 0.5)
    assert float(quantizer.scale.grad) == pytest.approx((inside + 3 - 4) / (4 * 3) ** 0.5, rel=1e-5)


def test_activations_reach_over_what_was_seen_and_zero_is_exact() -> None:
    quantizer = training.ActivationQuantizer()
    seen = torch.tensor([-1.0, 0.3, 2.0])
    assert quantizer(seen) is seen
    quantizer.start()
    assert float(quantizer.scale) == pytest.approx(3 / 255)
    assert quantizer(torch.zeros(1)).item() == 0.0
    assert torch.allclose(quantizer(seen), seen, atol=3 / 255)


def test_weights_are_symmetric_with_a_step_for_each_channel() -> None:
    values = drawn(4, 3, 2)
    values[1] = 0
    for axis, channels in ((0, 4), (1, 3)):
        quantizer = training.WeightQuantizer(values, axis)
        numbers = quantizer.integers(values)
        assert quantizer.scale.shape == (channels,)
        peaks = numbers.abs().movedim(axis, 0).flatten(1).amax(1)
        assert set(peaks.tolist()) <= {127.0, 0.0}
        assert (quantizer(values) - values).abs().max() < 0.03
    assert training.WeightQuantizer(values, 0, bits=3).integers(9 * values).abs().max() == 3


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "conv2d": (lambda: nn.Conv2d(3, 6, 3, padding=1), (3, 6, 6)),
    "conv2d with batch norm": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()), (3, 6, 6)),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.ReLU6()), (4, 6, 6)),
    "conv_transpose2d": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, stride=2), nn.BatchNorm2d(4), nn.ReLU()),
        (3, 4, 4),
    ),
    "linear": (lambda: nn.Linear(12, 5), (12,)),
    "linear with batch norm": (lambda: nn.Sequential(nn.Linear(12, 5), nn.BatchNorm1d(5), nn.ReLU()), (12,)),
    "sum": (lambda: Function(lambda x: torch.relu(x + x)), (12,)),
    "numbers": (lambda: Function(lambda x: (x - 0.25) / 3), (12,)),
    "constant operand": (lambda: Function(lambda b, x: x * b.weight, nn.LayerNorm(12)), (12,)),
    "average pool": (lambda: nn.AvgPool2d(2), (3, 6, 6)),
    "padded average pool": (lambda: nn.AvgPool2d(3, 2, padding=1), (3, 6, 6)),
    "mean": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 6, 6)),
    "max pool": (lambda: nn.MaxPool2d(2), (3, 6, 6)),
    "sigmoid": (nn.Sigmoid, (12,)),
    "tanh": (nn.Tanh, (12,)),
    "hardswish": (nn.Hardswish, (12,)),
    "hardsigmoid": (nn.Hardsigmoid, (12,)),
    "leaky_relu": (lambda: nn.LeakyReLU(0.2), (12,)),
    "softmax": (lambda: nn.Softmax(dim=1), (12,)),
    "clip on its own": (lambda: nn.Sequential(nn.Hardtanh(-0.9, 0.7), nn.Linear(12, 5)), (12,)),
    "upsampled": (lambda: nn.Upsample(scale_factor=2), (3, 4, 4)),
    "concatenation": (lambda: Function(lambda x: torch.cat([x, F.relu(x), 2 * x], 1)), (3, 4, 4)),
    "split": (lambda: Function(lambda x: torch.cat(torch.split(x, 2, 1)[::-1], 1)), (4, 4, 4)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_rounds_as_its_integers_do(kind: str) -> None:
    build, shape = LAYERS[kind]
    module, x = made(build), drawn(16, *shape)
    student = training.prepare(module, (x[:1],), calibration=[x])
    model = tinyml.load(training.convert(student, (x[:1],)))
    assert model.inputs[0].dtype == model.outputs[0].dtype == "int8"
    difference = integers(model, x) - wanted(model, student(x))
    assert np.abs(difference).max() <= 1


def test_silu_is_a_product_of_two_tensors() -> None:
    x = drawn(16, 12)
    student = training.prepare(nn.SiLU(), (x[:1],), calibration=[x])
    model = tinyml.load(training.convert(student, (x[:1],)))
    assert np.abs(integers(model, x) - wanted(model, student(x))).max() <= 2
    assert (student(x) - F.silu(x)).abs().max() < 0.05


def test_what_is_learned_is_what_is_loaded(tmp_path: Path) -> None:
    module, x = made(Residual), drawn(32, 1, 8, 8)
    before = deepcopy(module.state_dict())
    student = training.prepare(module, (x[:1],), calibration=x.split(16))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert (student(x[:5]) - module.eval()(x[:5])).abs().max() < 0.03
    steps = {name: value.clone() for name, value in student.named_parameters()}
    history = training.finetune(student, module, x.split(16), epochs=3)
    assert len(history) == 3
    moved = [name for name, value in student.named_parameters() if not torch.equal(value, steps[name])]
    assert any(name.endswith(".scale") for name in moved)
    program = training.convert(student, (x[:1],))
    file = tmp_path / "student.pt2"
    torch.export.save(program, file)
    model = tinyml.load(file)
    loaded = weights(model)
    rounders = [
        (student.get_submodule(f"{name}_weight_quantizer"), values)
        for name, values in (
            ("conv2d", student.conv2d_weight),
            ("conv2d_1", student.conv2d_1_weight),
            ("conv2d_2", student.conv2d_2_weight),
            ("linear", student.head.get_submodule("3").weight),
        )
    ]
    for ours, (rounder, values) in zip(loaded, rounders, strict=True):
        learned = rounder.integers(values).detach().numpy().astype(np.int8)
        if learned.ndim == 4:
            learned = learned.transpose(0, 2, 3, 1)
        else:  # what is flattened before lies channels last here
            learned = learned.reshape(10, 8, 4, 4).transpose(0, 2, 3, 1).reshape(10, 128)
        np.testing.assert_array_equal(ours, learned)
    difference = integers(model, x) - wanted(model, student(x))
    assert np.abs(difference).max() <= 6  # layers that round, one after the other
    tinyml.build(model, target="cortex-m4")


def test_a_prepared_network_rounds_to_few_bits() -> None:
    x = drawn(8, 12)
    student = training.prepare(made(lambda: nn.Linear(12, 5)), (x,), weight_bits=4)
    model = tinyml.load(training.convert(student, (x[:1],)))
    (values,) = weights(model)
    assert (values.min(), values.max()) == (-7, 7)


def test_concatenated_tensors_and_average_pools_share_a_quantizer() -> None:
    def network(one: Any, other: Any, x: Any) -> Any:
        return F.avg_pool2d(torch.cat([one(x), other(x)], 1), 2)

    x = drawn(4, 3, 4, 4)
    layers = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 4, 1)
    student = training.prepare(Function(network, *layers), (x,))
    used = [node.target for node in student.graph.nodes if node.op == "call_module"]
    assert used.count("conv2d_quantizer") == 3
    sigmoid = training.prepare(Function(lambda x: torch.cat([x, x.sigmoid()], 1)), (x,))
    kinds = {name: type(module).__name__ for name, module in sigmoid.named_children() if name.endswith("quantizer")}
    assert kinds == {
        "x_quantizer": "ActivationQuantizer",
        "sigmoid_quantizer": "FixedQuantizer",
        "cat_quantizer": "ActivationQuantizer",
    }


def test_distillation_is_least_where_both_agree() -> None:
    logits, labels = drawn(6, 5), torch.arange(6) % 5
    loss = training.Distillation(temperature=2.0)
    assert float(loss(logits, logits, None)) == pytest.approx(0.0, abs=1e-6)
    assert loss(logits + drawn(6, 5, seed=1), logits, None) > 0
    expected = 0.5 * F.cross_entropy(logits, labels)
    assert float(loss(logits, logits, labels)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), ModelError, r"follows aten\.relu 'relu' and cannot be folded"),
        (
            nn.Sequential(nn.ConvTranspose2d(3, 3, 2, groups=3), nn.BatchNorm2d(3)),
            ModelError,
            "transposed convolution in groups",
        ),
        (Function(lambda x: torch.erf(x)), ModelError, r"not supported: aten\.erf 'erf'"),
        (Function(lambda x: F.conv2d(x, x[:3] * 2)), ModelError, "must be a parameter"),
    ],
)
def test_networks_that_cannot_be_prepared(module: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        training.prepare(module, (drawn(3, 3, 3, 3),))


def test_options_that_make_no_sense() -> None:
    x = drawn(2, 3)
    with pytest.raises(QuantizationError, match="no batches to calibrate with"):
        training.prepare(nn.ReLU(), (x,), calibration=[])
    with pytest.raises(QuantizationError, match="Weights of 9 bits are not offered; 2 to 8 are"):
        training.prepare(nn.ReLU(), (x,), weight_bits=9)


@pytest.mark.slow
def test_training_wins_back_what_few_bits_lose() -> None:
    pytest.importorskip("sklearn", reason="the digits come from scikit-learn")
    from tvm_tinyml import demo

    seen, unseen = ((torch.from_numpy(pictures.images), torch.from_numpy(pictures.labels)) for pictures in demo.split())
    torch.manual_seed(0)
    teacher = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AvgPool2d(4)),
        *(nn.Flatten(), nn.Linear(24, 10)),
    )
    batches = list(zip(seen[0].split(64), seen[1].split(64), strict=True))
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=0.01)
    for _ in range(15):
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(teacher(images), labels).backward()
            optimizer.step()
    teacher.eval()

    def accuracy(network: Any) -> float:
        with torch.no_grad():
            return float((network(unseen[0]).argmax(1) == unseen[1]).float().mean())

    student = training.prepare(teacher, (seen[0][:1],), calibration=batches, weight_bits=3)
    before = accuracy(student)
    history = training.finetune(student, teacher, batches, epochs=5)
    assert history[-1] < history[0]
    assert before + 0.1 < accuracy(student)
    assert accuracy(teacher) - 0.03 < accuracy(student)
    model = tinyml.load(training.convert(student, (seen[0][:1],)))
    assert np.mean(integers(model, unseen[0][:100]).argmax(1) == unseen[1][:100].numpy()) > 0.9


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tvm_tinyml.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"needs PyTorch, which is not installed.*pip install 'tvm-tinyml\[torch\]'"):
        import_module("tvm_tinyml.training")
