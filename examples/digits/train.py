"""Train the demo's digits classifier and write it as an int8 ONNX file in QDQ form.

A small network with the layers of larger ones for microcontrollers: a convolution, two depthwise separable blocks, both
kinds of pooling, a dense layer. Run it from the repository after ``pip install -e '.[dev,torch]'``::

    python examples/digits/train.py

Two runs on one machine with the same versions write the same file.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tvm_tinyml import demo

EPOCHS = 60
BATCH = 64
OPSET = 17


def convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps height and width, batch norm, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def network() -> nn.Sequential:
    """Return the untrained network: float [N, 1, 8, 8] in 0..1 to ten logits."""
    return nn.Sequential(
        *convolution(1, 16, 3),
        *convolution(16, 16, 3, groups=16),
        *convolution(16, 32, 1),
        nn.MaxPool2d(2),
        *convolution(32, 32, 3, groups=32),
        *convolution(32, 64, 1),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each picture by at most one pixel up, down, left or right; what comes in is empty."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    offsets = torch.randint(0, 3, (len(images), 2), generator=generator).tolist()
    return torch.stack([p[:, y : y + 8, x : x + 8] for p, (y, x) in zip(padded, offsets, strict=True)])


def train(data: demo.Pictures) -> nn.Sequential:
    """Train the network from seed 0."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    model = network()
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator)[: len(images) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad()
            loss(model(shifted(images[batch], generator)), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def folded(model: nn.Sequential) -> list[nn.Module]:
    """Return the layers with every batch norm folded into the convolution before it."""
    layers: list[nn.Module] = []
    for layer in model:
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return layers


def to_onnx(layers: list[nn.Module]) -> onnx.ModelProto:
    """Write the layers, one after another, as an ONNX graph with batch 1.

    By hand because the chain is short: the file then holds what is here and depends on no exporter's version.
    """
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "image"
    for index, layer in enumerate(layers):
        inputs = [value]
        for name, parameter in layer.named_parameters():
            inputs.append(f"{index}.{name}")
            weights.append(numpy_helper.from_array(parameter.detach().numpy(), inputs[-1]))
        if isinstance(layer, nn.Conv2d):
            op, attributes = "Conv", {
                "kernel_shape": list(layer.kernel_size),
                "pads": list(layer.padding) * 2,
                "group": layer.groups,
            }
        elif isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
            op = "MaxPool" if isinstance(layer, nn.MaxPool2d) else "AveragePool"
            attributes = {"kernel_shape": [layer.kernel_size] * 2, "strides": [layer.stride] * 2}
        elif isinstance(layer, nn.Linear):
            op, attributes = "Gemm", {"transB": 1}
        else:
            op, attributes = {nn.ReLU: "Relu", nn.Flatten: "Flatten"}[type(layer)], {}
        value = "logits" if index == len(layers) - 1 else f"{index}.{op.lower()}"
        nodes.append(helper.make_node(op, inputs, [value], name=f"{index}.{op.lower()}", **attributes))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(
        graph,
        opset_imports=opset,
        ir_version=helper.find_min_ir_version_for(opset),
        producer_name="tvm_tinyml examples/digits/train.py",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class Calibration(CalibrationDataReader):
    """Hands the quantizer one picture after another."""

    def __init__(self, images: np.ndarray) -> None:
        self.images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next picture under its input's name, None after the last."""
        image = next(self.images, None)
        return None if image is None else {"image": image[None]}


def quantized(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Return the model with QDQ nodes: int8 activations, symmetric int8 weights with a scale for each channel."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, before)  # handed over as a file: the quantizer changes a model that it gets in memory
        quantize_static(
            before,
            after,
            Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        result = onnx.load(after)
    result.producer_name = model.producer_name
    onnx.checker.check_model(result, full_check=True)
    return result


def accuracy(model: onnx.ModelProto, data: demo.Pictures) -> float:
    """Return the share of pictures that the model reads as their label."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in data.images])
    return float(np.mean(logits.argmax(axis=1) == data.labels))


def main() -> None:
    """Train, quantize, report, write."""
    parser = argparse.ArgumentParser(description="Train the demo's digits classifier.")
    parser.add_argument("-o", "--output", type=Path, default=Path(demo.__file__).with_name(demo.MODEL))
    output: Path = parser.parse_args().output

    training, test = demo.split()
    model = train(training)
    in_float = to_onnx(folded(model))
    in_int8 = quantized(in_float, training.images)
    output.write_bytes(in_int8.SerializeToString(deterministic=True))

    print(f"{sum(np.prod(w.dims, dtype=int) for w in in_float.graph.initializer)} parameters")
    print(f"float accuracy {accuracy(in_float, test):.4f} on {len(test.labels)} pictures it has not seen")
    print(f"int8  accuracy {accuracy(in_int8, test):.4f}")
    print(f"wrote {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
