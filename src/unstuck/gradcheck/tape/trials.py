"""Typical mistakes, each as other rules for some steps of a forward pass that was written down."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from unstuck.gradcheck.known.functions import Activation, derivative_slips
from unstuck.gradcheck.tape.assigned_trials import of_assigned
from unstuck.gradcheck.tape.branch_trials import of_branches
from unstuck.gradcheck.tape.gather_trials import of_gathers
from unstuck.gradcheck.tape.geometry_trials import by_place, of_geometry
from unstuck.gradcheck.tape.graph import Graph, Unit
from unstuck.gradcheck.tape.held import held
from unstuck.gradcheck.tape.loss_trials import of_losses
from unstuck.gradcheck.tape.order_trials import of_orders
from unstuck.gradcheck.tape.product_trials import of_products
from unstuck.gradcheck.tape.record import Edge, Place, Record
from unstuck.gradcheck.tape.reverse import Override
from unstuck.gradcheck.tape.scatter_trials import of_scatters
from unstuck.gradcheck.tape.shared_trials import of_shared
from unstuck.gradcheck.tape.slice_trials import of_blocks, of_slices
from unstuck.gradcheck.tape.tensor_trials import of_tensors
from unstuck.gradcheck.tape.trial import (
    FIRST,
    LAST,
    MOST_ALONE,
    SECOND,
    THIRD,
    Change,
    Trial,
    changed,
    cut,
    fullest,
)
from unstuck.gradcheck.tape.window_trials import of_windows
from unstuck.gradcheck.tree import Array

ONCE_MORE = "p - t is the derivative of sigmoid and cross-entropy; the sigmoid is differentiated once more"
NEIGHBOURS = 4
"""So many statistics after one may be of the same normalisation: its mean, its variance, and their parts."""


def trials(graph: Graph, inputs: set[str]) -> list[Trial]:
    """All mistakes that are tried, the most typical first.

    Args:
        graph: the forward pass.
        inputs: tensors that are no parameters.
    """
    found: list[Trial] = []
    inside: set[int] = set()
    sets: list[tuple[str, list[Trial]]] = []
    """What is tried at all steps of a place, with its line."""
    for place, site in reversed(
        graph.sites.items()
    ):  # larger functions first: the last step of them comes last
        for number, group in enumerate(_groups(site, graph)):
            made = list(_functions(graph, group, graph.said(place), inside))
            found += made
            sets += [(graph.said(place), made)] if number == 0 else []
    for place, site in graph.sites.items():
        for number, group in enumerate(_groups(site, graph)):
            made = list(_of_group(graph, place, group, inputs))
            if group[0].number in inside:
                made = [_of_function(trial) for trial in made]
            found += made
            sets += [(graph.said(place), made)] if number == 0 else []
    moved = list(of_tensors(graph, inputs))
    found += [trial for _, trial in moved]
    found += of_losses(graph)
    found += [*of_slices(graph), *of_blocks(graph)]
    geometry = list(of_geometry(graph))
    found += geometry
    found += of_shared(graph, by_place(graph, geometry))
    found += of_scatters(graph)
    found += of_windows(graph)
    found += of_gathers(graph)
    found += of_orders(graph)
    found += of_branches(graph)
    found += of_shared(graph, sets)
    found += of_shared(graph, [(name, [trial]) for name, trial in moved], "each of several tensors")
    found += of_assigned(graph)
    constant = [trial for trial in found if trial.kind == "statistics-held-constant"]
    for number, one in enumerate(constant):
        for two in constant[number + 1 : number + 1 + NEIGHBOURS]:
            if one.overrides.keys() & two.overrides.keys():
                continue
            both = {**one.overrides, **two.overrides}
            found.append(replace(one, overrides=both, rank=SECOND, tensors=one.tensors | two.tensors))
    return sorted(found, key=lambda trial: trial.rank)


def _of_function(trial: Trial) -> Trial:
    """A slip in one of the steps of an activation is a wrong derivative of it, whatever it is."""
    if trial.kind in {"sign-flipped", "time-not-carried"}:
        return replace(trial, rank=trial.rank + 1)
    return replace(trial, kind="activation-derivative-wrong", rank=max(trial.rank, THIRD))


def _groups(site: list[Record], graph: Graph) -> list[list[Record]]:
    """All steps of one place together; and each alone, where they are those of different layers."""
    if len(site) == 1:
        return [site]
    owners = [frozenset(graph.owners(record)) for record in site]
    few = len(site) <= MOST_ALONE and len({graph.tensors[record.number] for record in site}) > 1
    if few or len(set(owners)) > 1:
        return [site, *([record] for record in site[: 2 * MOST_ALONE])]
    return [site]


def _nothing(*_: object) -> None:
    """No gradient at all."""


def _onto(unit: Unit, change: Callable[[Array], Array]) -> Override:
    """The function of several steps as one, with another derivative."""
    return lambda _, dy: [(unit.ids, change(dy))]


def _of_group(graph: Graph, place: Place, group: list[Record], inputs: set[str]) -> Iterator[Trial]:
    tensors = frozenset().union(*(graph.tensors[record.number] for record in group))
    line = graph.said(place)

    def trial(kind: str, text: str, rank: int, override: Override, *, fit: bool = False) -> Trial:
        return Trial(kind, text + line, {record.number: override for record in group}, rank, tensors, fit)

    first = fullest(group)
    yield trial(
        "sign-flipped",
        "what is passed on here has the wrong sign",
        SECOND,
        changed(lambda e, dy: -e.pull(dy, None)),
    )
    statistic = graph.statistic(first)
    rank = LAST - statistic
    yield trial("factor", "what is passed on here", rank, changed(_nothing), fit=True)
    if statistic:
        yield trial(*held(graph, first), FIRST, changed(_nothing))
    if len(first.edges) > 1:
        twice = np.array_equal(
            first.edges[0].ids, first.edges[1].ids
        )  # of a square, one half takes the other away
        for number in (edge.slot for edge in first.edges if not twice):
            yield trial(
                "sign-flipped",
                "what is passed on to an operand here has the wrong sign",
                SECOND,
                changed(lambda e, dy: -e.pull(dy, None), number),
            )
            yield trial(
                "path-forgotten",
                "one of the ways on which the gradient comes back is forgotten here",
                THIRD,
                changed(_nothing, number),
            )
            yield trial(
                "factor",
                "what is passed on to an operand here",
                LAST,
                changed(_nothing, number),
                fit=True,
            )
    if first.name in {"product", "multiply", "divide"}:
        yield from of_products(graph, trial, group, inputs)
    if first.name == "max" and sum(record.value.size for record in group) > 1:
        yield trial(
            "pooling-to-all",
            "max pooling gives its gradient to all of a window",
            FIRST,
            changed(lambda e, dy: e.pull(dy, np.ones(e.value.shape))),
        )
        yield trial(
            "pooling-to-first",
            "max pooling gives its gradient to the first of a window",
            FIRST,
            changed(lambda e, dy: e.pull(dy, _firsts(e, dy.shape))),
        )
    for number in (edge.slot for edge in first.edges if edge.value.size < first.value.size):
        for at, which in ((0, "first"), (-1, "last")):
            text = f"what an operand gets here is that of the {which} of its uses alone: it is not added up"
            yield trial("not-summed", text, THIRD, changed(_of_one(at), number))
    yield from _in_time(graph, group, line, tensors)


def _of_one(at: int) -> Change:
    """One part of the gradient of an operand that is repeated."""

    def change(edge: Edge, dy: Array) -> Array:
        parts = edge.parts(dy) if edge.parts is not None else None
        if parts is None:
            return edge.pull(dy, None)
        return parts.reshape(-1, *edge.value.shape)[at]

    return change


def _firsts(edge: Edge, out: tuple[int, ...]) -> Array:
    """1 at the first place of every window."""
    wide = edge.pull(np.arange(np.prod(out), dtype=np.float64).reshape(out), np.ones(edge.value.shape))
    made = np.zeros(wide.shape)
    inside = [size > 1 and not np.ptp(wide, axis=axis).any() for axis, size in enumerate(wide.shape)]
    made[tuple(0 if one else slice(None) for one in inside)] = 1.0
    return made


def _functions(graph: Graph, group: list[Record], line: str, inside: set[int]) -> Iterator[Trial]:
    """Slips in activations and softmaxes; the steps that these are made of are added to `inside`."""
    tensors = frozenset[str]().union(*(graph.tensors[record.number] for record in group))
    soft = graph.softmax(group)
    if soft is not None:
        axis, units = soft
        yield from _softmaxes(axis, units, line, tensors)
        return
    if any(record.number in inside for record in group):
        return
    found = graph.activation(group)
    if found is None and (kept := graph.clipped(group)) is not None:
        yield from _clips(graph, kept[1], line, tensors, inside)
        return
    if found is None:
        yield from _bends(graph.bent(group), line, tensors, inside)
        return
    f, units = found
    for unit in units:
        inside |= graph.hidden(unit)
    yield from _derivatives(graph, f, units, line, tensors)


def _derivatives(
    graph: Graph, f: Activation, units: list[Unit], line: str, tensors: frozenset[str]
) -> Iterator[Trial]:
    """Wrong derivatives of an activation."""
    rare = f.name in {"square", "exp", "sin"}
    for name, (kind, text, _) in derivative_slips(f, units[0].z, units[0].record.value).items():
        if rare and name != "missing":
            continue
        overrides: dict[int, Override] = {}
        for unit in units:
            factor = derivative_slips(f, unit.z, unit.record.value)[name][2]
            overrides[unit.record.number] = _onto(unit, lambda dy, c=factor: dy * c)
        rank = (FIRST if name == "missing" else SECOND) + 3 * rare
        if name == "twice" and f.name == "sigmoid" and graph.is_logged(units[0].record):
            yield Trial("softmax-twice", ONCE_MORE + line, overrides, rank, tensors)
            continue
        yield Trial(kind, text + line, overrides, rank, tensors)
    if f.name == "softplus":  # that of -z is the logarithm of a sigmoid, whose derivative is p - t
        ps = [f.slope(unit.z) for unit in units]
        overrides = {
            unit.record.number: _onto(unit, lambda dy, p=p: dy * p * p * (1 - p))
            for unit, p in zip(units, ps, strict=True)
        }
        yield Trial("softmax-twice", ONCE_MORE + line, overrides, SECOND, tensors)
    for text, factors in () if rare else _miswritten(f, units):
        overrides = {
            unit.record.number: _onto(unit, lambda dy, c=factor: dy * c)
            for unit, factor in zip(units, factors, strict=True)
        }
        yield Trial("activation-derivative-wrong", text + line, overrides, THIRD, tensors)
    if "ReLU" in f.name:
        masks = {unit.record.number: _onto(unit, lambda dy: dy * (dy > 0)) for unit in units}
        text = f"the mask of {f.name} is made from the gradient instead of the input"
        yield Trial("activation-derivative-wrong", text + line, masks, THIRD, tensors)


FORMULAS: dict[str, Callable[[Array], Array]] = {
    "1 - a": lambda a: 1 - a,
    "1 + a": lambda a: 1 + a,
    "1 - a^2": lambda a: 1 - a * a,
    "1 + a^2": lambda a: 1 + a * a,
    "a^2": lambda a: a * a,
    "a (1 - a)": lambda a: a * (1 - a),
    "a (1 + a)": lambda a: a * (1 + a),
    "(1 - a)^2": lambda a: (1 - a) ** 2,
    "(1 + a)^2": lambda a: (1 + a) ** 2,
}
"""What people write for the derivative of an activation a with a slip in it."""


def _miswritten(f: Activation, units: list[Unit]) -> Iterator[tuple[str, list[Array]]]:
    """Formulas of the output that are not the derivative."""
    if f.slope_of_output is None or "ReLU" in f.name:
        return
    outputs = [unit.record.value for unit in units]
    right = f.slope_of_output(outputs[0])
    for formula, make in FORMULAS.items():
        if not np.allclose(make(outputs[0]), right):
            text = f"the derivative of {f.name} is written as {formula}, with a its output"
            yield text, [make(a) for a in outputs]


def _bends(units: list[Unit] | None, line: str, tensors: frozenset[str], inside: set[int]) -> Iterator[Trial]:
    if not units:
        return
    for unit in units:
        inside |= unit.inner
    overrides = {unit.record.number: _onto(unit, lambda dy: dy) for unit in units}
    text = "the derivative of what chooses between two sides is missing"
    yield Trial("activation-derivative-missing", text + line, overrides, FIRST, tensors)
    overrides = {unit.record.number: _onto(unit, lambda dy, z=unit.z: dy * (z > 0)) for unit in units}
    text = "the negative side's slope is forgotten"
    yield Trial("activation-derivative-wrong", text + line, overrides, FIRST, tensors)


def _clips(
    graph: Graph, units: list[Unit], line: str, tensors: frozenset[str], inside: set[int]
) -> Iterator[Trial]:
    """What is kept between two bounds: both of them forgotten, or one."""
    for unit in units:
        inside |= unit.inner
    overrides = {unit.record.number: _onto(unit, lambda dy: dy) for unit in units}
    text = "the derivative of what keeps it between two bounds is missing"
    yield Trial("activation-derivative-missing", text + line, overrides, FIRST, tensors)
    for last in (True, False):
        overrides = {}
        for unit in units:
            inner = graph.records[min(unit.inner)]
            edge = (unit.record if last else inner).edges[0]
            kept = edge.pull(np.ones(unit.z.shape), None)
            overrides[unit.record.number] = _onto(unit, lambda dy, k=kept: dy * k)
        text = "one of the two bounds between which it is kept is forgotten"
        yield Trial("activation-derivative-wrong", text + line, overrides, FIRST, tensors)


def _softmaxes(axis: int, units: list[Unit], line: str, tensors: frozenset[str]) -> Iterator[Trial]:
    off = "the softmax's derivative has only its diagonal: its off-diagonal terms are missing"

    others = "in the softmax's derivative the part of the other outputs has the wrong sign"

    def once(p: Array, dy: Array) -> Array:
        return p * (dy - (dy * p).sum(axis=axis, keepdims=True))

    slips: list[tuple[str, str, Callable[[Array, Array], Array]]] = [
        ("softmax-diagonal-only", off, lambda p, dy: dy * p * (1 - p)),
        ("softmax-diagonal-only", f"{off}, and so is the minus in p (1 - p)", lambda p, dy: dy * p),
        ("activation-derivative-missing", "the derivative of the softmax is missing", lambda _, dy: dy),
        ("softmax-twice", "the softmax is differentiated twice", lambda p, dy: once(p, once(p, dy))),
        ("softmax-twice", "the softmax is differentiated twice", lambda p, dy: once(p, dy) * p * (1 - p)),
        ("sign-flipped", others, lambda p, dy: p * (dy + (dy * p).sum(axis=axis, keepdims=True))),
        ("sign-flipped", others, lambda p, dy: 2 * dy * p * (1 - p) - once(p, dy)),
    ]
    for kind, text, change in slips:
        overrides = {
            unit.record.number: _onto(unit, lambda dy, p=unit.record.value, c=change: c(p, dy))
            for unit in units
        }
        yield Trial(kind, text + line, overrides, FIRST, tensors)


def _in_time(graph: Graph, group: list[Record], line: str, tensors: frozenset[str]) -> Iterator[Trial]:
    """What a step of a loop made, not carried back from the next turn of the loop."""
    ways = graph.carried(group)
    if not ways:
        return
    kept = "the gradient is not carried back from a step to the one before"
    places = {user.place for user, _, _ in ways}
    for chosen in (None, *places) if len(places) > 1 else (None,):
        cuts: dict[int, list[tuple[int, Record]]] = {}
        for user, number, made in ways:
            if chosen is None or user.place == chosen:
                cuts.setdefault(user.number, []).append((number, made))
        text = kept + line if chosen is None else f"{kept} on one of its ways{graph.said(chosen)}"
        overrides = {number: cut(parts, 0.0) for number, parts in cuts.items()}
        yield Trial("time-not-carried", text, overrides, FIRST if chosen is None else SECOND, tensors)
        text = f"what is carried back from a step to the one before has the wrong sign{line}"
        overrides = {number: cut(parts, -1.0) for number, parts in cuts.items()}
        yield Trial("sign-flipped", text, overrides, THIRD, tensors)
