"""Treatments: what their ids mean, in words, and which of them each finding proposes."""

import re
from typing import Final, Literal

import msgspec

from unstuck.diagnose.finding import Finding, TreatmentRef
from unstuck.errors import UnstuckError
from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING, PIECEWISE, SATURATING

Kind = Literal["init", "lr", "activation", "data", "loss", "insert", "order"]

SCHEMES: Final = (
    "default",
    "zeros",
    "ones",
    "identity",
    "dirac",
    "uniform",
    "normal",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "orthogonal",
    "delta_orthogonal",
)
"""Initialisations that a treatment can name without further numbers."""

_ALIASES: Final = {"glorot": "glorot_uniform", "he": "he_normal", "lecun": "lecun_normal", "unit": "ones"}
_ACTIVATIONS: Final = {name.lower(): name for name in sorted(PIECEWISE | SATURATING)}
_VALUES: Final = {
    "data": {
        "standardise": "shift and scale the inputs to mean 0 and standard deviation 1",
        "-1..1": "shift and scale the inputs to the range from -1 to 1",
    },
    "loss": {"cross_entropy": "train with cross entropy on the scores instead of the present loss"},
    "insert": {"batch_norm": "insert a batch normalisation before every hidden activation"},
    "order": {"reshuffled": "shuffle the samples with another seed, which should change nothing"},
}
_INIT: Final = re.compile(r"([a-z_]+)(?:\*([0-9.]+(?:e[-+]?\d+)?))?(?:@(.+))?")


class Treatment(msgspec.Struct, frozen=True):
    """One change of one thing.

    Example:
        >>> str(Treatment("init", "glorot_uniform", 4.0, "Conv2d"))
        'init=glorot_uniform*4@Conv2d'
    """

    kind: Kind
    value: str = ""
    """Scheme, activation (PyTorch's class name), or what data, loss, insert, order are set to; '' for lr."""
    factor: float = 1.0
    """Gain of an initialisation, factor of the learning rate."""
    target: str | None = None
    """Layer name, or layer type such as "Conv2d"; None is the whole network."""

    def __str__(self) -> str:
        """The id that `parse` reads."""
        if self.kind == "lr":
            return f"lr*{self.factor:g}"
        value = self.value.lower() if self.kind == "activation" else self.value
        gain = f"*{self.factor:g}" if self.factor != 1.0 else ""
        target = f"@{self.target}" if self.target else ""
        return f"{self.kind}={value}{gain}{target}"

    @property
    def summary(self) -> str:
        """What it changes, in one sentence of plain words."""
        if self.kind == "init":
            where = "all weights" if self.target is None else f"the weights of {self.target}"
            scheme = self.value.replace("_", " ").replace("glorot", "Glorot").replace("he ", "He ")
            gain = f", {self.factor:g} times as large" if self.factor != 1.0 else ""
            return f"draw {where} by {scheme}{gain}"
        if self.kind == "lr":
            return f"multiply the learning rate by {self.factor:g}"
        if self.kind == "activation":
            where = "every hidden activation" if self.target is None else f"the activation {self.target}"
            return f"replace {where} by {self.value}"
        return _VALUES[self.kind][self.value]

    @property
    def reference(self) -> TreatmentRef:
        """What a finding carries."""
        return TreatmentRef(str(self), self.summary)


def parse(text: str) -> Treatment:
    """Read a treatment's id.

    Args:
        text: `init=SCHEME[*GAIN][@TARGET]`, `lr*FACTOR`, `activation=NAME[@TARGET]`, `data=standardise`,
            `data=-1..1`, `loss=cross_entropy`, `insert=batch_norm` or `order=reshuffled`.

    Returns:
        The treatment; `str` of it is the id in its normal form.

    Raises:
        UnstuckError: for anything else, with what was expected.

    Example:
        >>> parse("init=glorot*4@fc1")
        Treatment(kind='init', value='glorot_uniform', factor=4.0, target='fc1')
    """
    if text.startswith("lr*"):
        return Treatment("lr", factor=_positive(text, text[3:]))
    kind, equals, value = text.partition("=")
    if equals and kind == "init":
        return _parse_init(text, value)
    if equals and kind == "activation":
        name, _, target = value.partition("@")
        found = _ACTIVATIONS.get(name.replace("_", "").lower())
        if found is None:
            raise UnstuckError(
                f"treatment {text!r}: no activation {name!r}; known are {', '.join(_ACTIVATIONS)}"
            )
        return Treatment("activation", found, target=target or None)
    if equals and (kind == "data" or kind == "loss" or kind == "insert" or kind == "order"):  # noqa: PLR1714  (narrows)
        if value not in _VALUES[kind]:
            raise UnstuckError(f"treatment {text!r}: found {value!r}, expected {' or '.join(_VALUES[kind])}")
        return Treatment(kind, value)
    raise UnstuckError(
        f"treatment {text!r}: expected init=SCHEME[*GAIN][@LAYER], lr*FACTOR, activation=NAME, "
        "data=standardise, "
        "data=-1..1, loss=cross_entropy, insert=batch_norm or order=reshuffled"
    )


def _parse_init(text: str, value: str) -> Treatment:
    match = _INIT.fullmatch(value)
    scheme = _ALIASES.get(match[1], match[1]) if match else ""
    if match is None or scheme not in SCHEMES:
        raise UnstuckError(f"treatment {text!r}: no initialisation {value!r}; known are {', '.join(SCHEMES)}")
    return Treatment("init", scheme, _positive(text, match[2]) if match[2] else 1.0, match[3])


def _positive(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise UnstuckError(f"treatment {text!r}: found the factor {number!r}, expected a positive number")
    return value


def propose(finding: Finding, trace: Recording) -> tuple[TreatmentRef, ...]:
    """What to try against a finding, most promising first.

    A whole new initialisation stands before that of one layer: several layers may share the fault, and then
    no single one of them helps alone.

    Args:
        finding: of any rule.
        trace: the recording that it was found in; its activations decide which initialisation fits.

    Returns:
        Treatments with their summaries; none for what is no fault.
    """
    if finding.severity == "info":
        return ()
    return tuple(treatment.reference for treatment in _proposals(finding, trace))


def _proposals(finding: Finding, trace: Recording) -> list[Treatment]:
    init = _fitting_init(trace)
    saturating = bool(_hidden_kinds(trace) & SATURATING)
    if finding.code in {"INI001", "INI002"}:
        node = trace.structure.node(finding.layer or "")
        return [init, msgspec.structs.replace(init, target=node.type if node else finding.layer)]
    if finding.code in {"INI003", "GRD001"}:
        return [init, Treatment("activation", "ReLU")] if saturating else [init, _normalise()]
    if finding.code == "ACT003":
        late = finding.step > 0
        data = Treatment("data", "standardise")
        return [Treatment("lr", factor=0.1), init] if late else [init, data, Treatment("activation", "ReLU")]
    if finding.code in {"ACT005", "OUT010"}:
        late = finding.code == "ACT005" and finding.step > 0
        return [Treatment("lr", factor=0.1), init] if late else [init, Treatment("data", "standardise")]
    if finding.code == "GRD003":
        return [init] if finding.step == 0 and _reachable(finding, trace) else []
    return {"LRN001": _rates(0.1, 0.3), "LRN002": _rates(10.0, 3.0)}.get(finding.code, [])


def _fitting_init(trace: Recording) -> Treatment:
    """The initialisation that keeps the signal's size through this network's hidden activations.

    A sigmoid has slope 1/4 at most and needs weights four times as large as a tanh (Glorot and Bengio, 2010).
    """
    kinds = _hidden_kinds(trace)
    if "Sigmoid" in kinds:
        return Treatment("init", "glorot_uniform", 4.0)
    if kinds & PIECEWISE:
        return Treatment("init", "he_normal")
    return Treatment("init", "glorot_uniform")


def _hidden_kinds(trace: Recording) -> set[str]:
    layers = [node for node in trace.structure.layers if node.type not in NORMALISING]
    found = (trace.structure.activation(node.name) for node in layers[:-1])
    return {node.type for node in found if node is not None}


def _rates(*factors: float) -> list[Treatment]:
    """What the probes tried, and half of it on a log scale: over a whole run the first may be too much."""
    return [Treatment("lr", factor=factor) for factor in factors]


def _normalise() -> Treatment:
    return Treatment("insert", "batch_norm")


def _reachable(finding: Finding, trace: Recording) -> bool:
    """Whether the gradient is there but 0; None at every step means that the program cuts the path."""
    return bool(trace.series("grad_norm", finding.layer or "").values.size)
