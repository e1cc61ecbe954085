"""How often the gradient check names a slip that nobody planted: single changes of right backward passes.

    python benchmarks/gradcheck_mutants.py [--count N] [--seed S] [--list] [--only WORD]

Each mutant is a program of `tests/own_*.py`, `tests/other_*.py` and so on, right but for one operation of
its backward pass: a factor dropped, a sign, another axis, another array of the same shape. Kinds of change
take turns. A name is right if it is true of the change (`mutations.py`), arguable if it may be, and otherwise
wrong. Mutants that fail, or that have the right gradients, are left out; deviations that the check leaves
alone by design are counted as small.
"""

import argparse
import ast
import collections
import contextlib
import io
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from mutant_programs import Array, Program, program, without_slips
from mutations import Finder, Mutation

import unstuck
from unstuck.gradcheck.tree import leaves

MODULES = (
    *("own_layers", "own_networks", "other_images", "other_networks", "other_sequences", "fresh_images"),
    *("fresh_loops", "fresh_networks", "fresh_sequences", "later_engines", "later_models", "later_windows"),
    *("newest_images", "newest_networks", "newest_sequences"),
    *("strange_images", "strange_networks", "strange_sequences"),
)
UNCHANGED, SMALL = 1e-6, 1e-3
"""Parts of a tensor's largest gradient: mutants that change less are left out, or small where not told."""
NOTHING = 1e-9
"""Of the largest gradient: a smaller one is zero but for rounding, as of a bias before a normalisation."""
WORDS = ("right", "arguable", "located", "wrong", "missed", "small", "crashed")


def programs() -> list[Program]:
    """All that are read."""
    return [
        program(module, node.name)
        for module in MODULES
        for node in without_slips(module).body
        if isinstance(node, ast.FunctionDef) and [arg.arg for arg in node.args.args] == ["slip", "rng"]
    ]


def gradients(parts: tuple[Any, ...], scale: float) -> dict[str, Array]:
    """What a backward pass gives, at the point or at one nearby."""
    forward, backward, params, x = parts
    rng = np.random.default_rng(2)
    y, cache = forward(params, np.asarray(x) * scale if isinstance(x, np.ndarray) else x)
    dy = rng.normal(size=np.shape(y)) if np.size(y) > 1 else np.ones(np.shape(y))
    dx, grads = backward(params, cache, dy)
    return {key: np.array(value, dtype=np.float64) for key, value in leaves({"g": grads, "x": dx}).items()}


def change(right: Program, tree: ast.Module) -> float:
    """By how much the largest deviation of a gradient is off, relative to it; negative: the mutant fails."""
    worst = 0.0
    for scale in (1.0, 1.1):
        try:
            with np.errstate(all="ignore"):
                wanted = gradients(right.built(), scale)
                found = gradients(right.built(tree, "mutant"), scale)
        except Exception:  # noqa: BLE001  (a mutant may fail in any way)
            return -1.0
        least = NOTHING * max(
            (float(np.abs(value).max(initial=0.0)) for value in wanted.values()), default=0.0
        )
        for name, value in wanted.items():
            other = found.get(name)
            if other is None or other.shape != value.shape:
                return 1.0
            if not np.isfinite(other).all():
                return -1.0
            largest = max(float(np.abs(value).max(initial=0.0)), least) or 1.0
            worst = max(worst, float(np.abs(other - value).max(initial=0.0)) / largest)
    return worst


def judged(right: Program, mutation: Mutation, tree: ast.Module, size: float) -> tuple[str, str]:
    """In a word how the check did, and what it said."""
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            report = unstuck.check_gradients(*right.built(tree, f"{right.builder} with a slip"))
        except unstuck.UnstuckError as error:
            return "crashed", str(error)
        except Exception as error:  # noqa: BLE001  (that is what is looked for)
            return "crashed", f"{type(error).__name__}: {error}"
    if report.ok or not report.mistakes:
        return ("missed" if size > SMALL else "small"), "nothing"
    first = report.mistakes[0]
    told = f"{first.tensor}: {first.kind}: {first.explanation}"
    if first.kind in mutation.true:
        return "right", told
    if first.kind == "unknown":
        return "located", told
    return ("arguable" if first.kind in mutation.may else "wrong"), told


def sample(rng: random.Random, only: str) -> Any:
    """Mutants, one of each kind in turn."""
    kinds: dict[str, list[tuple[Program, Mutation]]] = {}
    for right in programs():
        for mutation in Finder(right).run():
            if only in f"{mutation.kind}, {right.module}.{right.builder}":
                kinds.setdefault(mutation.kind, []).append((right, mutation))
    for name in sorted(kinds):
        rng.shuffle(kinds[name])
    while any(kinds.values()):
        for name in sorted(kinds):
            while kinds[name]:
                right, mutation = kinds[name].pop()
                tree, said = mutation.of(right.tree)
                size = change(right, tree)
                if size > UNCHANGED:
                    yield right, mutation, tree, size, said
                    break


def main() -> None:
    """Print a line for each kind of change."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds of change, or programs, with this in them")
    parser.add_argument("--list", action="store_true", help="those that are not named rightly")
    given = parser.parse_args()
    counts: dict[str, collections.Counter[str]] = {}
    started, number = time.process_time(), 0
    for right, mutation, tree, size, said in sample(random.Random(given.seed), given.only):  # noqa: S311
        number += 1
        word, told = judged(right, mutation, tree, size)
        counts.setdefault(mutation.kind, collections.Counter())[word] += 1
        if given.list and word not in {"right", "small"}:
            print(
                f"{word:>9} #{number} {mutation.kind}, {right.module}.{right.builder}:\n"
                f"    {said}\n    {told}",
                flush=True,
            )
            print(f"    expected {' or '.join(sorted(mutation.true))}", flush=True)
        if number == given.count:
            break
    total = sum(counts.values(), collections.Counter[str]())
    print(f"{'':24}" + "".join(f"{word:>10}" for word in WORDS))
    for kind, row in [*sorted(counts.items()), ("together", total)]:
        print(f"{kind:24}" + "".join(f"{row[word] or '':>10}" for word in WORDS))
    print(f"{number} mutants, {time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
