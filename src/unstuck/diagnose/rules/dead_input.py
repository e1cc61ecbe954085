"""Rule on inputs that are the same for every sample, or never reach the first layer."""

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import ANY_TRAINING, first_layers, names, weight_layers
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_SEVERAL = 4
"""Samples of a batch that would hardly all be one number by chance."""
_MARKS = 4
"""Words that say nothing, at most: padding, an unknown word, the beginning, the end."""
_VOCABULARY = 10
"""So many times as many rows has a table that was made for more than what was looked up in it."""

_LEVELS, _BLANK, _COLOURS = 4, 0.97, 4
"""Different numbers in pictures, share of the commonest, and channels: a fifth of a drawing in ink and paper
is ink, and what lies on a board has channels of its own."""


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
        "DAT007": "any",
        "DAT008": "any",
        "LRN003": "any",
        "OUT010": "any",
    },
    preview=False,
)
def dead_input(trace: Recording, bounds: Bounds) -> list[Finding]:
    """The inputs are the same for every sample, or never reach the first layer."""
    first = [node for node in first_layers(trace) if trace.has("act_variation", node.name)]
    values = [
        trace.series("act_variation", node.name).values for node in first
    ]  # never of what is not finite
    alike = _few_words(trace, bounds)
    if alike is None and (_copies(trace, bounds) or (not first and _one_number(trace, bounds))):
        alike = _all_copies(trace) if trace.has("data.alike") else _all_one_number(trace)
    alike = alike or _cut_to_whole_numbers(trace, first, bounds)
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
    ended = outcome(trace, bounds.outcome)
    if trace.steps < bounds.outcome.few_steps or not falls_short(ended, bounds.outcome):
        return None
    for node in trace.structure.nodes:
        if node.type != "Embedding" or len(node.shape) < 2 or node.shape[0] <= _MARKS:
            continue
        idle, rows = trace.series("zero_grad", node.name).values, node.units
        if idle.size < 3 or not np.isfinite(idle).all():
            continue
        found = round(rows * (1 - float(np.min(idle))))
        # a row of padding gets no gradient, though it may be the only one that was ever looked up
        padding = found == 0 and not trace.series("act_variation", node.name).values.any()
        few = 0 < found <= min(_MARKS, rows / _VOCABULARY) and ended.word == "not learned"
        if not few and not (padding and rows >= _VOCABULARY):
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
                f"Of the {rows} rows of {node.name} only {max(found, 1)} {'was' if found < 2 else 'were'} "
                "ever looked up (padding counts if its row is trained): to the network nearly all words are "
                "the same. Print what it is given: are "
                "words looked up in the form in which the vocabulary has them (capitals, spaces, bytes), and "
                "are numbers of words scaled or cut by mistake?"
            ),
            evidence=(Evidence("zero_grad", float(np.min(idle)), ">=", rest, node.name),),
            rival="DAT004 misaligned-labels: there samples differ, and their targets are those of others.",
            location=node.location,
        )
    return None


def _cut_to_whole_numbers(trace: Recording, first: list[Node], bounds: Bounds) -> Finding | None:
    """Pictures of which hardly anything is left: numbers between 0 and 1 that were stored as whole ones."""
    values, share = trace.first("data.values"), trace.first("data.commonest")
    pictures = first and all(
        node.type in {"Conv2d", "Conv3d"} and node.parameters["weight"][1] <= _COLOURS for node in first
    )
    if values is None or share is None or not pictures:
        return None
    if not 1 < values <= _LEVELS or share < _BLANK or trace.steps < bounds.outcome.few_steps:
        return None
    ended = outcome(trace, bounds.outcome)
    if not falls_short(ended, bounds.outcome):
        return None
    low, high = trace.first("data.min"), trace.first("data.max")
    return Finding(
        code="DAT002",
        name="dead-input",
        severity="error" if ended.word == "not learned" else "warning",
        layer=first[0].name,
        step=0,
        confidence=0.8,
        summary=(
            f"The pictures hold {values:.0f} different numbers ({low:.3g} to {high:.3g}), and {share:.1%} of "
            "all are the same one. So it looks when numbers between 0 and 1 are stored as whole numbers: "
            "divide after they are floats, and look at a picture as the model is given it."
        ),
        evidence=(
            Evidence("data.values", values, "<=", float(_LEVELS)),
            Evidence("data.commonest", share, ">=", _BLANK),
        ),
        rival="DAT001 unscaled-input: there the numbers are many, and of the wrong size.",
        location=first[0].location,
        apart=ANY_TRAINING,
    )


def _copies(trace: Recording, bounds: Bounds) -> bool:
    """Whether every batch that was looked at held one sample again and again, all through a training."""
    alike = trace.series("data.alike").values
    if alike.size < 3 or trace.steps < bounds.outcome.few_steps or not bool((alike == 1).all()):
        return False
    ended = outcome(trace, bounds.outcome)  # what is learned in spite of it came in by another way
    return ended.word == "unknown" or falls_short(ended, bounds.outcome)


def _all_copies(trace: Recording) -> Finding:
    std, mean = trace.first("data.std"), trace.first("data.mean")
    first = first_layers(trace)
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
