# pyright: basic
# llvmlite ships no types; everything that touches it is unknown to the type checker.
"""From a program's text to machine code in this process, in some hundredths of a second."""

import functools
import threading
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm

from unstuck.nn.kernels.vectors import BYTES
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
    machine = _machine()
    module = llvm.parse_assembly(write(design))
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    llvm.create_pass_builder(machine, options).getModulePassManager().run(
        module, llvm.create_pass_builder(machine, options)
    )
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return MachineCode(engine.get_function_address("steps"), engine.get_function_address("test"), engine)


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    if BYTES == 64:
        features += ",-prefer-256-bit"
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3, jit=True)
