"""Which treatments each finding proposes."""

import itertools
from collections.abc import Callable
from typing import Final

import msgspec

from unstuck.diagnose.finding import Finding, TreatmentRef
from unstuck.diagnose.measured import output_layer
from unstuck.diagnose.paths import loss_name
from unstuck.diagnose.remedies import Treatment
from unstuck.trace.recording import Recording
from unstuck.trace.structure import NORMALISING, PIECEWISE, SATURATING, Node, Structure

USUAL_MEMORY = 500.0
"""Samples that a stream is proposed to keep where it keeps few or none."""


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


def proposed_by() -> dict[str, tuple[str, ...]]:
    """Which findings propose each treatment, read off what they propose for small networks of many kinds.

    Returns:
        A treatment's id without a place -> codes of rules, in their order.

    Example:
        >>> proposed_by()["zero_grad"]
        ('GRD005',)
    """
    traces = [
        Recording(_example(activation, end, loss))
        for activation in ("ReLU", "Tanh", "Sigmoid")
        for end in ("", "ReLU", "Softmax", "Sigmoid")
        for loss in ("NLLLoss", "BCELoss", "MSELoss")
    ]
    found: dict[str, list[str]] = {}
    for code in sorted({*_DEPENDS, *_FIXED}):
        for trace, layer, step in itertools.product(traces, ("1", "3", "4"), (0, 1)):
            about = Finding(code, "", "error", layer, step, 1.0, "")
            for treatment in _proposals(about, trace):
                codes = found.setdefault(str(msgspec.structs.replace(treatment, target=None)), [])
                if code not in codes:
                    codes.append(code)
    return {treatment: tuple(codes) for treatment, codes in found.items()}


def _example(activation: str, end: str, loss: str) -> Structure:
    """Two layers with an activation between, something or nothing at the end, and a loss."""
    weights = {"weight": (2, 2)}
    nodes = [
        Node("1", "Linear", ("input",), parameters=weights),
        Node("2", activation, ("1",)),
        Node("3", "Linear", ("2",), parameters=weights),
        *([Node("4", end, ("3",))] if end else []),
    ]
    return Structure(tuple(nodes), loss)


def _proposals(finding: Finding, trace: Recording) -> list[Treatment]:
    depends = _DEPENDS.get(finding.code)
    return _FIXED.get(finding.code, []) if depends is None else depends(finding, trace)


def _start(finding: Finding, trace: Recording) -> list[Treatment]:
    init, node = _fitting_init(trace), trace.structure.node(finding.layer or "")
    return [init, msgspec.structs.replace(init, target=node.type if node else finding.layer)]


def _fading(_finding: Finding, trace: Recording) -> list[Treatment]:
    saturating = bool(_hidden_kinds(trace) & SATURATING)
    other = Treatment("activation", "ReLU") if saturating else Treatment("insert", "batch_norm")
    return [_fitting_init(trace), other]


def _growing(_finding: Finding, trace: Recording) -> list[Treatment]:
    return [_fitting_init(trace), Treatment("insert", "batch_norm")]


def _saturated(finding: Finding, trace: Recording) -> list[Treatment]:
    init, data = _fitting_init(trace), Treatment("data", "standardise")
    if finding.step > 0:
        return [Treatment("lr", factor=0.1), init]
    return [init, data, Treatment("activation", "ReLU")]


def _constant(finding: Finding, trace: Recording) -> list[Treatment]:
    init = _fitting_init(trace)
    late = finding.code == "ACT005" and finding.step > 0
    return [Treatment("lr", factor=0.1), init] if late else [init, Treatment("data", "standardise")]


def _no_gradient(finding: Finding, trace: Recording) -> list[Treatment]:
    """None at every step, instead of 0, means that the program cuts the path: no start helps then."""
    reachable = bool(trace.series("grad_norm", finding.layer or "").values.size)
    return [_fitting_init(trace)] if finding.step == 0 and reachable else []


def _exploding(finding: Finding, trace: Recording) -> list[Treatment]:
    clip, start = Treatment("clip"), _fitting_init(trace)
    return [start, clip, Treatment("lr", factor=0.1)] if finding.step == 0 else [clip, start]


def _born_dead(finding: Finding, trace: Recording) -> list[Treatment]:
    if _is_output(finding, trace):
        return _other_output(finding, trace)
    start = [_fitting_init(trace), Treatment("data", "standardise")]
    return [Treatment("activation", "LeakyReLU"), *start, Treatment("insert", "batch_norm")]


def _killed(finding: Finding, trace: Recording) -> list[Treatment]:
    slower = [Treatment("lr", factor=0.1), Treatment("clip")]
    other = _other_output(finding, trace) if _is_output(finding, trace) else []
    return [*slower, *(other or [Treatment("activation", "LeakyReLU")])]


def _is_output(finding: Finding, trace: Recording) -> bool:
    output = output_layer(trace)
    return output is not None and finding.layer == output.name


def _other_output(_finding: Finding, trace: Recording) -> list[Treatment]:
    """For an output that is a ReLU: a sigmoid where the targets lie in its range, else none at all."""
    low, high = trace.first("target.min"), trace.first("target.max")
    within = trace.meta.task == "classification" or (
        low is not None and high is not None and low >= 0 and high <= 1
    )
    return [Treatment("output", "sigmoid")] if within else [Treatment("output", "linear")]


def _not_finite(finding: Finding, _trace: Recording) -> list[Treatment]:
    return [] if finding.step == 0 else [Treatment("lr", factor=0.1), Treatment("clip")]


def _labels(finding: Finding, trace: Recording) -> list[Treatment]:
    binary = loss_name(trace) in {"BCELoss", "BCEWithLogitsLoss"}
    return [Treatment("target", "zero_one" if binary else "from_zero")] if finding.severity == "error" else []


def _double(finding: Finding, trace: Recording) -> list[Treatment]:
    node = trace.structure.node(finding.layer or "")
    sigmoid = node is not None and node.type == "Sigmoid"
    return [Treatment("output", "remove_sigmoid" if sigmoid else "remove_softmax")]


def _raw(finding: Finding, trace: Recording) -> list[Treatment]:
    node, loss = trace.structure.node(finding.layer or ""), loss_name(trace)
    if loss == "BCELoss":
        return [Treatment("loss", "bce_with_logits"), Treatment("output", "sigmoid")]
    scores = node is not None and "weight" in node.parameters
    also = [Treatment("loss", "cross_entropy")] if scores and loss == "NLLLoss" else []
    return [Treatment("output", "log_softmax"), *also]


def _dead_grown(finding: Finding, _trace: Recording) -> list[Treatment]:
    return [Treatment("grow", "split", target=finding.layer)]


def _outvoted(finding: Finding, trace: Recording) -> list[Treatment]:
    """Earlier classes need samples or a softmax of their own; present ones more passes, or longer weights."""
    if any(one.quantity == "earlier_lost" for one in finding.evidence):
        return [*_forgetting(finding, trace), *_masked(trace)]
    norm = trace.last("new_norm")
    short = norm is not None and norm < 1
    return [
        Treatment("epochs", factor=4.0),
        *([Treatment("bias_correction", "weights")] if short else []),
    ]


def _masked(trace: Recording) -> list[Treatment]:
    """Where it can be done: without a memory, and without layers that answer otherwise in training."""
    noisy = any(node.type in NORMALISING or "Dropout" in node.type for node in trace.structure.layers)
    return [] if noisy or trace.last("kept_samples") else [Treatment("masked")]


def _forgetting(_finding: Finding, trace: Recording) -> list[Treatment]:
    kept = trace.last("kept_samples") or 0.0
    return [Treatment("memory", factor=max(USUAL_MEMORY, 4 * kept))]


_DEPENDS: Final[dict[str, Callable[[Finding, Recording], list[Treatment]]]] = {
    "INI001": _start,
    "INI002": _start,
    "INI003": _fading,
    "INI004": _growing,
    "GRD001": _fading,
    "GRD002": _exploding,
    "GRD003": _no_gradient,
    "GRD004": _not_finite,
    "ACT001": _born_dead,
    "ACT002": _killed,
    "ACT003": _saturated,
    "ACT005": _constant,
    "OUT002": _double,
    "OUT003": _raw,
    "OUT007": _labels,
    "OUT010": _constant,
    "GRW001": _dead_grown,
    "GRW002": _outvoted,
    "GRW003": _forgetting,
}
_FIXED: Final = {
    # what the probes tried, and half of it on a log scale: over a whole run the first may be too much
    "INI005": [Treatment("draws", "independent")],
    "GRD007": [Treatment("clip", "off"), Treatment("clip")],
    "ACT004": [Treatment("insert", "relu")],
    "NRM001": [Treatment("dropout", "0.2")],
    "NRM002": [Treatment("norm", "group")],
    "NRM003": [Treatment("mode", "train")],
    "NRM004": [Treatment("lr", factor=0.1)],
    "LRN004": [Treatment("schedule", "constant")],
    "LRN007": [Treatment("batch", factor=4.0), Treatment("lr", factor=0.1)],
    "LRN010": [Treatment("optimizer", "no_decay")],
    "LRN011": [Treatment("optimizer", "default")],
    "OUT004": [Treatment("loss", "cross_entropy")],
    "OUT008": [Treatment("target", "standardise")],
    "OUT009": [Treatment("loss", "negated")],
    "OUT012": [Treatment("loss", "mean"), Treatment("lr", factor=0.1)],
    "DAT005": [Treatment("weights", "balanced")],
    "DAT007": [Treatment("order", "shuffle")],
    "DAT006": [Treatment("order", "shuffle")],
    "OUT001": [Treatment("output", "linear")],
    "LRN001": [Treatment("lr", factor=0.1), Treatment("lr", factor=0.3)],
    "LRN003": [Treatment("schedule", "warmup"), Treatment("lr", factor=0.1)],
    "LRN002": [Treatment("lr", factor=10.0), Treatment("lr", factor=3.0)],
    "LRN005": [Treatment("optimizer", "add_parameters")],
    "LRN006": [Treatment("optimizer", "unfreeze")],
    "OUT005": [Treatment("output", "sigmoid"), Treatment("loss", "bce_with_logits")],
    "OUT006": [Treatment("target", "same_shape")],
    "GRD005": [Treatment("zero_grad")],
    "ARC001": [Treatment("width", factor=4.0)],
    "ARC003": [Treatment("layer", "make_once")],
    "DAT001": [Treatment("data", "standardise"), Treatment("insert", "batch_norm")],
    "GRW004": [Treatment("optimizer", "keep_state")],
    "DAT003": [Treatment("data", "drop_nonfinite")],
}


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
