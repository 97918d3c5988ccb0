"""What the demo runs: a digits classifier of ours and the pictures it was not trained on.

The model comes with the package (``examples/digits/train.py`` makes it). The pictures are scikit-learn's digits, 1797
handwritten digits of 8 x 8 pixels, taken from the installed scikit-learn when they are asked for.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tvm_tinyml.errors import InputError

MODEL = "digits.onnx"


class Pictures(NamedTuple):
    """Pictures as the model takes them, float32 [N, 1, 8, 8] in 0..1, and the digit on each, int64 [N]."""

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def split() -> tuple[Pictures, Pictures]:
    """Return the pictures to train on (three quarters) and those to test with, the same ones every time.

    Raises
    ------
    InputError : scikit-learn is not installed.
    """
    return _split(0.25)


def halves() -> tuple[Pictures, Pictures]:
    """Return as many pictures to train on as to test with, the same ones every time.

    Raises
    ------
    InputError : scikit-learn is not installed.
    """
    return _split(0.5)


def _split(unseen_share: float) -> tuple[Pictures, Pictures]:
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise InputError(
            "The digits come from scikit-learn, which is not installed. Install it: pip install 'tvm-tinyml[demo]'."
        ) from error
    data = load_digits()
    images = (data.images[:, None] / 16.0).astype(np.float32)
    labels = data.target.astype(np.int64)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        images, labels, test_size=unseen_share, stratify=labels, random_state=0
    )
    return Pictures(seen, seen_labels), Pictures(unseen, unseen_labels)


def digits() -> tuple[bytes, npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the model and the pictures that its accuracy is measured on.

    Returns
    -------
    model : ONNX file with int8 QDQ nodes; one float32 input [1, 1, 8, 8], one float32 output [1, 10].
    images : float32 [450, 1, 8, 8] in 0..1, none of them used in training.
    labels : int64 [450], the digit on each.

    Raises
    ------
    InputError : scikit-learn is not installed.
    """
    _, test = split()
    return resources.files(__name__).joinpath(MODEL).read_bytes(), test.images, test.labels
