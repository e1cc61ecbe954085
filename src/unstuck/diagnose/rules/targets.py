"""Rules on what the loss compares: shapes that spread into a table, labels that the loss cannot mean."""

import math

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.byhand import outside_of_yes_and_no
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.paths import classes, extreme, into_loss, loss_name
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording

_BINARY = frozenset({"BCELoss", "BCEWithLogitsLoss"})


@rule(
    "OUT006",
    "broadcast-target",
    severity="error",
    explains={
        "ARC001": "any",
        "DAT004": "any",
        "LRN007": "any",
        "LRN002": "any",
        "ACT005": "any",
        "OUT010": "any",
    },
    preview=False,
)
def broadcast_target(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Predictions (N, 1) against targets (N,) make a table: each prediction is compared with all targets."""
    samples, facts = trace.last("table.samples"), trace.structure.loss_facts
    known = facts is not None and bool(facts.input_shape) and bool(facts.target_shape)
    if not known and samples is None:
        raise NotChecked("the shapes that the loss was given were not seen")
    found = _between_shapes(trace) if known else []
    if found or samples is None or not falls_short(outcome(trace, bounds.outcome), bounds.outcome):
        return found
    return [_by_hand(samples)]


def _between_shapes(trace: Recording) -> list[Finding]:
    """Of predictions and targets, where both are known."""
    facts = trace.structure.loss_facts
    if facts is None:
        return []
    given, wanted = facts.input_shape, facts.target_shape
    table = _broadcast(given, wanted)
    # Tables of equal rank, (N, Q, 1) against (N, 1, M), are written on purpose.
    if table is None or len(given) == len(wanted):
        return []
    size = math.prod(table)
    if size <= max(math.prod(given), math.prod(wanted)):
        return []
    if trace.has("target.std") and extreme(trace, "target.std")[1] == 0:
        return []  # all targets are one number: the table's mean is the right loss
    node = into_loss(trace)
    return [
        Finding(
            code="OUT006",
            name="broadcast-target",
            severity="error",
            layer=node.name if node is not None else None,
            step=0,
            confidence=0.99,
            summary=(
                f"Predictions of shape {_shape(given)} and targets of shape {_shape(wanted)} are spread "
                f"into a table of shape {_shape(table)}: every prediction is compared with every target, "
                "and the best answer is the targets' mean for all inputs. Give both the same shape."
            ),
            evidence=(),
            rival=(
                "DAT008, data without signal, also ends at a constant answer; but the shapes alone show "
                "that nothing else can be learned here."
            ),
            location=node.location if node is not None else None,
        )
    ]


def _by_hand(samples: float) -> Finding:
    """In a loss that the program writes out."""
    count = f"{samples:.0f}"
    return Finding(
        code="OUT006",
        name="broadcast-target",
        severity="error",
        layer=None,
        step=0,
        confidence=0.9,
        summary=(
            f"After the model's answer, shapes ({count}, 1) and ({count},) meet and are spread into a table "
            f"of shape ({count}, {count}): every sample is set against all others. Give both the same shape."
        ),
        evidence=(Evidence("table.samples", samples),),
        rival=(
            "DAT008, data without signal, also ends at a constant answer; but the shapes alone show that "
            "each sample was not compared with its own target."
        ),
    )


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape to which NumPy and PyTorch spread two arrays; None when they do not fit."""
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    pairs = list(zip(left, right, strict=True))
    if any(x != y and 1 not in (x, y) for x, y in pairs):
        return None
    return tuple(y if x == 1 else x for x, y in pairs)


def _shape(shape: tuple[int, ...]) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


@rule(
    "OUT007",
    "label-coding",
    severity="error",
    explains={
        "ARC001": "any",
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
def label_coding(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The targets are not coded as the loss reads them."""
    loss, facts = loss_name(trace), trace.structure.loss_facts
    if not loss and outside_of_yes_and_no(trace):
        return [_written_out(trace)]
    if not loss:
        raise NotChecked("it is not known which loss was used")
    if not trace.has("target.min") or not trace.has("target.max"):
        raise NotChecked("the targets were not seen")
    low, high = extreme(trace, "target.min")[0], extreme(trace, "target.max")[1]
    if math.isnan(low) or math.isnan(high):
        return []
    if loss in _BINARY:
        return _yes_no(trace, loss, low, high, bounds) or _always_one(trace, low, high, bounds)
    if loss not in {"CrossEntropyLoss", "NLLLoss"}:
        return []
    whole = facts is None or "int" in facts.target_dtype or not facts.target_dtype
    if not whole and facts is not None and len(facts.target_shape) == len(facts.input_shape):
        return _class_probabilities(trace, loss, low, high, bounds)
    return _class_numbers(trace, loss, low, high, bounds)


def _written_out(trace: Recording) -> Finding:
    """The same of a likelihood that the program writes out itself."""
    final = trace.last("loss")
    return _coding(
        trace,
        "error",
        0.85,
        "The loss is the likelihood of yes and no, written out (y log p + (1 - y) log(1 - p)): for labels "
        "between 0 and 1 it cannot be negative, nor gain without an end from one answer for all, and it "
        f"ended at {final:.3g}. So labels lie outside of 0..1: -1 and 1, or 1 and 2? Code them as 0 and 1.",
        Evidence("loss", final, "<", 0.0),
    )


def _yes_no(trace: Recording, loss: str, low: float, high: float, bounds: Bounds) -> list[Finding]:
    near = bounds.output.rounding
    facts = trace.structure.loss_facts
    masked = facts is not None and facts.reduction == "none"  # a number such as -1 may stand for "not known"
    if masked or (low >= -near and high <= 1 + near):
        return []
    evidence = (
        Evidence("target.min", low, "<", 0.0) if low < -near else Evidence("target.max", high, ">", 1.0)
    )
    return [
        _coding(
            trace,
            "error",
            0.97,
            f"{loss} needs targets between 0 (no) and 1 (yes), found {low:g} to {high:g}. Outside of that "
            "the "
            "loss has no lowest point: it falls below 0 without end.",
            evidence,
        )
    ]


def _always_one(trace: Recording, low: float, high: float, bounds: Bounds) -> list[Finding]:
    """All answers are to be yes, or all no: nothing has to be told apart."""
    facts, best = trace.structure.loss_facts, trace.series("baseline_loss").values
    if low != high or low not in {0, 1} or facts is None or not facts.target_shape:
        return []
    batches = trace.series("target.min").steps.size
    seen = facts.target_shape[0] * batches
    # two networks against each other take turns with yes and no; a constant answer's loss is no use there
    alone = best.size == batches and not best.any()
    if not alone or seen < bounds.output.labels_seen or facts.target_shape[0] < 2:
        return []
    words = (
        f"All {seen} targets that were seen in {batches} batches are {low:g}: the network can only learn to "
        f"say {'yes' if low else 'no'} to everything, and the loss falls all the same. Samples of the other "
        "kind are missing, or their labels were lost."
    )
    return [_coding(trace, "warning", 0.8, words, Evidence("target.max", high, "=", low))]


def _class_probabilities(
    trace: Recording, loss: str, low: float, high: float, bounds: Bounds
) -> list[Finding]:
    near = bounds.output.rounding
    if low < -near:
        words = f"{loss} was given a number for every class, but {low:g} is no probability."
        return [_coding(trace, "error", 0.95, words, Evidence("target.min", low, "<", 0.0))]
    mean, count = extreme(trace, "target.mean")[0], classes(trace)
    # Zero rows are samples that do not count; sums above 1 are several classes at once.
    if math.isnan(mean) or mean * count <= bounds.output.soft_label or high <= 0:
        return []
    words = (
        f"{loss} was given class probabilities that sum to {mean * count:.3g} a sample instead of 1. If a "
        "sample can have several classes, BCEWithLogitsLoss is the loss for it."
    )
    evidence = Evidence("target.mean", mean, ">", bounds.output.soft_label / count)
    return [_coding(trace, "warning", 0.7, words, evidence)]


def _class_numbers(trace: Recording, loss: str, low: float, high: float, bounds: Bounds) -> list[Finding]:
    count, refused = classes(trace), _refused(trace)
    if refused is not None:
        step, value = refused
        expected = (
            f"class numbers from 0 to {count - 1} for {count} outputs" if count > 1 else "class numbers"
        )
        words = f"{loss} needs {expected}, found {value:g} at step {step}."
        if value == count and low >= 1:
            words += " The classes are numbered from 1."
        bound = Evidence("target.min", value, "<", 0.0)
        if value > 0:
            bound = Evidence("target.max", value, ">=", float(count))
        return [_coding(trace, "error", 0.97, words, bound)]
    node, facts = into_loss(trace), trace.structure.loss_facts
    batch = facts.target_shape[0] if facts is not None and facts.target_shape else 0
    seen = batch * trace.series("target.min").steps.size
    # contrastive losses number the right pair 0 for all samples; their scores come from no layer
    if node is None or "weight" not in node.parameters or count < 2:
        return []
    if low != high or seen < bounds.output.labels_seen or batch < 2:
        return []
    words = (
        f"All labels that were seen ({seen} in {trace.series('target.min').steps.size} batches) are class "
        f"{low:g}, of {count}. The network can only learn to say that. If the data are sorted by class, "
        "shuffle them."
    )
    return [_coding(trace, "warning", 0.8, words, Evidence("target.max", high, "=", low))]


def _refused(trace: Recording) -> tuple[int, float] | None:
    """Step and value of a class number that no output has and that stopped the loss.

    A loss that gave a number all the same was told to ignore that class.
    """
    count = classes(trace)
    for quantity in ("target.max", "target.min"):
        series = trace.series(quantity)
        for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
            outside = value < 0 or (count > 1 and value >= count)
            if outside and trace.at("loss", "", step) is None and not math.isnan(value):
                return step, value
    return None


def _coding(
    trace: Recording, severity: Severity, confidence: float, summary: str, evidence: Evidence
) -> Finding:
    node = into_loss(trace)
    return Finding(
        code="OUT007",
        name="label-coding",
        severity=severity,
        layer=node.name if node is not None else None,
        step=0,
        confidence=confidence,
        summary=summary,
        evidence=(evidence,),
        rival=(
            "OUT003 raw-scores: there the network's numbers are of the wrong kind; here it is the targets'."
        ),
        location=node.location if node is not None else None,
    )
