"""The one thing that pyproject.toml cannot say yet: what is compiled. Without a compiler everything works, and files open slower."""

import sys

import setuptools
from setuptools import Extension, setup

_MIN_PYTHON = (3, 11)
_MIN_SETUPTOOLS = 77  # before it the licence of pyproject.toml is an error without a remedy

if sys.version_info < _MIN_PYTHON:
    sys.exit("ctxfs needs Python 3.11 or newer: uv tool install --python 3.12 ctxfs, or install a newer Python")
if int(setuptools.__version__.split(".")[0]) < _MIN_SETUPTOOLS:
    sys.exit(
        "ctxfs is built with setuptools 77 or newer: python -m pip install --upgrade pip setuptools, and try again"
    )

setup(
    ext_modules=[
        Extension(
            "ctxfs.fuse.transports.fastpath",
            ["ctxfs/fuse/transports/fastpath.c"],
            extra_compile_args=["-Wall", "-Wextra"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
