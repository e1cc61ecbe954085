"""Rules on batch normalisation: batches too small for it, and gradients that it makes grow with depth."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import middle, per_layer, typical, weight_layers
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location, Node

PER_LAYER: Final = math.sqrt(math.pi / (math.pi - 1))
"""Growth of the gradient's norm per batch-normalised ReLU layer (Yang and others, 2019): 1.21."""


def _normalises(trace: Recording) -> bool:
    """Whether there are batch normalisations, or may be some that were not seen."""
    nodes = trace.structure.nodes
    return not nodes or any(node.type.startswith(("BatchNorm", "SyncBatchNorm")) for node in nodes)


@rule(
    "NRM002",
    "tiny-batch-norm",
    severity="warning",
    needs=("norm_values", "norm_mean_gap", "norm_var_gap"),
    explains={"LRN007": "any", "OUT010": "any", "LRN001": "any", "LRN002": "any", "DAT004": "any"},
    from_step_0=False,
    concerns=_normalises,
)
def tiny_batch_norm(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Batch normalisation takes its statistics over so few numbers that they are mostly noise."""
    layers = trace.layers("norm_values")
    return _tiny(trace, bounds, layers) or _late(trace, bounds, layers)


def _tiny(trace: Recording, bounds: Bounds, layers: tuple[str, ...]) -> list[Finding]:
    """Few numbers for each mean, the means scattered, and a training that falls short."""
    limit = bounds.norm
    if not falls_short(outcome(trace, bounds.outcome), bounds.outcome):
        return []
    few = [layer for layer in layers if typical(trace, "norm_values", layer) <= limit.values]
    scatter = {layer: _scatter(trace, layer) for layer in few}
    first = max(
        (layer for layer in few if scatter[layer] >= limit.scatter), key=scatter.__getitem__, default=""
    )
    if not first:
        return []
    values, gap = typical(trace, "norm_values", first), scatter[first]
    return [
        Finding(
            code="NRM002",
            name="tiny-batch-norm",
            severity="warning",
            layer=first,
            step=0,
            confidence=0.75,
            summary=(
                f"{first} normalises by the mean and variance of {values:.0f} numbers: they lie {gap:.2f} "
                "standard deviations from the running mean in a usual step, and what a sample becomes "
                "depends on the few that happen to stand beside it. Take larger batches, or normalise each "
                "sample by itself (GroupNorm, LayerNorm)."
            ),
            evidence=(
                Evidence("norm_values", values, "<=", limit.values, first),
                Evidence("norm_mean_gap", gap, ">=", limit.scatter, first),
                Evidence("norm_var_gap", typical(trace, "norm_var_gap", first), layer=first),
            ),
            rival=(
                "LRN007 noisy-gradient: small batches give a noisy gradient without a normalisation too; "
                "here the forward pass is noisy as well."
            ),
            location=_place(trace, first),
        )
    ]


def _scatter(trace: Recording, layer: str) -> float:
    """How far the batch's means usually lie from the running ones, once these have left their start."""
    gaps, count = trace.series("norm_mean_gap", layer), trace.series("norm_batches", layer)
    momentum = _momentum(trace, layer)
    warm = count.values * momentum >= 2 if count.values.size == gaps.values.size else gaps.steps >= 20
    values = gaps.values[warm]
    values = values[np.isfinite(values)]
    return middle(values) if values.size >= 3 else math.nan


def _late(trace: Recording, bounds: Bounds, layers: tuple[str, ...]) -> list[Finding]:
    """Running statistics that move so slowly that they still hold what a new layer begins with."""
    limit = bounds.norm
    for layer in layers:
        momentum, batches = _momentum(trace, layer), trace.last("norm_batches", layer)
        if batches is None or batches < limit.batches or not momentum > 0:
            continue
        left = (1 - momentum) ** batches
        mean, var = (trace.series(name, layer).values[-3:] for name in ("norm_mean_gap", "norm_var_gap"))
        enough = typical(trace, "norm_values", layer) > limit.values
        if left < limit.start or not enough or mean.size < 3 or not var.size:
            continue
        if not (mean.min() >= limit.far or var.min() >= limit.far):
            continue
        return [
            Finding(
                code="NRM002",
                name="tiny-batch-norm",
                severity="warning",
                layer=layer,
                step=0,
                confidence=0.85,
                summary=(
                    f"The running statistics of {layer} move by {momentum:g} a batch: after {batches:.0f} "
                    f"batches {left:.0%} of them is still the mean 0 and variance 1 that a new layer has, "
                    f"and the batches' means lie {mean[-1]:.2g} running standard deviations away. In "
                    "evaluation mode the network is another one than it was trained to be. PyTorch's "
                    "momentum is the part of the new batch, 0.1 usually."
                ),
                evidence=(
                    Evidence("norm_mean_gap", float(mean[-1]), ">=", limit.far, layer),
                    Evidence("norm_var_gap", float(var[-1]), layer=layer),
                    Evidence("norm_batches", batches, layer=layer),
                ),
                rival=(
                    "Batches of different kinds in turn lie apart from their running mean too; but that has "
                    "left its start."
                ),
                location=_place(trace, layer),
            )
        ]
    return []


def _momentum(trace: Recording, layer: str) -> float:
    """Part of the newest batch in the running statistics; 1 / batches where it is None: they are warm."""
    node = trace.structure.node(layer)
    found = None if node is None else node.options.get("momentum", 1.0)
    return float(found) if isinstance(found, (int, float)) else 1.0


def _place(trace: Recording, layer: str) -> Location | None:
    node = trace.structure.node(layer)
    return None if node is None else node.location


@rule(
    "NRM004",
    "norm-explosion",
    severity="warning",
    needs=("grad_norm",),
    explains={"LRN007": "any", "LRN001": "any", "OUT010": "any", "GRD002": "any", "ACT002": "any"},
)
def norm_explosion(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Batch normalisation after every layer makes the gradient grow with depth."""
    chain = _normalised_chain(trace)
    if len(chain) < bounds.norm.depth:
        return []
    norms = [trace.first("grad_norm", node.name) or 0.0 for node in chain]
    if not all(np.isfinite(norms)) or min(norms) <= 0:
        return []
    factor, total = per_layer(norms[-1], norms[0], len(chain)), norms[0] / norms[-1]
    ended = outcome(trace, bounds.outcome)
    if total < bounds.norm.explodes or not falls_short(ended, bounds.outcome):
        return []
    slope, fit = _trend(norms)
    if fit < bounds.norm.straight:
        return []  # a jump somewhere is another fault
    first, last = chain[0], chain[-1]
    return [
        Finding(
            code="NRM004",
            name="norm-explosion",
            severity="warning",
            layer=first.name,
            step=0,
            confidence=0.7,
            summary=(
                f"Through {len(chain)} batch-normalised layers the gradient grows by a factor of {slope:.2f} "
                f"a layer on its way back ({PER_LAYER:.2f} is what ReLU and batch normalisation give at the "
                f"start): at {first.name} it is {total:.0f} times that at {last.name}. Lead ways around "
                "pairs of layers (residual blocks), or take fewer of them."
            ),
            evidence=(
                Evidence("grad_norm", norms[0], ">=", bounds.norm.explodes * norms[-1], first.name),
                Evidence("grad_norm", norms[-1], layer=last.name),
            ),
            rival=(
                "GRD002 exploding-gradient and INI004 signal-grows come from weights that are too large: a "
                f"normalisation takes their size out, and the growth of {factor:.2f} a layer stays."
            ),
            location=first.location,
        )
    ]


def _normalised_chain(trace: Recording) -> list[Node]:
    """The longest run of weight layers whose outputs are batch-normalised, with no way around any of them."""
    nodes = trace.structure.nodes
    layers = weight_layers(trace)
    runs: list[list[Node]] = [[]]
    for node in layers:
        behind = next(trace.structure.after(node.name), None)
        if behind is not None and behind.type.startswith(("BatchNorm", "SyncBatchNorm")):
            runs[-1].append(node)
        else:
            runs.append([])
    longest = max(runs, key=len)
    if not longest:
        return []
    names = [node.name for node in nodes]
    start, end = names.index(longest[0].name), names.index(longest[-1].name)
    forks = any(len(node.inputs) > 1 for node in nodes[start : end + 1])
    return [] if forks else longest


def _trend(norms: list[float]) -> tuple[float, float]:
    """Factor per layer towards the input by a straight line through the logarithms, and its R^2."""
    depth, logs = np.arange(len(norms))[::-1], np.log(norms)
    slope, start = np.polyfit(depth, logs, 1)
    rest = float(np.var(logs - (slope * depth + start)))
    return math.exp(float(slope)), 1 - rest / max(float(np.var(logs)), 1e-300)
