"""Rules on what the optimiser works with: old gradients, parameters it lacks, frozen or replaced ones."""

import re
from typing import Final

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding, Severity
from unstuck.diagnose.fresh import fresh
from unstuck.diagnose.measured import BUT_REMADE, names, weight_layers
from unstuck.diagnose.outcome import classifies, falls_short, outcome
from unstuck.diagnose.paths import total_gradient
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

_SCALES: Final = frozenset(
    {
        "BatchNorm1d",
        "BatchNorm2d",
        "BatchNorm3d",
        "GroupNorm",
        "InstanceNorm1d",
        "InstanceNorm2d",
        "InstanceNorm3d",
        "LayerNorm",
        "RMSNorm",
        "SyncBatchNorm",
    }
)


@rule(
    "GRD005",
    "uncleared-gradient",
    severity="error",
    needs=("grad_uncleared",),
    explains={
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
    from_step_0=False,
    preview=False,
)
def uncleared_gradient(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Steps begin with the gradient of the step before: each update repeats all earlier ones."""
    series = trace.series("grad_uncleared")
    later = series.values[series.steps >= 1]
    if later.size < 2:
        raise NotChecked("it needs three steps at least: the first has nothing left over")
    share = float(np.mean(later == 1))
    if share <= bounds.gradient.uncleared:
        return []
    total = total_gradient(trace, held_only=True)
    finite = total.values[np.isfinite(total.values) & (total.values > 0)]
    growth = float(finite[-1] / finite[0]) if finite.size >= 2 else 1.0
    grows = growth >= bounds.gradient.growth
    if not grows and any(node.optimised is False for node in trace.structure.nodes):
        return []  # what is left over may be that of parameters which no optimiser clears (LRN005)
    ended = outcome(trace, bounds.outcome)
    harmless = ended.word == "learned" and ended.fraction <= bounds.outcome.well_learned
    if harmless and share < 1 and not grows:
        return []  # kept now and then, and it does not add up: somebody's own scheme
    severity: Severity = "warning" if harmless else "error"
    started = int(series.steps[np.flatnonzero(series.values == 1)[0]])
    size = f" Its norm is {growth:.1f} times that of the first step." if grows else ""
    return [
        Finding(
            code="GRD005",
            name="uncleared-gradient",
            severity=severity,
            layer=None,
            step=started,
            confidence=(0.97 if share == 1 else 0.85) if grows or share == 1 else 0.7,
            summary=(
                f"{share:.0%} of the steps began with the gradient of the step before still in place, so "
                f"that the new one was added to it.{size} zero_grad() is missing between the steps."
            ),
            evidence=(Evidence("grad_uncleared", share, ">", bounds.gradient.uncleared),),
            rival=(
                "Accumulation on purpose adds up several backward passes before one step, and clears "
                "after it; here the step did not clear. LRN001 learning-rate-too-high looks alike; a "
                "lower rate only delays this."
            ),
        )
    ]


@rule(
    "LRN005",
    "unoptimised-parameters",
    severity="error",
    explains={
        "LRN002": "any",
        "LRN006": "any",
        "INI002": "same",
        "GRD005": "any",
        "OUT010": "any",
    },
    preview=False,
)
def unoptimised_parameters(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Layers get a gradient, but no optimiser holds their parameters: they never change."""
    owners = [node for node in trace.structure.nodes if node.parameters and node.connected]
    if not owners and (copies := _idle_copies(trace, bounds)):
        return [copies]
    if not any(node.optimised is not None for node in owners):
        raise NotChecked("it is not known which parameters the optimiser holds")
    # requires_grad off says that a layer was meant to stay as it is
    wanting = [
        node for node in owners if node.optimised is False and node.trainable and _has_gradient(trace, node)
    ]
    if not wanting:
        return []
    ended = outcome(trace, bounds.outcome)
    # a layer whose weight is held and whose bias is not moves, too
    held = [node for node in owners if node.optimised or (node.trainable and node not in wanting)]
    learned = ended.word == "learned"
    if _on_purpose(wanting, owners):
        untrained = falls_short(ended, bounds.outcome) and fresh(trace, wanting)
        harmed = untrained or ended.word in {"not learned", "diverged"}
        severity: Severity = "warning" if harmed else "info"
        words = (
            "They start as weights are usually drawn, so they were never trained: give them to the optimiser."
            if untrained
            else "If they are meant to stay as they are, switch their requires_grad off, which also saves "
            "their gradient; if not, give them to the optimiser."
        )
        confidence = 0.9 if untrained else 0.6
    else:
        well = learned and ended.fraction <= bounds.outcome.well_learned
        severity, confidence = ("warning" if well else "error"), 0.97
        words = "Give them to the optimiser, and make it after all layers are in place."
    first = wanting[0]
    return [
        Finding(
            code="LRN005",
            name="unoptimised-parameters",
            severity=severity,
            layer=first.name,
            step=0,
            confidence=confidence,
            summary=(
                f"{names(wanting)} {'gets' if len(wanting) == 1 else 'get'} a gradient, but no optimiser "
                f"holds {'its' if len(wanting) == 1 else 'their'} parameters ({len(held)} of {len(owners)} "
                f"layers are held). {words}"
            ),
            evidence=tuple(
                Evidence("grad_norm", trace.first("grad_norm", node.name), ">", 0.0, node.name)
                for node in wanting
                if trace.has("grad_norm", node.name)
            ),
            rival=(
                "LRN002 learning-rate-too-low: then all layers move a little; these stay exactly as they "
                "were. LRN006 frozen-parameters: those ask for no gradient, these get one."
            ),
            location=first.location,
            apart=BUT_REMADE,  # what an optimiser holds, the program says
        )
    ]


def _idle_copies(trace: Recording, bounds: Bounds) -> Finding | None:
    """What an optimiser holds is no part of the network: plain tensors that the loss is not made of."""
    held = trace.layers("grad_norm")
    seen = trace.structure.nodes and trace.structure.loss_facts is not None
    if not seen or not held or trace.steps < bounds.outcome.few_steps:
        return None
    idle = all(not trace.series("grad_norm", name).values.size for name in held)
    still = all(not trace.series("drift_norm", name).values.any() for name in held)
    if not (idle and still) or outcome(trace, bounds.outcome).word == "learned":
        return None
    return Finding(
        code="LRN005",
        name="unoptimised-parameters",
        severity="error",
        layer=None,
        step=0,
        confidence=0.9,
        summary=(
            f"None of the {len(held)} tensors that the optimiser holds ever got a gradient, and the loss was "
            "computed from others: they are copies (detach, clone, a list that was made anew), or the "
            "network was. Give the optimiser the very tensors that the loss is computed from."
        ),
        evidence=(Evidence("drift_norm", 0.0, "=", 0.0, held[0]),),
        rival="GRD003 no-gradient: there the loss uses these parameters, and something cuts the way back.",
        apart=BUT_REMADE,
    )


def _has_gradient(trace: Recording, node: Node) -> bool:
    """Whether one was seen, or nothing was measured that speaks against it; and it stood still."""
    gradient, way = trace.series("grad_norm", node.name).values, trace.series("drift_norm", node.name).values
    # one that is not a number is a gradient, too
    seen = not trace.has("grad_norm", node.name) or bool((gradient != 0).any())
    return seen and not bool((way > 0).any())


def _on_purpose(wanting: list[Node], owners: list[Node]) -> bool:
    """Whether all of them are the network's beginning (a backbone) or a long end (a network that judges).

    A layer that is no part of the model's own tree, and hence has no name of its own (a plain list of
    layers), cannot have been left out on purpose: `model.parameters()` does not hold it.
    """
    if any(re.fullmatch(rf"{re.escape(node.type)}_\d+", node.name) for node in wanting):
        return False
    flags = [node in wanting for node in owners if "weight" in node.parameters or node in wanting]
    count = sum(flags)
    if not 0 < count < len(flags):
        return False
    beginning, end = all(flags[:count]), all(flags[-count:])
    return beginning or (end and count >= 2)


@rule("LRN006", "frozen-parameters", severity="warning", explains={"ARC001": "any", "OUT010": "any"})
def frozen_parameters(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Layers are frozen; a fault only where what is left to train does not learn."""
    layers = [node for node in weight_layers(trace) if node.connected]
    if not layers:
        raise NotChecked("the layers of the network were not seen")
    frozen = [node for node in layers if not node.trainable]
    if not frozen:
        return []
    ended = outcome(trace, bounds.outcome)
    output = layers[-1]
    after = [node for node in layers[layers.index(frozen[0]) + 1 :] if node.trainable]
    # a frozen end is no backbone: it was hardly meant
    stuck = (ended.word == "not learned" and not classifies(trace, bounds.output.some)) or (
        output in frozen and falls_short(ended, bounds.outcome)
    )
    untrained = falls_short(ended, bounds.outcome) and fresh(trace, _all_frozen(trace))
    severity: Severity = "warning" if stuck else "info"  # somebody froze them: random features may be meant
    entries = sum(node.units * node.fan_in for node in layers)
    share = sum(node.units * node.fan_in for node in frozen) / max(entries, 1)
    if untrained:
        words = (
            "They start as weights are usually drawn, so they were never trained before, and what is left to "
            f"train does not get far ({ended.because}). Load the trained weights, or train these too."
        )
    elif not stuck:
        words = "That is usual where they were trained before."
    elif output in frozen:
        words = f"{output.name}, which gives the answer, is among them, and the rest does not learn."
    elif not after:
        words = "Nothing after them is trained, and the network does not learn."
    else:
        words = f"What is left to train does not learn ({ended.because})."
    return [
        Finding(
            code="LRN006",
            name="frozen-parameters",
            severity=severity,
            layer=frozen[0].name,
            step=0,
            confidence=(0.8 if output in frozen else 0.6) if stuck else 0.95,
            summary=(
                f"{names(frozen)} {'is' if len(frozen) == 1 else 'are'} frozen, {share:.0%} of the "
                f"weights. {words}"
            ),
            evidence=tuple(
                Evidence("drift_norm", trace.last("drift_norm", node.name), "=", 0.0, node.name)
                for node in frozen
                if trace.has("drift_norm", node.name)
            ),
            rival=(
                "GRD003 no-gradient: there a layer should be trained and gets none; these were told not "
                "to ask for one."
            ),
            location=frozen[0].location,
        )
    ]


def _all_frozen(trace: Recording) -> list[Node]:
    """Frozen layers of any kind, scales of normalisations among them."""
    return [node for node in trace.structure.layers if node.connected and not node.trainable]


@rule(
    "ARC003",
    "remade-layer",
    severity="error",
    needs=("remade",),
    explains={
        "ARC001": "any",
        "DAT004": "any",
        "LRN007": "any",
        "LRN005": "any",
        "GRD003": "same",
        "INI002": "same",
        "LRN002": "any",
        "OUT010": "any",
    },
    from_step_0=False,
    preview=False,
)
def remade_layer(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A layer is created anew in every forward pass: what it learned is thrown away."""
    findings: list[Finding] = []
    for layer in trace.layers("remade"):
        series = trace.series("remade", layer)
        later = series.values[series.steps >= 1]
        times = int(np.sum(later == 1))
        # once or twice: a head replaced on purpose, a network that grew
        if times < 2 or times <= bounds.gradient.uncleared * later.size:
            continue
        node = trace.structure.node(layer)
        scale = node is not None and node.type in _SCALES
        findings.append(
            Finding(
                code="ARC003",
                name="remade-layer",
                severity="warning" if scale else "error",
                layer=layer,
                step=int(series.steps[np.flatnonzero(series.values == 1)[0]]),
                confidence=0.97,
                summary=(
                    f"{layer} had other parameters than at the step before in {times} of {later.size} "
                    "steps: it is created inside forward, "
                    f"{'so its scale is never trained' if scale else 'with new random weights each time'}. "
                    "Create it once, where the model is made."
                ),
                evidence=(Evidence("remade", float(later[-1]), "=", 1.0, layer),),
                rival=(
                    "LRN005 unoptimised-parameters: an unheld layer keeps its weights; this one gets new "
                    "ones."
                ),
                location=node.location if node is not None else None,
            )
        )
    return findings
