"""Rules on how samples come: in runs of one label, with labels that are not theirs, mixed with each other."""

import math
from typing import Final

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.outcome import outcome
from unstuck.diagnose.registry import NotChecked, Where, rule
from unstuck.trace.recording import Recording

_NOTHING: Final[dict[str, Where]] = {"OUT010": "any", "LRN002": "any", "LRN001": "any", "ACT002": "any"}


@rule(
    "DAT006",
    "unshuffled",
    severity="warning",
    needs=("target.mean", "target.std"),
    explains=_NOTHING,
    from_step_0=False,
)
def unshuffled(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Batches differ in their targets far more than chance allows: samples come in runs of one kind."""
    means, spreads = trace.series("target.mean"), trace.series("target.std")
    facts = trace.structure.loss_facts
    batch = facts.target_shape[0] if facts is not None and facts.target_shape else 0
    known = np.isfinite(means.values)
    if int(known.sum()) < bounds.data.batches or means.values.size != spreads.values.size or batch < 4:
        raise NotChecked(f"it needs {bounds.data.batches} measured batches of four samples at least")
    between = float(np.var(means.values[known], ddof=1))
    within = float(np.mean(spreads.values[known] ** 2))
    if not between + within > 0 or trace.meta.examined:
        return []
    share = between / (between + within)
    ended = outcome(trace, bounds.outcome)
    # shuffled batches differ by 1/batch of the variance, give or take its own chance
    if share < bounds.data.runs or share < 4 / batch or ended.word == "learned":
        return []
    wrong = trace.meta.task == "classification" or ended.word in {"not learned", "diverged"}
    return [
        Finding(
            code="DAT006",
            name="unshuffled",
            severity="warning" if wrong else "info",
            layer=None,
            step=0,
            confidence=0.9 if wrong else 0.6,
            summary=(
                f"{share:.0%} of the targets' variance lies between batches; shuffled batches of {batch} "
                "would "
                f"have about {1 / batch:.0%}. The samples come in runs of one kind, and the network learns "
                "each "
                "run and forgets the one before. Shuffle the samples (shuffle=True)."
            ),
            evidence=(Evidence("target.mean", share, ">=", bounds.data.runs),),
            rival=(
                "LRN001 learning-rate-too-high: a saw-toothed loss too; but here the batches themselves "
                "differ."
            ),
        )
    ]


@rule(
    "DAT004",
    "misaligned-labels",
    severity="error",
    needs=("probe.permuted",),
    explains=_NOTHING,
    from_step_0=False,
)
def misaligned_labels(trace: Recording, bounds: Bounds) -> list[Finding]:
    """What is learned from the labels is no more than is learned from the same labels dealt out at random."""
    ratio = trace.last("probe.permuted")
    if ratio is None or not math.isfinite(ratio):
        raise NotChecked("the fall of the loss with dealt-out labels was not measured")
    if outcome(trace, bounds.outcome).word == "learned" or ratio < bounds.data.permuted:
        return []
    return [
        Finding(
            code="DAT004",
            name="misaligned-labels",
            severity="error",
            layer=None,
            step=0,
            confidence=0.8,
            summary=(
                f"With the labels dealt out at random the loss falls {ratio:.2f} times as far as with the "
                "true "
                "ones: the labels seem to have nothing to do with their inputs. Were inputs and labels "
                "shuffled "
                "or sorted apart?"
            ),
            evidence=(Evidence("probe.permuted", ratio, ">=", bounds.data.permuted),),
            rival="LRN002 learning-rate-too-low: then neither falls; look at whether the loss falls at all.",
        )
    ]


@rule(
    "OUT011",
    "mixed-samples",
    severity="error",
    needs=("probe.mixing",),
    explains={"OUT010": "any", "LRN002": "any", "LRN001": "any", "OUT002": "any"},
)
def mixed_samples(trace: Recording, bounds: Bounds) -> list[Finding]:
    """A sample's answer depends on other samples of its batch, though no normalisation explains it."""
    mixing = trace.last("probe.mixing")
    if mixing is None or not math.isfinite(mixing):
        raise NotChecked("whether samples mix was not measured")
    normalised = any("BatchNorm" in node.type for node in trace.structure.nodes)
    ended = outcome(trace, bounds.outcome)
    if mixing < bounds.output.mixed or normalised or ended.word == "learned":
        return []
    sure = ended.word in {"not learned", "diverged"} or trace.meta.examined
    return [
        Finding(
            code="OUT011",
            name="mixed-samples",
            severity="error" if sure else "info",
            layer=None,
            step=0,
            confidence=0.9 if sure else 0.6,
            summary=(
                f"Replacing one sample of the batch changes the answers for the others {mixing:.2g} times "
                "as much "
                "as its own. Somewhere axes are mixed up: a softmax over the batch (dim=0), a view or "
                "reshape "
                "where a transpose is meant."
            ),
            evidence=(Evidence("probe.mixing", mixing, ">=", bounds.output.mixed),),
            rival="Batch normalisation mixes samples on purpose, and a little; there is none here.",
        )
    ]


@rule(
    "OUT012",
    "summed-loss",
    severity="warning",
    needs=("probe.duplicate",),
    explains={"LRN001": "any", "GRD002": "any", "ACT002": "any"},
)
def summed_loss(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Loss and gradient are sums over the batch: every step is as many times larger as it has samples."""
    twice = trace.last("probe.duplicate")
    if twice is None or not math.isfinite(twice):
        raise NotChecked("the gradient of the doubled batch was not measured")
    if twice < bounds.output.summed or outcome(trace, bounds.outcome).word not in {"not learned", "diverged"}:
        return []
    return [
        Finding(
            code="OUT012",
            name="summed-loss",
            severity="warning",
            layer=None,
            step=0,
            confidence=0.85,
            summary=(
                f"With every sample twice in the batch the gradient is {twice:.2f} times as large: the "
                "loss is a "
                "sum over samples, so that the right learning rate falls with the batch size. Take the mean."
            ),
            evidence=(Evidence("probe.duplicate", twice, ">=", bounds.output.summed),),
            rival="LRN001 learning-rate-too-high: a lower rate helps as well, until the batch size changes.",
        )
    ]
