"""Which treatments a trial tries: what the findings propose, each with the one of its nearest rival cause."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from unstuck.diagnose.finding import Finding
from unstuck.diagnose.remedies import Kind, parse

_USUAL_RIVAL: dict[Kind, str] = {
    "init": "lr*10",
    "lr": "init=glorot_uniform",
    "activation": "init=glorot_uniform",
    "data": "lr*10",
    "insert": "init=glorot_uniform",
    "loss": "lr*10",
    "order": "lr*0.1",
    "output": "lr*0.1",
    "draws": "lr*10",
    "zero_grad": "lr*0.1",
    "clip": "lr*0.1",
    "schedule": "lr*10",
    "dropout": "lr*0.1",
    "target": "lr*0.1",
    "optimizer": "lr*10",
    "bias": "lr*10",
    "width": "lr*10",
    "epochs": "lr*10",
    "memory": "lr*0.1",
    "masked": "lr*0.1",
    "bias_correction": "epochs*4",
    "grow": "lr*10",
    "batch": "lr*0.1",
    "mode": "lr*10",
    "norm": "lr*0.1",
    "weights": "lr*10",
}
"""Where only one cause was found: what the next best guess would try. A bad start and badly scaled data look
like steps too small, steps too small and a bad activation like a bad start, bad order and an output that dies
like large steps, equal neurons like steps too small. Old gradients, large gradients, noise from dropout and
wrong targets look like large steps, and so does what is forgotten; parameters that stay behind, bad biases, a
schedule that ends early and too few units like small ones. Small batches and the noise of their normalisation
look like large steps, the wrong mode, dead units and rare classes that are never answered like small ones."""


class Proposal(NamedTuple):
    """A treatment, the code of the finding that it answers, and the rival that it must be told from."""

    treatment: str
    code: str
    rival: str | None


def choose(findings: Sequence[Finding]) -> tuple[Proposal, ...]:
    """The treatments of all findings, most likely cause first, each proposed once.

    The rival of a treatment is the first treatment of another kind that another finding proposes; if no other
    finding has one, that of the cause which is most often confused with this one. So a verdict can say that
    this cause was it, and not that one.

    Args:
        findings: root causes, in the order of the diagnosis.

    Returns:
        One proposal a treatment, for the first finding that proposes it.

    Raises:
        UnstuckError: a treatment that cannot be read.

    Example:
        >>> from unstuck.diagnose.finding import TreatmentRef
        >>> zero = Finding("INI001", "zero-weights", "error", "fc1", 0, 0.99, "",
        ...                treatments=(TreatmentRef("init=glorot", "draw the weights"),))
        >>> choose([zero])
        (Proposal(treatment='init=glorot', code='INI001', rival='lr*10'),)
    """
    proposals: dict[str, Proposal] = {}
    for finding in findings:
        others = [other for other in findings if other.code != finding.code]
        for treatment in (reference.id for reference in finding.treatments):
            if treatment not in proposals:
                proposals[treatment] = Proposal(treatment, finding.code, _rival(treatment, others))
    return tuple(proposals.values())


def recommend(treatment: str, code: str) -> Proposal:
    """A treatment that no finding proposes but people recommend, with the rival that is usual for its kind.

    Args:
        treatment: its id.
        code: of the finding that it is tried against.

    Raises:
        UnstuckError: the id cannot be read.

    Example:
        >>> recommend("init=glorot@Conv2d", "INI002")
        Proposal(treatment='init=glorot_uniform@Conv2d', code='INI002', rival='lr*10')
    """
    parsed = parse(treatment)
    return Proposal(str(parsed), code, _USUAL_RIVAL.get(parsed.kind))


def _rival(treatment: str, others: Iterable[Finding]) -> str | None:
    kind = parse(treatment).kind
    proposed = (reference.id for finding in others for reference in finding.treatments)
    return next((rival for rival in proposed if parse(rival).kind != kind), _USUAL_RIVAL.get(kind))
