"""A user's forward pass against the engine's layer: what is the difference called?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from unstuck.errors import UnstuckError
from unstuck.gradcheck.known.candidates import Candidate, candidates
from unstuck.gradcheck.known.convolution import Convolution
from unstuck.gradcheck.known.normalisation import Normalisation
from unstuck.gradcheck.known.operation import Operation
from unstuck.gradcheck.known.search import Evidence
from unstuck.gradcheck.subject import Forward, Subject, Values

LAYERS = (
    "Linear",
    "Conv2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "MaxPool2d",
    "AvgPool2d",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "Softmax",
)

SMALL_EPS = 1e-7


@dataclass(frozen=True)
class Forwarded:
    """What a forward pass was compared with."""

    layer: str
    same: bool
    text: str
    """What the difference is called, or that there is none."""


def check_forward(forward: Forward, params: Any, x: Any, layer: Any) -> Forwarded:
    """Compare a forward pass with what a layer of that name does here and in PyTorch.

    Args:
        forward: forward(params, x) -> (y, cache).
        params: name to array.
        x: the input.
        layer: a layer of `unstuck.nn`, such as nn.Conv2d(3, 8, 3, padding=1), or its name.

    Returns:
        Whether they agree, and what the difference is called if not.

    Raises:
        UnstuckError: a name that is no layer, or a forward pass that fails.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> def forward(params, x):
        ...     return x.std(axis=0, ddof=1) * 0 + (x - x.mean(0)) / x.std(axis=0, ddof=1), None
        >>> check_forward(forward, {}, rng.normal(size=(6, 3)), "BatchNorm1d").text
        'your forward has the unbiased variance (N - 1) without eps, ours the biased one (N) with eps 1e-05'
    """
    name = layer if isinstance(layer, str) else type(layer).__name__
    if name not in LAYERS:
        raise UnstuckError(f"layer: found {name!r}, expected one of {', '.join(LAYERS)}")
    subject = Subject(forward, _no_backward, params, x)
    y = subject.output(subject.values)
    evidence = Evidence(y, [y], [], 1e-6)
    inputs = next(iter(subject.inputs))
    for operation in _fitting(subject.values, inputs, evidence, name):
        return _told(operation, name, layer)
    return Forwarded(
        name, same=False, text=f"your forward is no {name} that is known here, whatever its options"
    )


def _no_backward(_params: Any, _cache: Any, _dy: Any) -> tuple[None, dict[str, Any]]:
    return None, {}


def _fitting(values: Values, x: str, evidence: Evidence, name: str) -> Iterator[Operation]:
    unused = tuple(key for key in values if key != x)
    for first in candidates(values, [], values[x], unused, evidence):
        forms: list[Candidate] = [first, *first.others]
        for candidate in forms:
            if not _of(candidate.operation, name):
                continue
            try:
                h = candidate.operation.forward(values, values[x])
            except (ValueError, IndexError):
                continue
            if evidence.same(h, evidence.y):
                yield candidate.operation


def _of(operation: Operation, name: str) -> bool:
    word = {
        "Linear": "dense layer", "Conv2d": "convolution",
        "MaxPool2d": "max pooling", "AvgPool2d": "average pooling",
        "ReLU": "ReLU", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax",
    }.get(name, "normalisation")  # fmt: skip
    return operation.word == word


def _told(operation: Operation, name: str, layer: Any) -> Forwarded:  # noqa: C901  (a list of differences)
    differences: list[str] = []
    if isinstance(operation, Convolution):
        geometry = operation.geometry
        if geometry.flipped:
            differences.append("your forward is a convolution (kernel flipped), ours a correlation")
        if not isinstance(layer, str):
            for what, mine in (("stride", geometry.stride), ("padding", geometry.padding)):
                ours = _pair(getattr(layer, what, None))
                if ours is not None and ours != mine:
                    differences.append(f"your forward has {what} {mine[1]}, ours {ours[1]}")
        if operation.layout.letters != "NCHW":
            differences.append(f"your axes are {operation.layout.letters}, ours NCHW")
        if operation.order != (0, 1, 2, 3):
            differences.append(
                f"your kernel's axes for (out, in, height, width) are {operation.order}, ours 0, 1, 2, 3"
            )
    if isinstance(operation, Normalisation):
        spread = operation.spread
        eps = float(getattr(layer, "eps", 1e-5)) if not isinstance(layer, str) else 1e-5
        if spread.ddof or not np.isclose(spread.eps, eps) or spread.outside:
            mine = "unbiased variance (N - 1)" if spread.ddof else "biased variance (N)"
            # an eps that small and none at all give the same numbers
            how = f"with eps {spread.eps:g}" if spread.eps > SMALL_EPS else "without eps"
            place = ", added outside the root," if spread.outside and spread.eps > SMALL_EPS else ""
            differences.append(
                f"your forward has the {mine} {how}{place}, ours the biased one (N) with eps {eps:g}"
            )
    if not differences:
        return Forwarded(name, same=True, text=f"your forward is a {name} as ours is")
    return Forwarded(name, same=False, text="; ".join(differences))


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if isinstance(value, int):
        return (value, value)
    found = tuple(int(part) for part in value)
    return (found[0], found[-1])
