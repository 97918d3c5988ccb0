"""What type checkers cannot see of a pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import IRModule


class CallablePass:
    """Base of a class that TVM's decorator ``module_pass`` turns into a pass: calling it transforms a module."""

    if TYPE_CHECKING:

        def __call__(self, mod: IRModule) -> IRModule:
            """Return the transformed module; `mod` is untouched."""
