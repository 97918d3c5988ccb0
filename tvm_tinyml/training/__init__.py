"""Fine-tuning in torch for the arithmetic that the compiler generates; needs the extra ``torch``.

::

    student = training.prepare(model, (image,), calibration=batches)     # rounds as the integers will
    training.finetune(student, model, batches)                           # learns with that rounding
    network = tinyml.load(training.convert(student, (image,)))           # the very same integers
"""

try:
    from tvm_tinyml.training.convert import convert
    from tvm_tinyml.training.finetune import Distillation, finetune
    from tvm_tinyml.training.prepare import prepare
    from tvm_tinyml.training.quantizers import ActivationQuantizer, Quantizer, WeightQuantizer
except ModuleNotFoundError as error:
    raise ImportError(
        "Training needs PyTorch, which is not installed. Install it: pip install 'tvm-tinyml[torch]'."
    ) from error

__all__ = [
    "ActivationQuantizer",
    "Distillation",
    "Quantizer",
    "WeightQuantizer",
    "convert",
    "finetune",
    "prepare",
]
