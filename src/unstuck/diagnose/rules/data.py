"""Rules on the inputs and targets: badly scaled, constant, not finite."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import ANY_TRAINING, LOOKS_UP, activation_place, names, weight_layers
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Node

_ROUNDING = 1e-5
"""Relative error of numbers that were divided in float32."""
_TINY = "they are tiny"
_SEVERAL = 4
"""Samples of a batch that would hardly all be one number by chance."""
_MARKS = 4
"""Words that say nothing, at most: padding, an unknown word, the beginning, the end."""
_VOCABULARY = 10
"""So many times as many rows has a table that was made for more than what was looked up in it."""


def _first_layers(trace: Recording) -> list[Node]:
    """Weight layers that the input reaches without passing another operation that has parameters."""
    reached, found = {INPUT}, list[Node]()
    for node in trace.structure.nodes:
        if not reached.intersection(node.inputs):
            continue
        if node.parameters:
            found.append(node)
        else:
            reached.add(node.name)
    return found


@rule(
    "DAT001",
    "unscaled-input",
    severity="error",
    needs=("data.mean", "data.std", "act_rms"),
    explains={
        "ARC001": "any",
        "DAT004": "any",
        "LRN007": "any",
        "ACT002": "any",
        "ACT001": "any",
        "LRN001": "any",
        "LRN002": "any",
        "GRD001": "any",
        "GRD002": "any",
        "INI004": "any",
        "GRD003": "lasting",
        "GRD004": "any",
        "ACT003": "any",
        "ACT005": "any",
        "INI003": "any",
        "OUT004": "any",
        "LRN003": "any",
        "OUT010": "any",
    },
    preview=False,
)
def unscaled_input(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Inputs far from mean 0 and standard deviation 1 drive the first layer to where it learns badly."""
    mean, std = trace.first("data.mean"), trace.first("data.std")
    first = _first_layers(trace)
    if mean is None or std is None or not first or (std == 0 and mean == 0):
        return []
    node = first[0]
    # A normalisation or a table takes the scale out; scaling inside the model shows in the first answer.
    if any(other.type in LOOKS_UP or "Norm" in other.type or _normalised(trace, other) for other in first):
        return []
    ended = outcome(trace, bounds.outcome)
    stuck = ended.word in {"diverged", "not learned"}
    activation = activation_place(trace, node)
    full = trace.first("saturated", activation) or 0.0
    saturates = full >= bounds.signal.saturated
    badly = ended.word == "unknown" or ended.fraction > bounds.outcome.well_learned
    twice = _divided_twice(trace)
    harmed = stuck or (saturates and badly)
    if not harmed and not twice:
        return []  # it learns all the same
    size = math.hypot(mean, std)
    answer, usual = trace.first("act_rms", node.name), _usual_answer(trace, node)
    if answer is None or not usual > 0:
        return []
    ends = f" {full:.0%} of its activation's outputs stand at an end at once." if saturates else ""
    if harmed and size >= bounds.data.large and answer >= bounds.data.answer * usual:
        problem = "they are large"
        evidence = Evidence("act_rms", answer, ">=", bounds.data.answer * usual, node.name)
    elif size <= bounds.data.small and _by_inputs(trace, node, answer) * bounds.data.answer <= usual:
        problem = _TINY
        moves = _by_inputs(trace, node, answer)
        ends = " The largest is 1/255: numbers from 0 to 255 were divided by 255 twice." if twice else ends
        evidence = Evidence("act_rms", moves, "<=", usual / bounds.data.answer, node.name)
    elif harmed and std <= bounds.data.centred * abs(mean) and _varies_as_little(trace, node, bounds):
        problem = "they hardly vary beside their mean"
        evidence = Evidence("data.std", std, "<=", bounds.data.centred * abs(mean))
    elif harmed and answer - _biases(trace, node) >= (
        bounds.data.large * usual * max(size, 1.0) * math.sqrt(_inputs_of(node))
    ):
        # more than any inputs of that size can do with these weights (Cauchy and Schwarz)
        problem = "they are large where they arrive, multiplied on their way"
        evidence = Evidence("act_rms", answer, ">=", bounds.data.large * usual, node.name)
    else:
        return []
    direct = saturates or not problem.startswith("they are large")
    return [
        Finding(
            code="DAT001",
            name="unscaled-input",
            severity="error" if stuck else "warning",
            layer=node.name,
            step=0,
            confidence=0.9 if stuck and saturates else 0.8 if stuck and direct else 0.7,
            summary=(
                f"The inputs have mean {mean:.3g} and standard deviation {std:.3g}: {problem}. "
                f"{names([node])} {_words(problem, answer, evidence)}, where inputs of size 1 would give "
                f"{usual:.2g}.{ends}"
            ),
            evidence=(Evidence("data.mean", mean), Evidence("data.std", std), evidence),
            rival=(
                "INI004 signal-grows: there the weights are large; these weights are of a usual size and "
                "only pass on the size of the inputs."
            ),
            location=node.location,
            apart=ANY_TRAINING,
        )
    ]


def _words(problem: str, answer: float, evidence: Evidence) -> str:
    """What a layer makes of its inputs; of tiny ones its biases make more than the inputs do."""
    if problem == _TINY:
        return f"changes its answer by {evidence.value:.3g} from input to input"
    return f"answers with {answer:.3g} on average"


def _normalised(trace: Recording, node: Node) -> bool:
    """Whether a normalisation follows at once and takes the scale out again."""
    after = next(trace.structure.after(node.name), None)
    return after is not None and "Norm" in after.type


def _usual_answer(trace: Recording, node: Node) -> float:
    """RMS output for inputs of mean square 1 that fit no unit in particular: |W| / sqrt(units)."""
    weight = trace.first("weight_norm", node.name)
    return weight / math.sqrt(node.units) if weight and node.units else 0.0


def _divided_twice(trace: Recording) -> bool:
    """Whether the inputs lie between 0 and exactly 1/255: no other way leads there."""
    low, high = trace.first("data.min"), trace.first("data.max")
    return low is not None and high is not None and low >= 0 and abs(high * 255 - 1) <= _ROUNDING


def _by_inputs(trace: Recording, node: Node, answer: float) -> float:
    """The part of a layer's answer that changes with the input: beside tiny inputs the biases are all."""
    depends = trace.first("act_variation", node.name)
    return answer if depends is None else answer * math.sqrt(min(max(depends, 0.0), 1.0))


def _biases(trace: Recording, node: Node) -> float:
    """Root mean square of a layer's biases at the start: so much of an answer needs no input."""
    shape = node.parameters.get("bias")
    if not shape:
        return 0.0
    norm = trace.first("weight_norm", f"{node.name}.bias")
    return math.inf if norm is None else norm / math.sqrt(math.prod(shape))


def _inputs_of(node: Node) -> int:
    """Numbers that one unit reads."""
    return max(math.prod(node.parameters["weight"][1:]), 1)


def _varies_as_little(trace: Recording, node: Node, bounds: Bounds) -> bool:
    """Whether the first layer passes the constant part on as it came: no own centring inside the model."""
    depends = trace.first("act_variation", node.name)
    return depends is not None and depends <= bounds.data.centred


@rule(
    "DAT002",
    "dead-input",
    severity="error",
    needs=("act_variation",),
    explains={
        "ARC001": "any",
        "ACT001": "any",
        "ACT002": "any",
        "ACT005": "any",
        "GRD003": "any",
        "LRN002": "any",
        "INI003": "any",
        "DAT001": "any",
        "DAT004": "any",
        "LRN003": "any",
        "OUT010": "any",
    },
    preview=False,
)
def dead_input(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The inputs are the same for every sample, or never reach the first layer."""
    first = [node for node in _first_layers(trace) if trace.has("act_variation", node.name)]
    values = [
        trace.series("act_variation", node.name).values for node in first
    ]  # never of what is not finite
    alike = _few_words(trace, bounds)
    if alike is None and (_copies(trace, bounds) or (not first and _one_number(trace, bounds))):
        alike = _all_copies(trace) if trace.has("data.alike") else _all_one_number(trace)
    if alike is not None:
        return [alike]
    if not first or not all(series.size for series in values):
        raise NotChecked("what the first layer answers to different inputs was not measured")
    if outcome(trace, bounds.outcome).word == "learned":
        return []
    # zero weights answer the same to anything: that is not the inputs' fault
    if any(not trace.first("weight_norm", node.name) for node in first):
        return []
    if any(float(np.max(series)) > bounds.data.same for series in values):
        return []
    std, mean = trace.first("data.std"), trace.first("data.mean")
    constant = std == 0
    # of images some positions are measured: what lies between them shows in the layers after
    if not constant and any(node.type.startswith("Conv") for node in first):
        later = [trace.series("act_variation", node.name).values for node in weight_layers(trace)]
        if any(series.size and float(np.max(series)) > bounds.data.same for series in later):
            return []
    return [
        Finding(
            code="DAT002",
            name="dead-input",
            severity="error",
            layer=first[0].name,
            step=0,
            confidence=0.95 if constant or trace.steps >= bounds.outcome.few_steps else 0.7,
            summary=(
                f"{names(first)} {'answers' if len(first) == 1 else 'answer'} exactly the same to every "
                "sample"
                + (
                    f": all inputs are {mean:.3g}."
                    if constant and mean is not None
                    else ": either all samples are copies of one, or the inputs do not reach the network."
                )
            ),
            evidence=(
                Evidence("data.std", std, "=" if constant else "", 0.0 if constant else None),
                Evidence("act_variation", float(np.max(values[0])), "<=", bounds.data.same, first[0].name),
            ),
            rival=(
                "ACT005 collapsed-representation: there the inputs differ and a layer loses that; here "
                "the very first sum is constant although its weights are not 0."
            ),
            location=first[0].location,
            apart=ANY_TRAINING,
        )
    ]


def _few_words(trace: Recording, bounds: Bounds) -> Finding | None:
    """Sequences in which hardly any of the words are found that their table was made for."""
    if trace.steps < bounds.outcome.few_steps or outcome(trace, bounds.outcome).word != "not learned":
        return None
    for node in trace.structure.nodes:
        if node.type != "Embedding" or len(node.shape) < 2 or node.shape[0] <= _MARKS:
            continue
        idle, rows = trace.series("zero_grad", node.name).values, node.parameters["weight"][0]
        if idle.size < 3 or not np.isfinite(idle).all():
            continue
        found = round(rows * (1 - float(np.min(idle))))
        if not 0 < found <= min(_MARKS, rows / _VOCABULARY):
            continue
        rest = 1 - found / rows
        return Finding(
            code="DAT002",
            name="dead-input",
            severity="error",
            layer=node.name,
            step=0,
            confidence=0.9,
            summary=(
                f"Of the {rows} rows of {node.name} only {found} were ever looked up (padding counts if its "
                "row is trained): to the network nearly all words are the same. Print what it is given: are "
                "words looked up in the form in which the vocabulary has them (capitals, spaces, bytes), and "
                "are numbers of words scaled or cut by mistake?"
            ),
            evidence=(Evidence("zero_grad", float(np.min(idle)), ">=", rest, node.name),),
            rival="DAT004 misaligned-labels: there samples differ, and their targets are those of others.",
            location=node.location,
        )
    return None


def _copies(trace: Recording, bounds: Bounds) -> bool:
    """Whether every batch that was looked at held one sample again and again, all through a training."""
    alike = trace.series("data.alike").values
    if alike.size < 3 or trace.steps < bounds.outcome.few_steps or not bool((alike == 1).all()):
        return False
    ended = outcome(trace, bounds.outcome)  # what is learned in spite of it came in by another way
    return ended.word == "unknown" or falls_short(ended, bounds.outcome)


def _all_copies(trace: Recording) -> Finding:
    std, mean = trace.first("data.std"), trace.first("data.mean")
    first = _first_layers(trace)
    size = f": all of its numbers are {mean:.3g}" if std == 0 and mean is not None else ""
    return Finding(
        code="DAT002",
        name="dead-input",
        severity="error",
        layer=first[0].name if first else None,
        step=0,
        confidence=0.95,
        summary=(
            f"All samples of every batch that was looked at are copies of one{size}. No network can "
            "tell them apart."
        ),
        evidence=(Evidence("data.alike", 1.0, "=", 1.0),),
        rival=(
            "ACT005 collapsed-representation: there the inputs differ and a layer loses that; here they are "
            "equal before the first layer."
        ),
        location=first[0].location if first else None,
        apart=ANY_TRAINING,
    )


def _one_number(trace: Recording, bounds: Bounds) -> bool:
    """Whether all inputs of a batch of several samples were one number, and nothing was learned from them.

    One sample alone tells nothing: online, its one feature is one number always.
    """
    facts = trace.structure.loss_facts
    if facts is not None and facts.input_shape:
        several = facts.input_shape[0] >= _SEVERAL
    else:
        several = trace.meta.kind == "engine"
    return several and trace.first("data.std") == 0 and outcome(trace, bounds.outcome).word == "not learned"


def _all_one_number(trace: Recording) -> Finding:
    mean = trace.first("data.mean") or 0.0
    return Finding(
        code="DAT002",
        name="dead-input",
        severity="error",
        layer=None,
        step=0,
        confidence=0.9,
        summary=f"All inputs of the first batch are {mean:.3g}: no sample can be told from another.",
        evidence=(Evidence("data.std", 0.0, "=", 0.0),),
        rival="ACT005 collapsed-representation: there the inputs differ and a layer loses that.",
        apart=ANY_TRAINING,
    )


@rule(
    "DAT003",
    "non-finite-data",
    severity="error",
    explains={
        "ARC001": "any",
        "LRN007": "any",
        "ACT002": "any",
        "GRD004": "any",
        "LRN001": "any",
        "GRD002": "any",
        "GRD003": "lasting",
        "ACT003": "any",
        "ACT005": "any",
        "OUT010": "any",
    },
    preview=False,
)
def non_finite_data(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Inputs or targets hold NaN or infinity."""
    del bounds
    found = [bad for bad in (_bad_inputs(trace), _bad_targets(trace)) if bad is not None]
    if not found:
        if not trace.has("data.nonfinite"):
            raise NotChecked("the inputs were not measured")
        return []
    losses = trace.series("loss").values
    # a model may fill gaps itself, and a loss may leave them out
    harms = not losses.size or not bool(np.isfinite(losses).all())
    what, _, step = found[0]
    effect = (
        "One of them makes the loss, and then all weights, NaN."
        if harms
        else "The loss stays finite, so the program seems to deal with them."
    )
    return [
        Finding(
            code="DAT003",
            name="non-finite-data",
            severity="error" if harms else "info",
            layer=None,
            step=step,
            confidence=0.97 if losses.size else 0.8,
            summary=f"{what} {effect}",
            evidence=tuple(item for _, item, _ in found),
            rival="GRD004 non-finite: numbers that are lost inside the network; these were lost before it.",
        )
    ]


def _bad_inputs(trace: Recording) -> tuple[str, Evidence, int] | None:
    """In words, as evidence, and the first step."""
    series = trace.series("data.nonfinite")
    bad = np.flatnonzero(series.values > 0)
    if not bad.size:
        return _born_in_the_inputs(trace)
    share, step = float(series.values[bad[0]]), int(series.steps[bad[0]])
    words = f"{share:.2%} of the numbers in the batch of inputs at step {step} are NaN or infinite."
    return words, Evidence("data.nonfinite", share, ">", 0.0), step


def _born_in_the_inputs(trace: Recording) -> tuple[str, Evidence, int] | None:
    """Where the first NaN of all is traced to the inputs of a later batch than the one that was looked at."""
    births = {layer: trace.last("origin.nonfinite", layer) for layer in trace.layers("origin.nonfinite")}
    born = births.get(INPUT)
    if born is None or any(step is not None and step < born for step in births.values()):
        return None
    step = int(born)
    words = f"The inputs of step {step} hold NaN or infinity, the first of the whole training."
    return words, Evidence("origin.nonfinite", born, layer=INPUT), step


def _bad_targets(trace: Recording) -> tuple[str, Evidence, int] | None:
    """The same of the targets, whose statistics are not finite then."""
    for quantity in ("target.mean", "target.min", "target.max"):
        series = trace.series(quantity)
        bad = np.flatnonzero(~np.isfinite(series.values))
        if bad.size:
            step = int(series.steps[bad[0]])
            words = f"The targets of step {step} hold NaN or infinity."
            return words, Evidence(quantity, float(series.values[bad[0]])), step
    return None
