"""Training with rounding, towards what the float network says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from tvm_tinyml.training.prepare import inputs_of

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""From what student and teacher make, and labels or None, to what is to be small."""


@dataclass(frozen=True)
class Distillation:
    """The divergence of the student's classes from the teacher's, both softened, and the cross entropy of labels.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531, section 2.

    Attributes
    ----------
    temperature : that logits are divided by.
    share : of the divergence, if there are labels.
    """

    temperature: float = 4.0
    share: float = 0.5

    def __call__(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Return the loss of a batch of logits [N, classes]."""
        made, wanted = (functional.log_softmax(logits / self.temperature, -1) for logits in (student, teacher))
        # The square keeps gradients as large as those of the labels.
        divergence = functional.kl_div(made, wanted, reduction="batchmean", log_target=True) * self.temperature**2
        if labels is None:
            return divergence
        return self.share * divergence + (1 - self.share) * functional.cross_entropy(student, labels)


def finetune(
    student: fx.GraphModule,
    teacher: nn.Module,
    batches: Iterable[Any],
    *,
    epochs: int = 10,
    learning_rate: float = 0.001,
    loss: Loss | None = None,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a prepared network: weights, biases and steps together.

    Stochastic gradient descent with momentum, as the steps' gradients are scaled for; the rate falls along a cosine.

    Parameters
    ----------
    student : from `prepare`; changed in place.
    teacher : the float network, with one output.
    batches : gone through once an epoch: inputs, or tuples of inputs and labels.
    loss : of what both make; None: `Distillation`.
    report : called after each epoch with its number and mean loss.

    Returns
    -------
    Mean loss of each epoch.
    """
    loss = loss or Distillation()
    inputs = sum(node.op == "placeholder" for node in student.graph.nodes)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    teacher_mode = teacher.training
    teacher.eval()
    history = []
    for epoch in range(epochs):
        losses = []
        for batch in batches:
            xs = inputs_of(batch, inputs)
            labels = batch[inputs] if isinstance(batch, list | tuple) and len(batch) > inputs else None
            with torch.no_grad():
                wanted = teacher(*xs)
            value = loss(student(*xs), wanted, labels)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(value.item())
        schedule.step()
        history.append(sum(losses) / max(len(losses), 1))
        if report is not None:
            report(epoch, history[-1])
    teacher.train(teacher_mode)
    return history
