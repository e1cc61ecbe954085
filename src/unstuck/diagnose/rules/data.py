"""Rules on the inputs and targets: badly scaled, or no numbers."""

import math

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import ANY_TRAINING, LOOKS_UP, activation_place, first_layers, names
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Node

_ROUNDING = 1e-5
"""Relative error of numbers that were divided in float32."""
_TINY = "they are tiny"
_GATES = "they are large for a recurrent layer"
_FAR = 8.0
"""So many times as large as what counts as large, as raw pixels are: to blame although a part is learned."""
_FLAT = 4.0
"""Where a sigmoid and a tanh are flat: their slopes at four are 0.02 and 0.001."""


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
    node = _as_it_comes(trace)
    if mean is None or std is None or node is None or (std == 0 and mean == 0):
        return []
    ended = outcome(trace, bounds.outcome)
    stuck = ended.word in {"diverged", "not learned"}
    size = math.hypot(mean, std)
    answer, usual = trace.first("act_rms", node.name), _usual_answer(trace, node)
    lost = answer is not None and math.isnan(answer) and (trace.first("data.nonfinite") or 0) > 0
    if lost:  # by NaN among the inputs (DAT003): the other inputs tell what it would have been
        answer = size * usual
    full = trace.first("saturated", activation_place(trace, node)) or 0.0
    recurrent = "weight" not in node.parameters  # it multiplies inside, where nothing is measured
    gates = recurrent and size * usual >= _FLAT
    saturates = gates or full >= bounds.signal.saturated
    badly = ended.word == "unknown" or ended.fraction > bounds.outcome.well_learned
    twice = _divided_twice(trace)
    far = ended.word == "learned" and size >= _FAR * bounds.data.large
    harmed = stuck or (badly and (saturates or far))
    if not harmed and not twice:
        return []  # it learns all the same
    if answer is None or not usual > 0:
        return []
    ends = f" {full:.0%} of its activation's outputs stand at an end at once." if saturates else ""
    if harmed and gates and size >= bounds.data.large:
        problem = _GATES
        place, norm, rows = _weight(trace, node)
        evidence = Evidence("weight_norm", norm, ">=", _FLAT * math.sqrt(rows) / size, place)
        ends = " A sigmoid and a tanh are flat there: they answer the same to all samples, and learn nothing."
    elif (harmed and not recurrent) and size >= bounds.data.large and answer >= bounds.data.answer * usual:
        problem = "they are large"
        evidence = Evidence("act_rms", answer, ">=", bounds.data.answer * usual, node.name)
    elif size <= bounds.data.small and _by_inputs(trace, node, answer) * bounds.data.answer <= usual:
        problem = _TINY
        moves = _by_inputs(trace, node, answer)
        ends = " The largest is 1/255: numbers from 0 to 255 were divided by 255 twice." if twice else ends
        evidence = Evidence("act_rms", moves, "<=", usual / bounds.data.answer, node.name)
    elif (
        harmed and std <= bounds.data.centred * abs(mean) and (lost or _varies_as_little(trace, node, bounds))
    ):
        problem = "they hardly vary beside their mean"
        evidence = Evidence("data.std", std, "<=", bounds.data.centred * abs(mean))
    elif (harmed and not recurrent) and answer - _biases(trace, node) >= (
        bounds.data.large * usual * max(size, 1.0) * math.sqrt(_inputs_of(node))
    ):
        # more than any inputs of that size can do with these weights (Cauchy and Schwarz)
        problem = "they are large where they arrive, multiplied on their way"
        evidence = Evidence("act_rms", answer, ">=", bounds.data.large * usual, node.name)
    else:
        return []
    direct = saturates or not problem.startswith("they are large")
    answers = _words(problem, answer, evidence, size * usual, lost=lost)
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
                f"{names([node])} {answers}, where inputs of size 1 would give {usual:.2g}.{ends}"
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


def _as_it_comes(trace: Recording) -> Node | None:
    """The first layer, if the scale of the inputs is still in what it reads; else None.

    A normalisation or a table takes it out; scaling inside the model shows in the layer's first answer.
    """
    first = first_layers(trace)
    if any(node.type in LOOKS_UP for node in first):  # what stands beside a table keeps its scale
        beside = _beside_tables(trace)
        first = [] if beside is None else [beside]
    if not first or any("Norm" in node.type or _normalised(trace, node) for node in first):
        return None
    # beside others a layer may start at zero, and answers 0 whatever comes in
    return next((node for node in first if _weight(trace, node)[1] > 0), first[0])


def _beside_tables(trace: Recording) -> Node | None:
    """The first layer that reads rows of tables together with numbers as they come in."""
    for joined in trace.structure.nodes:
        if joined.type not in {"cat", "concat", "hstack"} or len(joined.shape) != 1:
            continue
        read = [trace.structure.node(name) for name in joined.inputs]
        if any(one is not None and one.parameters and one.type not in LOOKS_UP for one in read):
            continue
        known = [one for one in read if one is not None]
        if any(one.type in LOOKS_UP for one in known) and joined.shape[-1] > sum(
            one.shape[-1] if one.shape else 0 for one in known
        ):
            after = next(trace.structure.after(joined.name), None)
            return after if after is not None and "weight" in after.parameters else None
    return None


def _words(problem: str, answer: float, evidence: Evidence, arrives: float, *, lost: bool) -> str:
    """What a layer makes of its inputs; of tiny ones its biases make more than the inputs do."""
    if lost:
        return f"would answer with {answer:.3g} on average were it not for the NaN"
    if problem == _TINY:
        return f"changes its answer by {evidence.value:.3g} from input to input"
    if problem == _GATES:
        return f"makes numbers of about {arrives:.3g} of them before its gates"
    return f"answers with {answer:.3g} on average"


def _normalised(trace: Recording, node: Node) -> bool:
    """Whether a normalisation follows at once and takes the scale out again."""
    after = next(trace.structure.after(node.name), None)
    return after is not None and "Norm" in after.type


def _usual_answer(trace: Recording, node: Node) -> float:
    """RMS output for inputs of mean square 1 that fit no unit in particular: |W| / sqrt(units)."""
    _, norm, rows = _weight(trace, node)
    return norm / math.sqrt(rows) if rows else 0.0


def _weight(trace: Recording, node: Node) -> tuple[str, float, int]:
    """Where the weights of the inputs stand (of gates, if recurrent), their norm at the start, their rows."""
    if "weight" in node.parameters:
        return node.name, trace.first("weight_norm", node.name) or 0.0, node.units or 0
    name = next((short for short in node.parameters if short.startswith("weight_ih")), "")
    place, shape = f"{node.name}.{name}", node.parameters.get(name, (0,))
    return place, trace.first("weight_norm", place) or 0.0, shape[0]


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
