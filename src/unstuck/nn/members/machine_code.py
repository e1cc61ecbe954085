# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""From a program's text to machine code in this process, in some hundredths of a second."""

import functools
import threading
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from unstuck.nn.kernels import native
from unstuck.nn.members.program import Design, write


@dataclass(frozen=True)
class MachineCode:
    """Addresses of the two functions, and what keeps them alive."""

    steps: int
    test: int
    engine: Any


_COMPILING = threading.Lock()


def compiled(design: Design) -> MachineCode:
    """Compile a network's program; the same design is compiled once, whichever threads ask for it."""
    with _COMPILING:
        return _compile(design)


@functools.lru_cache(maxsize=64)
def _compile(design: Design) -> MachineCode:
    machine = native.target()
    engine = llvm.create_mcjit_compiler(native.optimised(machine, write(design)), machine)
    engine.finalize_object()
    return MachineCode(engine.get_function_address("steps"), engine.get_function_address("test"), engine)
