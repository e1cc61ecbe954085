"""One slip in what a program does at several places: in a function that is called often, or by habit."""

from collections.abc import Iterator

from unstuck.gradcheck.tape.graph import Graph
from unstuck.gradcheck.tape.trial import LAST, Trial

MOST = 40
"""Places; with more of them there is no telling which belong together."""
Code = tuple[str, int]
"""File and line."""


def of_shared(graph: Graph, sets: list[tuple[str, list[Trial]]], each: str = "") -> Iterator[Trial]:
    """The same slip at all places of one line of code, as in a class of layers, and at all places there are.

    Args:
        graph: the forward pass.
        sets: what is tried at each place, with what only its texts have: the user's line, a tensor's name.
        each: what stands there instead.
    """
    alike: dict[tuple[str, str, int], list[tuple[Trial, str]]] = {}
    for told, made in sets:
        counts: dict[tuple[str, str], int] = {}
        for trial in made:
            text = trial.text.replace(told, each) if told else trial.text
            key: tuple[str, str] = ("", trial.alike) if trial.alike else (trial.kind, text)
            counts[key] = counts.get(key, 0) + 1
            alike.setdefault((key[0], key[1], counts[key]), []).append((trial, text))
    for pairs in alike.values():
        found, text = [trial for trial, _ in pairs], pairs[0][1]
        if not 1 < len(found) <= MOST:
            continue
        by_line: dict[Code, list[Trial]] = {}
        for trial in found:
            by_line.setdefault(_code(graph, trial), []).append(trial)
        for code, some in by_line.items():
            if len(some) > 1 and (len(some) < len(found) or len(by_line) == 1):
                yield from _together(some, f"{text}{graph.told(*code)}, at all {len(some)} places of it")
        if len(by_line) > 1 and not found[0].fit:
            yield from _together(found, f"{text}, at all {len(found)} places where it could be")


def _code(graph: Graph, trial: Trial) -> Code:
    """The innermost line of what is overridden."""
    return graph.records[max(trial.overrides)].place.line


def _together(found: list[Trial], text: str) -> Iterator[Trial]:
    overrides = dict(pair for trial in found for pair in trial.overrides.items())
    if len(overrides) < sum(len(trial.overrides) for trial in found):
        return  # they are slips of the same steps
    tensors = frozenset[str]().union(*(trial.tensors for trial in found))
    rank = min(max(trial.rank for trial in found) + 1, LAST)
    yield Trial(found[0].kind, text, overrides, rank, tensors, found[0].fit)
