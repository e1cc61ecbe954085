"""Names mistakes in a network that was not recognised, from its gradients and a few probes alone."""

import numpy as np

from unstuck.gradcheck.arrangement import ratio
from unstuck.gradcheck.compare import Compared
from unstuck.gradcheck.local import Expected, explain, factor_named, where
from unstuck.gradcheck.mistakes import Mistake
from unstuck.gradcheck.naming import Explained
from unstuck.gradcheck.probes import Probes
from unstuck.gradcheck.tree import Array


def explain_all(
    tensors: dict[str, Compared],
    shapes: dict[str, Array],
    order: dict[str, int],
    sizes: dict[str, int],
    probes: Probes,
) -> Explained:
    """Name mistakes tensor by tensor.

    Args:
        tensors: measured ones.
        shapes: gradients of a wrong shape.
        order: rank of every tensor, 0 for the first.
        sizes: what a factor may be.
        probes: asks the user's functions at other points.
    """
    made = Explained()
    wrong = [name for name, compared in tensors.items() if compared.status == "wrong"]
    right = [
        name for name, compared in tensors.items() if compared.status == "right" and np.any(compared.right)
    ]
    first_right = min((order[name] for name in right), default=10**9)
    spoiled = [name for name in wrong if order[name] < first_right]
    for name, given in shapes.items():
        right_gradient, share = probes.shares(name)
        expected = Expected(
            name,
            right_gradient.shape,
            np.arange(right_gradient.size),
            right_gradient.reshape(-1),
            sizes,
            share,
        )
        made.mistakes.append(Mistake(name, *(explain(given, expected) or ("wrong-shape", ""))))
    for name in wrong:
        if name not in spoiled:
            _one(tensors[name], sizes, probes, made)
    if spoiled:
        _signal(spoiled, tensors, order, sizes, probes, made)
    return made


def _expected(compared: Compared, sizes: dict[str, int], probes: Probes) -> Expected:
    name = compared.name
    share = probes.shares(name)[1] if compared.whole and compared.given.size <= 512 else None
    keep = compared.smooth
    return Expected(name, compared.given.shape, compared.index[keep], compared.right[keep], sizes, share)


def _one(compared: Compared, sizes: dict[str, int], probes: Probes, made: Explained) -> bool:
    named = explain(compared.given, _expected(compared, sizes, probes))
    if named is None:
        made.unknown.append(compared.name)
        return False
    made.mistakes.append(Mistake(compared.name, *_mean(compared, named, sizes)))
    return True


def _mean(compared: Compared, named: tuple[str, str], sizes: dict[str, int]) -> tuple[str, str]:
    """A vector too small by a size of the input, and nothing before it: a mean where a sum should be."""
    factor, shape = _factor(compared), compared.given.shape
    if named[0] != "factor" or factor is None or max(shape, default=1) != int(np.prod(shape)):
        return named
    for what, count in sizes.items():
        # a half may be that of a square
        if count > 2 and "output" not in what and abs(factor * count - 1) < 2e-3:
            text = f"the gradient of {compared.name} is a mean over {count} ({what}) instead of a sum"
            return "mean-instead-of-sum", text
    return named


def _signal(
    spoiled: list[str],
    tensors: dict[str, Compared],
    order: dict[str, int],
    sizes: dict[str, int],
    probes: Probes,
    made: Explained,
) -> None:
    """The gradient was spoiled before it came to these tensors; the last of them shows it first."""
    latest = max(order[name] for name in spoiled)
    here = sorted((n for n in spoiled if order[n] == latest), key=lambda n: -tensors[n].given.ndim)
    name = here[0]
    before = [other for other in spoiled if other != name]
    factors = {other: _factor(tensors[other]) for other in spoiled}
    c = factors[name]
    known = {other: f for other, f in factors.items() if f is not None}
    alike = [other for other, f in known.items() if c is not None and abs(f - c) <= 2e-3 * abs(c)]
    # a tensor with no factor at all gets its gradient from other sides too, such as past a residual block
    if c is not None and len(alike) == len(known) and (len(alike) > 1 or not before):
        kind, text = factor_named(c, _expected(tensors[name], sizes, probes))
        if kind == "mean-instead-of-sum":
            kind = "factor"
        made.mistakes.append(Mistake(name, kind, text))
        if before:
            made.consequences[name] = before
        return
    named = probes.signal(here, spoiled)
    if named is not None:
        kind, text, at = named
        at = at if at in spoiled else name
        made.mistakes.append(Mistake(at, kind, text))
        rest = [other for other in spoiled if other != at]
        if rest:
            made.consequences[at] = rest
        return
    if set(spoiled) == set(here) or len(here) == 1:
        done = [_one(tensors[other], sizes, probes, made) for other in here]
        rest = [other for other in spoiled if other not in here]
        if all(done) and rest:
            _signal(rest, tensors, order, sizes, probes, made)
        elif rest:
            made.consequences[here[done.index(False)] if False in done else here[0]] = rest
        return
    made.unknown.append(name)
    made.consequences[name] = before


def _factor(compared: Compared) -> float | None:
    keep = compared.smooth
    return ratio(compared.given.reshape(-1)[compared.index][keep], compared.right[keep])


def unknown(compared: Compared) -> Mistake:
    """A wrong gradient that is like no known mistake: where it is wrong."""
    text = f"the gradient of {compared.name} is wrong: "
    return Mistake(
        compared.name, "unknown", text + where(compared.given, compared.index, compared.bad, compared.right)
    )
