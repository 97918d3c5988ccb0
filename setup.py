"""The part of the build that pyproject.toml has no stable words for: the optional C extension."""

import sys
from glob import glob

from setuptools import Extension, setup

NATIVE = "tvm_tinyml/device/native"
WINDOWS = sys.platform == "win32"

setup(
    ext_modules=[
        # The simulator. Optional, so that a machine without a C compiler can install the rest.
        Extension(
            "tvm_tinyml.device._machine",
            sorted(glob(f"{NATIVE}/*.c")),
            depends=sorted(glob(f"{NATIVE}/*.h")),
            # A product and a sum of the simulated program are rounded one after the other, and never fused by the host.
            extra_compile_args=["/Zc:preprocessor"] if WINDOWS else ["-O2", "-ffp-contract=off", "-fvisibility=hidden"],
            libraries=[] if WINDOWS else ["m"],
            optional=True,
            py_limited_api=True,
        )
    ],
    # It uses the stable interface of Python 3.10 only: one wheel for all versions.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
