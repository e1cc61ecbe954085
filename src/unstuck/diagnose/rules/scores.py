"""Rules on the last operation before the loss: probabilities where scores belong, and the reverse."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.byhand import PROBABILITIES, doubled, logarithms
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import names
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.paths import classes, extreme, into_loss, loss_name
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import PIECEWISE, SATURATING, Node

_NO_LOSS: Final = "it is not known which loss was used"
_NO_PATH: Final = "it was not seen which operation feeds the loss, nor which numbers"

_APPLIES: Final = {
    "CrossEntropyLoss": "a softmax",
    "BCEWithLogitsLoss": "a sigmoid",
    "MultiLabelSoftMarginLoss": "a sigmoid",
}
"""Losses of scores, and what they apply to them."""
_LOGARITHMS: Final = frozenset({"NLLLoss", "KLDivLoss"})
"""Losses of logarithms of probabilities."""
_WANTS: Final = {
    "NLLLoss": "logarithms of probabilities",
    "KLDivLoss": "logarithms of probabilities",
    "BCELoss": "probabilities",
    "categorical_crossentropy": "probabilities",
    "sparse_categorical_crossentropy": "probabilities",
}
"""What losses take for granted; Keras's cross entropies where they are not told of scores."""


@rule(
    "OUT002",
    "double-softmax",
    severity="error",
    explains={"ARC001": "any", "LRN002": "any", "OUT010": "any"},
    preview=False,
)
def double_softmax(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Probabilities go into a loss that makes probabilities of them again, so it cannot become small."""
    loss = loss_name(trace)
    if loss not in _APPLIES and (found := _twice(trace)):
        return found
    if not loss:
        raise NotChecked(_NO_LOSS)
    if loss not in _APPLIES:
        return []
    node, sums = into_loss(trace), _sums_to_one(trace, bounds)
    if node is None and sums is None:
        raise NotChecked(_NO_PATH)
    by_structure = node is not None and node.type in PROBABILITIES
    by_values = sums is True and loss == "CrossEntropyLoss"
    low, high = extreme(trace, "output.min")[0], extreme(trace, "output.max")[1]
    if not by_structure and not by_values:
        return []
    if low < -bounds.output.rounding or high > 1 + bounds.output.rounding:
        return []  # the numbers that arrive are no probabilities, whatever the graph looks like
    floor = _floor(trace, loss)
    what = f"{names([node])} ({node.type})" if by_structure and node is not None else "the network"
    reach = f" It cannot fall below {floor:.3g}, however sure the network is." if floor > 0 else ""
    evidence = [
        Evidence(quantity, trace.last(quantity), "=" if bound == 1.0 else ">=", bound)
        for quantity, bound in (("output.row_sum", 1.0 if sums else None), ("loss", floor or None))
        if trace.has(quantity) and bound is not None
    ]
    return [
        Finding(
            code="OUT002",
            name="double-softmax",
            severity="error",
            layer=node.name if node is not None else None,
            step=0,
            confidence=0.99 if by_structure else 0.9,
            summary=(
                f"{what} gives probabilities, and {loss} applies {_APPLIES[loss]} to them again.{reach} "
                "Give it the scores themselves."
            ),
            evidence=tuple(evidence),
            rival=(
                "LRN002 learning-rate-too-low also looks like a loss that hardly falls; but this floor is "
                "the same at any rate, and the numbers that enter the loss lie between 0 and 1."
            ),
            location=node.location if node is not None else None,
        )
    ]


def _twice(trace: Recording) -> list[Finding]:
    """Two in a row, or in a likelihood that was written out: its logarithm makes probabilities first."""
    twice = doubled(trace)
    if twice is None:
        return []
    how = f"{twice.node.type} applies {twice.applies}" if twice.applies else f"a {twice.node.type} is applied"
    summary = (
        f"{names([twice.source])} ({twice.source.type}) gives probabilities, and {how} to them again: no "
        "answer can be sure of anything. Give it the scores themselves."
    )
    rival = (
        "LRN002 learning-rate-too-low also looks like a loss that hardly falls; but this floor is the same "
        "at any rate."
    )
    low = Evidence("output.min", trace.last("output.min"))
    name, where = twice.source.name, twice.source.location
    return [Finding("OUT002", "double-softmax", "error", name, 0, 0.95, summary, (low,), rival, where)]


def _sums_to_one(trace: Recording, bounds: Bounds) -> bool | None:
    """Whether every row that enters the loss was a probability distribution; None when not measured."""
    if not all(trace.has(name) for name in ("output.min", "output.max", "output.row_sum")):
        return None
    low, high = extreme(trace, "output.min")[0], extreme(trace, "output.max")[1]
    least, most = extreme(trace, "output.row_sum")
    near = bounds.output.rounding
    return (
        classes(trace) != 1 and low >= -near and high <= 1 + near and least >= 1 - near and most <= 1 + near
    )


def _floor(trace: Recording, loss: str) -> float:
    """The smallest loss that outputs between 0 and 1 can give; 0 when unknown."""
    if loss == "CrossEntropyLoss":
        count = classes(trace)
        return math.log(math.e + count - 1) - 1 if count > 1 else 0.0
    positive = trace.first("target.mean")
    if positive is None or not 0 <= positive <= 1:
        return 0.0
    return positive * math.log1p(math.exp(-1)) + (1 - positive) * math.log(2)


@rule(
    "OUT003",
    "raw-scores",
    severity="error",
    explains={
        "ARC001": "any",
        "LRN007": "any",
        "ACT002": "any",
        "LRN001": "any",
        "GRD002": "any",
        "GRD004": "any",
        "GRD003": "lasting",
        "ACT003": "any",
        "ACT005": "any",
        "OUT010": "any",
    },
)
def raw_scores(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Numbers that are no (log-)probabilities go into a loss that takes them for such."""
    loss = loss_name(trace)
    if not loss and (found := _logarithm_of_scores(trace, bounds)):
        return found
    if not loss:
        raise NotChecked(_NO_LOSS)
    if loss not in _WANTS:
        return []
    node = into_loss(trace)
    measured = trace.has("output.min") and trace.has("output.max")
    if node is None and not measured:
        raise NotChecked(_NO_PATH)
    low, high = extreme(trace, "output.min")[0], extreme(trace, "output.max")[1]
    if loss in _LOGARITHMS:
        raw = node is not None and _no_logarithm(node)
        outside = high > bounds.output.logarithm
        evidence = Evidence("output.max", high, ">", bounds.output.logarithm)
        certain = node is not None and node.type in PROBABILITIES
        proper = node is not None and node.type in {"LogSoftmax", "LogSigmoid"}
    else:
        raw = node is not None and "weight" in node.parameters
        below = low < -bounds.output.rounding
        outside = below or high > 1 + bounds.output.rounding
        evidence = Evidence("output.min", low, "<", 0.0) if below else Evidence("output.max", high, ">", 1.0)
        certain, proper = False, False
    hidden = measured and math.isnan(low) and math.isnan(high)  # by NaN of another origin
    if proper or not (outside or certain or (raw and (hidden or not measured))):
        return []
    source = f"{names([node])} ({node.type})" if node is not None else "the network"
    seen = f"; {evidence.quantity.replace('output.', '')} {evidence.value:.3g} was seen" if outside else ""
    return [
        Finding(
            code="OUT003",
            name="raw-scores",
            severity="error",
            layer=node.name if node is not None else None,
            step=0,
            confidence=0.98 if raw and (outside or certain) else 0.85,
            summary=(
                f"{loss} takes what it is given for {_WANTS[loss]}, but {source} gives "
                f"{'probabilities' if certain else 'any numbers'}{seen}. "
                f"{_what_happens(loss, certain=certain)}"
            ),
            evidence=(evidence,) if outside else (),
            rival=(
                "LRN001 learning-rate-too-high: a loss that runs away for that reason rises; this one is "
                "wrong from the first step, before any update."
            ),
            location=node.location if node is not None else None,
        )
    ]


def _logarithm_of_scores(trace: Recording, bounds: Bounds) -> list[Finding]:
    """In a likelihood that was written out, or of rates: the logarithm is taken of a layer's own answers."""
    raw = [one for one in logarithms(trace) if not one.applies and "weight" in one.source.parameters]
    losses = trace.series("loss").values
    if not raw or outcome(trace, bounds.outcome).word == "learned" or not losses.size:
        return []
    lost = not np.isfinite(losses).all()
    if lost and np.isfinite(losses[0]):
        return []  # what is any number is below 0 for some sample at once
    source = raw[0].source
    summary = (
        f"{names([raw[0].node])} takes the logarithm of what {names([source])} ({source.type}) gives, which "
        f"may be any number: of 0 and below there is none{', and the loss is NaN' if lost else ''}. Make "
        "probabilities or rates of the answers first (sigmoid, softmax, exp or softplus), or use a loss that "
        "takes scores or logarithms."
    )
    rival = "GRD004 non-finite: then the numbers are positive, and too small or too large to be held."
    evidence = Evidence("loss", float(losses[-1]))
    confidence = 0.9 if lost else 0.75
    where = source.location
    return [
        Finding(
            "OUT003", "raw-scores", "error", source.name, 0, confidence, summary, (evidence,), rival, where
        )
    ]


def _no_logarithm(node: Node) -> bool:
    return "weight" in node.parameters or node.type in PROBABILITIES | PIECEWISE | SATURATING


def _what_happens(loss: str, *, certain: bool) -> str:
    if _WANTS[loss] == "probabilities":
        return "Logarithms of numbers outside 0..1 are undefined or cut off, and so is the gradient."
    if certain:
        return "Without the logarithm there is hardly a gradient where the network is wrong."
    return "The loss falls below 0 without end: the scores just grow."


@rule(
    "OUT005",
    "softmax-of-one",
    severity="error",
    explains={
        "ARC001": "any",
        "GRD003": "any",
        "GRD001": "any",
        "LRN002": "any",
        "ACT005": "any",
        "INI001": "any",
        "INI002": "any",
        "INI003": "any",
        "OUT002": "any",
        "OUT010": "any",
    },
    preview=False,
)
def softmax_of_one(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A softmax over an axis of length one is 1 whatever the network computes."""
    del bounds
    if not trace.structure.nodes:
        raise NotChecked("the operations of the network were not seen")
    last = into_loss(trace)
    for node in trace.structure.nodes:
        if node.type in {"Softmax", "LogSoftmax"} and _over_one(trace, node, answers=node == last):
            constant = "0" if node.type == "LogSoftmax" else "1"
            return [
                _of_one(node.name, f"{names([node])} ({node.type})", constant, node, answers=node == last)
            ]
    facts = trace.structure.loss_facts
    if loss_name(trace) != "CrossEntropyLoss" or facts is None or len(facts.input_shape) < 2:
        return []
    # scores of the samples of a batch among each other, in a batch of one
    single_pair = facts.input_shape[0] == 1 and (last is None or last.units != 1)
    if facts.input_shape[1] != 1 or single_pair:
        return []
    name = None if last is None else last.name
    return [_of_one(name, "the softmax inside CrossEntropyLoss", "1", last, answers=True)]


def _over_one(trace: Recording, node: Node, *, answers: bool) -> bool:
    """Whether it has a single entry by construction, not because a sequence happened to be short."""
    dim = node.options.get("dim")
    rank = len(node.shape) + 1  # shape has no batch axis
    if isinstance(dim, int) and not isinstance(dim, bool):
        axis = (dim if dim >= 0 else dim + rank) - 1
        if not 0 <= axis < len(node.shape) or node.shape[axis] != 1:
            return False
    elif not node.shape or any(extent != 1 for extent in node.shape):
        return False
    else:
        axis = 0
    before = trace.structure.node(node.inputs[0]) if len(node.inputs) == 1 else None
    if before is not None and before.type == "unsqueeze":
        given = trace.structure.node(before.inputs[0]) if before.inputs else None
        return given is not None and given.shape == node.shape[:axis] + node.shape[axis + 1 :]
    if before is None or "weight" not in before.parameters:
        return answers and len(node.shape) == 1
    units_axis = 0 if before.type.startswith("Conv") else len(node.shape) - 1
    return before.units == 1 and axis == units_axis


def _of_one(layer: str | None, what: str, constant: str, node: Node | None, *, answers: bool) -> Finding:
    effect = (
        "The answer never depends on the input, and nothing before it gets a gradient."
        if answers
        else "It weighs nothing, and nothing before it gets a gradient."
    )
    return Finding(
        code="OUT005",
        name="softmax-of-one",
        severity="error",
        layer=layer,
        step=0,
        confidence=0.99,
        summary=(
            f"{what} runs over an axis with a single entry: it is always {constant}. {effect} A yes/no "
            "answer takes one output with a sigmoid, or two with a softmax."
        ),
        evidence=(),
        rival=(
            "GRD003 no-gradient by a cut path: here the path is whole, and the slope of a softmax over "
            "one entry is exactly 0."
        ),
        location=node.location if node is not None else None,
    )
