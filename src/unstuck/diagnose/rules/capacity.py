"""Rules on what a network could do at all: nothing non-linear in it, noise that drowns the signal."""

import math

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.measured import LOOKS_UP, names, on_one_way, weight_layers
from unstuck.diagnose.outcome import falls_short, outcome
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording
from unstuck.trace.structure import NONLINEAR, NORMALISING, Node

_LINEAR = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d"})
_PASSES = frozenset(
    {
        *("Identity", "Dropout", "Flatten", "AvgPool2d", "AdaptiveAvgPool2d"),
        *("flatten", "view", "unsafe_view", "squeeze", "unsqueeze"),
        *("transpose", "permute", "t", "mean", "sum", "add", "sub", "cat", "reshape", "clone"),
    }
)
"""What is linear and has no weights of its own."""


@rule(
    "ACT004",
    "linear-stack",
    severity="warning",
    explains={"ARC001": "any", "LRN007": "any", "OUT010": "any", "LRN002": "any"},
)
def linear_stack(trace: Recording, bounds: Bounds) -> list[Finding]:
    """No operation of the network is non-linear: all layers together can do what one layer can."""
    layers = weight_layers(trace)
    if not _shows_operations(trace):
        raise NotChecked("the network's operations are not known")
    if not all(node.trainable for node in layers):
        raise NotChecked("what happens between frozen layers is not seen")
    stack = _stack(trace, layers)
    # beside each other (a trend and what is left) they are one linear model, made on purpose
    if len(on_one_way(trace, stack)) < 2 or len(stack) < len(layers):
        return []
    if not falls_short(outcome(trace, bounds.outcome), bounds.outcome):
        return []
    return [
        Finding(
            code="ACT004",
            name="linear-stack",
            severity="warning",
            layer=stack[0].name,
            step=0,
            confidence=0.9,
            summary=(
                f"{names(stack)} follow each other with nothing non-linear in between: together they are one "
                "linear layer, whatever their widths. Put an activation after each but the last."
            ),
            evidence=(
                Evidence("weight_norm", trace.first("weight_norm", stack[0].name), layer=stack[0].name),
            ),
            rival=(
                "A bottleneck of two linear layers is made on purpose; here nothing else bends the answer "
                "either."
            ),
            location=stack[0].location,
        )
    ]


def _shows_operations(trace: Recording) -> bool:
    """Whether what lies between the layers was seen: a loop of one's own may log its weights only."""
    nodes = trace.structure.nodes
    if trace.meta.kind == "torch":  # a loss of its own is seen with all that makes it: a number at the end
        whole = bool(nodes) and not nodes[-1].parameters and nodes[-1].shape == ()
        return bool(nodes) and (trace.structure.loss_facts is not None or whole)
    return bool(nodes) and (trace.meta.kind != "arrays" or any(not node.parameters for node in nodes))


def _stack(trace: Recording, layers: list[Node]) -> list[Node]:
    """Weight layers on a chain of operations that are all linear, from the input to the last weight layer.

    What comes after that one (a softmax, a sigmoid) belongs to the loss. A narrow layer in between is made on
    purpose: what passes it is not what one full layer could give.
    """
    found: list[Node] = []
    nodes = list(trace.structure.nodes)
    last = max((i for i, node in enumerate(nodes) if node in layers), default=-1)
    for node in nodes[: last + 1]:
        if node.type in _LINEAR and node in layers:
            found.append(node)
        elif node.type in LOOKS_UP:
            continue  # a table is a layer of numbers that are 0 or 1
        elif (
            node.type in NONLINEAR
            or (node.type not in _PASSES and node.type not in NORMALISING and not _scales(node))
            or (node.type in NORMALISING and not node.type.startswith("BatchNorm"))
        ):
            return []
    ends = min(found[0].fan_in, found[-1].units) if found else 0
    return found if all(node.units >= ends for node in found) else []


def _scales(node: Node) -> bool:
    """Whether an operation multiplies what it reads by numbers of the model's own."""
    return node.type in {"mul", "div"} and len(node.inputs) == 1 and bool(node.parameters)


@rule(
    "NRM001",
    "dropout-too-strong",
    severity="warning",
    explains={
        "ARC001": "any",
        "LRN007": "any",
        "OUT010": "any",
        "LRN001": "any",
        "LRN002": "any",
        "DAT004": "any",
    },
    preview=False,
)
def dropout_too_strong(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Dropout leaves so little of a layer that nothing can be learned through it."""
    if not trace.structure.nodes:
        raise NotChecked("the network's operations are not known")
    drops = [node for node in trace.structure.nodes if node.type.startswith(("Dropout", "AlphaDropout"))]
    known = [(node, float(node.options["p"])) for node in drops if "p" in node.options]
    if not known:
        return []
    if not falls_short(outcome(trace, bounds.outcome), bounds.outcome):
        return []
    node, share = max(known, key=lambda one: one[1])
    if share < bounds.data.dropped:
        return []
    gap = trace.last("probe.mode_gap")
    shown = gap is not None and math.isfinite(gap)
    return [
        Finding(
            code="NRM001",
            name="dropout-too-strong",
            severity="warning",
            layer=node.name,
            step=0,
            confidence=0.85,
            summary=(
                f"{node.name} sets {share:.0%} of its numbers to 0 in every step, and the training does "
                "not get "
                "far. Usual is 10 % to 50 %; p is the share that is dropped, not the share that is kept."
                + (f" In evaluation mode the loss is {gap:.0%} lower." if shown and gap is not None else "")
            ),
            evidence=(Evidence("probe.mode_gap", gap), Evidence("loss", trace.last("loss"))),
            rival=(
                "LRN007 noisy-gradient: batches too small give noise as well; here most of it is dropout's."
            ),
            location=node.location,
            apart=("",),  # so it was built
        )
    ]
