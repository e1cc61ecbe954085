# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""Machine code by LLVM alone, without Numba: from a module's text, kept on disk or not."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

from unstuck.nn.kernels.vectors import BYTES

_DIGEST = 32
"""Bytes at the start of a file: the SHA-256 of the code behind them."""


def target() -> Any:
    """The processor that this runs on, with its widest vectors."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    if BYTES == 64:
        features += ",-prefer-256-bit"
    triple = llvm.Target.from_default_triple()
    return triple.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)


def optimised(machine: Any, text: str) -> Any:
    """A module from its text, ready for code to be made of it."""
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        module, llvm.create_pass_builder(machine, options)
    )
    return module


def loaded(path: Path | None, write: Callable[[], str]) -> Any:
    """The engine that holds a module's code: from a file, if it is there, else compiled and put there."""
    engine = None if path is None else _read(path)
    if engine is not None:
        return engine
    machine = target()
    code = machine.emit_object(optimised(machine, write()))
    if path is not None:
        _keep(path, code)
    return _engine(code)


def _engine(code: bytes) -> Any:
    """Code in memory, ready to run."""
    machine = target()  # first: it makes LLVM know this processor
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _read(path: Path) -> Any:
    """The engine of a file; None if there is none or it is damaged, which LLVM would not survive."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    digest, code = whole[:_DIGEST], whole[_DIGEST:]
    return _engine(code) if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    """Write a file under another name first: whoever reads it meanwhile finds all of it or nothing."""
    try:
        handle, other = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        Path(other).replace(path)
    except OSError:  # a full disk costs time, not the training
        return
