# pyright: basic
# Numba and llvmlite ship no types; everything that touches them is unknown to the type checker.
"""How kernels are compiled: no fast-math, no bounds checks, and a cache in a folder of our own."""

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numba
from numba.core import caching

from unstuck.nn.kernels.vectors import BYTES

COMMON: Any = {"boundscheck": False, "error_model": "numpy", "_nrt": False}
"""Arrays are not counted (`_nrt`): kernels make none, and whoever calls them keeps those that he gave."""
_NOT_FROM_PYTHON: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Only other kernels call a kernel; a way in from Python would have to be compiled for each of them."""


def kernel(function: Any) -> Any:
    """Compile a kernel on first use.

    Nothing is approximated (no fast-math): sums are made in the order in which they are written, so that a
    result has the same bits wherever and beside whatever it is computed. Divisions follow IEEE 754 (x/0 is
    Inf or NaN), which is what a diverging network needs.
    """
    return numba.njit(**COMMON, **_NOT_FROM_PYTHON)(function)


def inlined(function: Any) -> Any:
    """A kernel that is copied into its one caller before compilation: large dispatchers compile only once."""
    return numba.njit(**COMMON, inline="always")(function)


def entry(function: Any) -> Any:
    """Compile a function that Python calls: releases the interpreter lock, kept on disk between runs."""
    compiled: Any = numba.njit(**COMMON, nogil=True)(function)
    if cache_folder() is not None:
        compiled._cache = private_cache(compiled.py_func)
    return compiled


def private_cache(function: Any) -> Any:
    """Where a function's machine code is kept on disk."""
    return _PrivateCache(function)


@functools.cache
def cache_folder() -> Path | None:
    """Folder of the compiled kernels, or None when no place can be written.

    `UNSTUCK_CACHE_DIR` chooses it; default: the user's cache folder.
    """
    chosen = os.environ.get("UNSTUCK_CACHE_DIR")
    base = (
        Path(chosen)
        if chosen
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unstuck"
    )
    folder = base / f"kernels-{_sources_stamp()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


@functools.cache
def _sources_stamp() -> str:
    """Hash of all kernel sources and the vector width: a change in either voids every cached kernel."""
    digest = hashlib.sha256(f"{numba.__version__} {BYTES}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class _Locator(caching._CacheLocator):
    """Tells Numba's cache where a function's machine code lies and when it is out of date."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._name = f"{Path(py_file).stem}-{py_func.__code__.co_firstlineno}"

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return _sources_stamp()

    def get_disambiguator(self) -> str:
        return self._name

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls(py_func, py_file)


class _CompileResult(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012  overrides Numba's own class attribute


class _PrivateCache(caching.FunctionCache):
    _impl_class = _CompileResult

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        """Types and processor: a function's name stands in the file's, and its source in the folder's stamp.

        Numba's own key holds what a closure holds, too, and a kernel is another one in every process.
        """
        return sig, codegen.magic_tuple()
