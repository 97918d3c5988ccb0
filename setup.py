"""The part of the build that pyproject.toml has no stable words for: the optional C extension."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        # Speeds up the simulator's counting. Optional, so that a machine without a C compiler can install the rest.
        Extension(
            "tvm_tinyml.device._counter", ["tvm_tinyml/device/_counter.c"], optional=True, py_limited_api=True
        )
    ],
    # It uses the stable interface of Python 3.10 only: one wheel for all versions.
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
