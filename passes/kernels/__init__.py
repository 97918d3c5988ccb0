"""What each integer operator computes, as one TensorIR function a kind.

A function here says what is computed and in which blocks, never in which order: that is the schedule's. Helpers with a
body of their own in every code generator (``tinyml_*``) are called where C or TIR cannot say the fast thing.

Block names are the contract with :mod:`tvm_tinyml.schedules`: ``dot`` holds the reduction that a dot-product
instruction can take, ``tail`` its remainder, ``output`` the epilogue.
"""

from tvm_tinyml.passes.kernels.kernel import Kernel, KernelTraits

__all__ = ["Kernel", "KernelTraits"]
