"""The rule on training and evaluation mode: left in the wrong one, normalisations and dropout do nothing."""

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.measured import names
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

LEAST = 3
"""Measured steps below which nothing is said."""
_ON_PURPOSE = (
    "Frozen normalisations are usual in fine-tuning: there they alone are in evaluation mode, here the whole "
    "network is."
)


@rule(
    "NRM003",
    "wrong-mode",
    severity="error",
    needs=("eval_mode",),
    explains={
        "INI003": "any",
        "INI004": "any",
        "GRD001": "any",
        "GRD002": "any",
        "OUT010": "any",
        "DAT004": "any",
    },
)
def wrong_mode(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Steps are made in evaluation mode: batch normalisation does not normalise, dropout drops nothing."""
    modes = trace.series("eval_mode")
    if modes.values.size < LEAST:
        raise NotChecked("it needs three measured steps at least")
    norms, drops = _norms(trace), _drops(trace)
    if not norms and not drops:
        return []
    off = modes.values == 1
    if off.all():
        return _from_the_start(trace, bounds, norms, drops)
    if not off[-1]:
        return _evaluated_in_training_mode(trace)
    since = int(modes.steps[np.flatnonzero(~off)[-1] + 1])
    if (trace.steps - since) < bounds.norm.left * trace.steps or off[0]:
        return []  # a last phase without noise is somebody's own choice
    ended = outcome(trace, bounds.outcome)
    short = falls_short(ended, bounds.outcome)
    if short and not norms:
        severity: Severity = "info"  # that it does not learn has another reason
    else:
        severity = "error" if short else "warning"
    return [
        _finding(
            severity,
            norms or drops,
            since,
            0.95,
            f"The network was trained in training mode at first, and in evaluation mode from step {since} on "
            f"at the latest, to the end: {_effect(norms, drops)} Call model.train() after every validation.",
            (Evidence("eval_mode", 1.0, "=", 1.0),),
        )
    ]


def _from_the_start(trace: Recording, bounds: Bounds, norms: list[Node], drops: list[Node]) -> list[Finding]:
    """Never in training mode: a fault where normalisations are new, else perhaps meant."""
    fresh = [
        node
        for node in norms
        if trace.first("norm_fresh", node.name) == 1 and trace.last("norm_fresh", node.name) == 1
    ]
    if not fresh:
        return [
            _finding(
                "info",
                norms or drops,
                0,
                0.9,
                f"All steps were made in evaluation mode: {_effect(norms, drops)} If that is not meant, call "
                "model.train() before the training.",
                (Evidence("eval_mode", 1.0, "=", 1.0),),
            )
        ]
    short = falls_short(outcome(trace, bounds.outcome), bounds.outcome)
    first = fresh[0]
    return [
        _finding(
            "error" if short and not trace.meta.examined else "warning",
            fresh,
            0,
            0.95,
            f"All steps were made in evaluation mode, in which {names(fresh)} only "
            f"{'takes off' if len(fresh) == 1 else 'take off'} the mean 0 and the variance 1 that a new "
            "layer begins with: nothing is normalised. Call model.train() before the training.",
            (
                Evidence("eval_mode", 1.0, "=", 1.0),
                Evidence("norm_fresh", 1.0, "=", 1.0, first.name),
            ),
        )
    ]


def _evaluated_in_training_mode(trace: Recording) -> list[Finding]:
    """Running statistics that took in more batches than the steps gave them: passes in between."""
    for layer in trace.layers("norm_batches"):
        seen = trace.series("norm_batches", layer)
        each = np.diff(seen.values)[np.diff(seen.steps) == 1]
        if each.size < LEAST or not (each == each[0]).all() or not each[0] > 0:
            continue
        due = each[0] * float(seen.steps[-1] - seen.steps[0])
        more = float(seen.values[-1] - seen.values[0]) - due
        if more < LEAST or more < 0.02 * due:
            continue
        return [
            Finding(
                code="NRM003",
                name="wrong-mode",
                severity="info",
                layer=layer,
                step=int(seen.steps[-1]),
                confidence=0.8,
                summary=(
                    f"The running statistics of {layer} took in {more:.0f} batches more than the "
                    f"{due:.0f} of the steps themselves: the network was called in training mode in "
                    "between. If that was a validation, call model.eval() before it and model.train() after."
                ),
                evidence=(Evidence("norm_batches", float(seen.values[-1]), ">", due, layer),),
                rival="Passes that set the running statistics anew on purpose look the same.",
            )
        ]
    return []


def _norms(trace: Recording) -> list[Node]:
    """Normalisations that do something else in evaluation mode."""
    return [
        node
        for node in trace.structure.nodes
        if node.type.startswith(("BatchNorm", "SyncBatchNorm"))
        and node.options.get("track_running_stats", True)
    ]


def _drops(trace: Recording) -> list[Node]:
    return [
        node
        for node in trace.structure.nodes
        if "Dropout" in node.type and float(node.options.get("p", 0.0)) > 0
    ]


def _effect(norms: list[Node], drops: list[Node]) -> str:
    if norms and drops:
        return (
            f"{names(norms)} normalised by statistics that no longer moved, and {names(drops)} dropped "
            "nothing."
        )
    if norms:
        return f"{names(norms)} normalised by statistics that no longer moved."
    return f"{names(drops)} dropped nothing."


def _finding(
    severity: Severity,
    nodes: list[Node],
    step: int,
    confidence: float,
    summary: str,
    evidence: tuple[Evidence, ...],
) -> Finding:
    return Finding(
        code="NRM003",
        name="wrong-mode",
        severity=severity,
        layer=nodes[0].name,
        step=step,
        confidence=confidence,
        summary=summary,
        evidence=evidence,
        rival=_ON_PURPOSE,
        location=nodes[0].location,
    )
