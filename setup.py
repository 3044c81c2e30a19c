"""The one thing that pyproject.toml cannot say yet: what is compiled. Without a compiler everything works, and files open slower."""

from setuptools import Extension, setup

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
