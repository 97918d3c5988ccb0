"""Train three small digits classifiers and write them as exported programs, to try quantization on.

A plain convolutional network, one of depthwise separable convolutions and a residual one, each for float pictures
[1, 1, 8, 8] in 0..1 and with ten logits. They learn from half of scikit-learn's digits; the other half is for scoring.
Run it from the repository after ``pip install -e '.[demo,torch]'``::

    python examples/digits/networks.py -o networks/

It writes ``cnn.pt2``, ``separable.pt2`` and ``residual.pt2``, and takes about a minute. Two runs on one machine with
the same versions write networks that compute the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tvm_tinyml import demo

EPOCHS = 40
BATCH = 32


def convolution(inputs: int, outputs: int, kernel: int = 3, groups: int = 1) -> list[nn.Module]:
    """Convolution that keeps height and width, batch norm, ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def separable(inputs: int, outputs: int) -> list[nn.Module]:
    """Depthwise convolution, pointwise convolution."""
    return [*convolution(inputs, inputs, groups=inputs), *convolution(inputs, outputs, 1)]


class Block(nn.Module):
    """Two convolutions, added to what they read."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*convolution(channels, channels), *convolution(channels, channels)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, rectified."""
        return torch.relu(x + self.body(x))


def head(channels: int) -> list[nn.Module]:
    """Mean over the picture, dense layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "cnn": lambda: nn.Sequential(*convolution(1, 16), nn.MaxPool2d(2), *convolution(16, 32), *head(32)),
    "separable": lambda: nn.Sequential(
        *convolution(1, 16), *separable(16, 32), nn.MaxPool2d(2), *separable(32, 64), *head(64)
    ),
    "residual": lambda: nn.Sequential(*convolution(1, 16), Block(16), nn.MaxPool2d(2), Block(16), *head(16)),
}


def train(build: Callable[[], nn.Sequential], data: demo.Pictures) -> nn.Sequential:
    """Train a network from seed 0."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    network = build()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            optimizer.zero_grad()
            loss(network(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: nn.Module, data: demo.Pictures) -> float:
    """Return the share of pictures that a network reads as their label."""
    with torch.no_grad():
        classes = network(torch.from_numpy(data.images)).argmax(1)
    return float((classes.numpy() == data.labels).mean())


def main() -> None:
    """Train, report, write."""
    parser = argparse.ArgumentParser(description="Train three digits classifiers.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder; made if it is not there")
    folder: Path = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    seen, unseen = demo.halves()
    for name, build in NETWORKS.items():
        network = train(build, seen)
        torch.export.save(torch.export.export(network, (torch.zeros(1, 1, 8, 8),)), folder / f"{name}.pt2")
        count = sum(parameter.numel() for parameter in network.parameters())
        print(f"{name}: {count} parameters, {accuracy(network, unseen):.4f} of {len(unseen.labels)} unseen pictures")


if __name__ == "__main__":
    main()
