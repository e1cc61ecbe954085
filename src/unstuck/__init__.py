"""unstuck: find out why a neural network does not train, and prove the fix.

Names are loaded when they are first used, so that `import unstuck` is quick and imports no framework.
"""

import importlib
from typing import TYPE_CHECKING, Any

from unstuck import wiring

if TYPE_CHECKING:
    from unstuck import datasets, nn
    from unstuck.diagnose.diagnosis import Diagnosis, diagnose
    from unstuck.errors import UnstuckError
    from unstuck.grow.classifier import CNNClassifier
    from unstuck.trace.recording import Recording

__version__ = "0.1.0"

__all__ = [
    "CNNClassifier",
    "Diagnosis",
    "Recording",
    "UnstuckError",
    "__version__",
    "datasets",
    "diagnose",
    "nn",
]

_HOMES = {
    "CNNClassifier": "unstuck.grow.classifier",
    "Diagnosis": "unstuck.diagnose.diagnosis",
    "Recording": "unstuck.trace.recording",
    "UnstuckError": "unstuck.errors",
    "check_gradients": "unstuck.gradcheck.check",
    "examine": "unstuck.sources.torch.examine",
    "record": "unstuck.sources.record",
    "run_study": "unstuck.study.run",
    "load_ipython_extension": "unstuck.sources.notebook",
}
_MODULES = ("datasets", "nn", "study", "grow", "prove", "cases", "report", "gradcheck")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"unstuck.{name}")
    msg = f"module 'unstuck' has no attribute {name!r}"
    raise AttributeError(msg)


def _diagnose(*args: Any, **kwargs: Any) -> Any:
    from unstuck.diagnose.diagnosis import diagnose

    return diagnose(*args, **kwargs)


def _record_training(*args: Any, **kwargs: Any) -> Any:
    from unstuck.sources.engine import record_training

    return record_training(*args, **kwargs)


def _diagnosis_html(diagnosis: Any) -> Any:
    from unstuck.report.page import diagnosis_fragment

    return diagnosis_fragment(diagnosis)


def _diagnosis_rich(diagnosis: Any) -> Any:
    from unstuck.report.terminal import diagnosis_text

    return diagnosis_text(diagnosis)


def _study_rich(result: Any) -> Any:
    from unstuck.report.study_text import study_text

    return study_text(result)


def _study_html(result: Any) -> Any:
    from unstuck.report.study_page import study_page

    return study_page(result)


wiring.provide("study_rich", _study_rich)
wiring.provide("study_html", _study_html)
wiring.provide("diagnosis_html", _diagnosis_html)
wiring.provide("diagnosis_rich", _diagnosis_rich)
wiring.provide("diagnose", _diagnose)
wiring.provide("record_training", _record_training)
