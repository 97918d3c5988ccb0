"""TVM without torch: it imports torch wherever that is installed, which takes four times as long as TVM itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_hidden() -> Iterator[None]:
    """Let imports of torch fail, unless it is there already.

    For processes of our own: TVM takes no tensors of torch afterwards. Later imports of torch succeed.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]
