"""How far a training can get whatever its gradients are: what rate, clipping and decay leave of it."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.measured import moving, typical, used
from unstuck.diagnose.outcome import constant_loss
from unstuck.diagnose.paths import total_gradient
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Node

SCALED: Final = frozenset({"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta"})
"""Optimisers whose steps are the same if all gradients are multiplied by one number."""
BY_RATE: Final = SCALED - {"Adagrad", "Adadelta"}
"""Those whose steps change a weight by about the learning rate at most, from the first to the last."""


def trained(trace: Recording) -> list[Node]:
    """Layers that an optimiser holds, or may hold; tables where there is nothing else."""
    return [node for node in moving(trace) if node.trainable and node.optimised is not False]


def usual_size(trace: Recording, node: Node) -> float:
    r"""Norm of a layer's weights at the start, $\sqrt{\mathrm{units}}$ at most, and so if it began at 0.

    Weights of variance 1 / fan-in, which leave the size of a signal as it is, have this norm.
    """
    norm, usual = trace.first("weight_norm", node.name) or 0.0, math.sqrt(max(node.units, 1))
    return min(norm, usual) if norm > 0 else usual


def way(trace: Recording, node: Node) -> float:
    """How far a layer got from its start, in units of its weights; of a usual size if it began at 0.

    Of a table, as if one batch's rows had moved alone: the others are not to be counted. NaN if unknown.
    """
    way = trace.last("drift", node.name)
    if trace.first("weight_norm", node.name) == 0:
        far = trace.last("drift_norm", node.name)
        way = None if far is None else far / usual_size(trace, node)
    return math.nan if way is None else way / math.sqrt(used(trace, node))


def by_rate(trace: Recording) -> float:
    r"""The farthest that any layer can get in units of its usual size, if every step goes the same way.

    $$\frac{\sum_t \eta_t \sqrt{n}}{|W|}$$

    for optimisers whose step is the learning rate for each of a layer's $n$ weights.

    Returns:
        The largest of all layers; NaN for other optimisers, and where rate or weights were not measured.
    """
    rate = trace.series("lr").values
    rate = rate[np.isfinite(rate)]
    layers = trained(trace) or moving(trace)
    if trace.meta.optimizer not in BY_RATE or not rate.size or not layers:
        return math.nan
    way = float(rate.mean()) * trace.steps
    return max(
        way * math.sqrt(math.prod(node.parameters["weight"])) / usual_size(trace, node) for node in layers
    )


def sensitivity(trace: Recording) -> float:
    r"""How much of the loss a change of a layer's weights by their own size would take, at the start.

    $|W| \, |\partial L / \partial W| \, / \, |L|$, the largest of all layers: about 1 in a sound network,
    next to nothing where the gradient was lost on its way.
    """
    loss = trace.first("loss")
    if not loss or not math.isfinite(loss):
        return math.nan
    parts = [
        (trace.first("grad_norm", node.name) or 0.0) * (trace.first("weight_norm", node.name) or 0.0)
        for node in trained(trace)
    ]
    return max(parts, default=math.nan) / abs(loss)


def pushed(trace: Recording) -> float:
    """Largest part of a layer that the gradient moves in a usual step of SGD, decay left out; NaN if unknown.

    Rate times gradient, after clipping, times what momentum makes of it, over the size of the weights.
    """
    momentum = trace.meta.optimizer_options.get("momentum", 0.0)
    rate, ratio = typical(trace, "lr"), typical(trace, "clip_ratio")
    if trace.meta.optimizer != "SGD" or not momentum < 1 or not math.isfinite(rate):
        return math.nan
    ratio = ratio if math.isfinite(ratio) else 1.0
    return max(
        (
            rate
            * ratio
            * typical(trace, "grad_norm", node.name)
            / (1 - momentum)
            / (usual_size(trace, node) * math.sqrt(used(trace, node)))
            for node in trained(trace) or moving(trace)
        ),
        default=math.nan,
    )


def promised(trace: Recording) -> float:
    r"""What all steps of SGD would take off the loss if it fell as steeply as each step's gradient says.

    $$\frac{\sum_t \eta_t |g_t|^2}{(1 - m) \, |L_0|}$$

    Rather too much: a batch's gradient is longer than that of all samples, and steps of one size overshoot.
    NaN for other optimisers, and where rate, gradient or loss were not measured.
    """
    momentum, loss = trace.meta.optimizer_options.get("momentum", 0.0), trace.first("loss")
    gradient, rate = total_gradient(trace, held_only=True), trace.series("lr")
    if trace.meta.optimizer != "SGD" or not momentum < 1 or not loss or not math.isfinite(loss):
        return math.nan
    if not gradient.values.size or not rate.values.size:
        return math.nan
    steps = np.arange(trace.steps)
    rates, norms = (np.interp(steps, one.steps, one.values) for one in (rate, gradient))
    return float((rates * norms**2).sum()) / (1 - momentum) / abs(loss)


def outweighed(trace: Recording) -> float:
    r"""How much larger the decay's part of the first step is than the gradient's: $\lambda |W| / |g|$.

    Where the optimiser adds the two (SGD, Adam). The smallest of all layers; NaN where it keeps them apart.
    """
    options = trace.meta.optimizer_options
    if trace.meta.optimizer == "AdamW" or options.get("decoupled_weight_decay") == 1:
        return math.nan
    parts: list[float] = []
    for node in trained(trace):
        norm, gradient = trace.first("weight_norm", node.name), trace.first("grad_norm", node.name)
        if not norm or not gradient or not math.isfinite(gradient):
            return math.nan  # without a gradient anything is larger
        own = norm * math.sqrt(used(trace, node))  # of the rows that have a gradient
        parts.append(options.get("weight_decay", 0.0) * own / gradient)
    return min(parts, default=math.nan)


def halved(trace: Recording) -> float:
    r"""Steps in which weight decay alone halves the weights; NaN if unknown.

    $\ln 2 \,(1 - m) / (\eta \lambda)$, for SGD (with momentum $m$) and for optimisers that keep the
    decay apart from the gradient (AdamW).
    """
    options, rates = trace.meta.optimizer_options, trace.series("lr").values
    rates = rates[np.isfinite(rates)]
    apart = trace.meta.optimizer == "AdamW" or options.get("decoupled_weight_decay") == 1
    if not rates.size or not (apart or trace.meta.optimizer == "SGD"):
        return math.nan
    momentum = 0.0 if apart else options.get("momentum", 0.0)
    strength = float(rates.mean()) * options.get("weight_decay", 0.0)
    return math.log(2) * max(1 - momentum, 0.0) / strength if strength > 0 else math.inf


def clipped_force(trace: Recording) -> float:
    r"""What a clipped gradient would be to a sound network: $|W| \, |g| / L_0$, the largest of all layers.

    Weights count by their usual size and the loss by that of the best constant answer, so that a start far
    out of range changes nothing. NaN where something of it is not known.
    """
    ratio, baseline = typical(trace, "clip_ratio"), constant_loss(trace)
    parts = [
        ratio * typical(trace, "grad_norm", node.name) * usual_size(trace, node) for node in trained(trace)
    ]
    known = [part for part in parts if math.isfinite(part)]
    return max(known) / baseline if known and baseline > 0 else math.nan
