"""What all passes share: errors that reach the user as they were raised, and a call that type checkers know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tvm_ffi
from tvm import IRModule

from tvm_tinyml.errors import ModelError

# TVM runs a pass from C++. Of an error that crosses it only the name of the class is left; without this the user would
# meet a RuntimeError.
tvm_ffi.register_error(ModelError)


class CallablePass:
    """Base of a class that TVM's decorator ``module_pass`` turns into a pass: calling it transforms a module."""

    if TYPE_CHECKING:

        def __call__(self, mod: IRModule) -> IRModule:
            """Return the transformed module; `mod` is untouched."""
