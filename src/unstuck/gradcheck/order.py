"""Which tensors come first on the way to the output, seen from what they change in the cache."""

import numpy as np

from unstuck.gradcheck.subject import Subject, Values
from unstuck.gradcheck.tree import leaves, opened


def depths(subject: Subject, values: Values, names: list[str]) -> dict[str, int]:
    """Rank of every tensor: 0 for the first; the same for tensors that change the same arrays.

    A tensor changes what is computed after it and nothing before it. Where the cache does not tell, the order
    in which the parameters are given does.

    Args:
        subject: what is checked.
        values: the point.
        names: tensors to order.
    """
    base = _arrays(subject, values)
    changed: dict[str, int] = {}
    for name in names:
        size = float(np.abs(values[name]).max(initial=0.0)) or 1.0
        moved = {**values, name: values[name] + 1e-3 * size}
        after = _arrays(subject, moved)
        own = values[name]
        changed[name] = sum(
            1
            for path, array in base.items()
            if path in after
            and (array.shape != own.shape or not np.array_equal(array, own))
            and (array.shape != after[path].shape or not np.array_equal(array, after[path]))
        )
    inputs = [name for name in names if name in subject.inputs]
    rest = [name for name in names if name not in inputs]
    if len({changed[name] for name in rest}) <= 1 and len(rest) > 2:
        return {**dict.fromkeys(inputs, 0), **_layers([name for name in values if name in rest], values)}
    levels = sorted({changed[name] for name in rest}, reverse=True)
    return {**dict.fromkeys(inputs, 0), **{name: 1 + levels.index(changed[name]) for name in rest}}


def _layers(names: list[str], values: Values) -> dict[str, int]:
    """Ranks in the order of the parameters: a vector belongs to what stands before it and fits."""
    ranks: dict[str, int] = {}
    rank = 0
    fitting: tuple[int, ...] = ()
    for name in names:
        shape = tuple(size for size in values[name].shape if size > 1)
        if len(shape) == 1 and shape[0] in fitting:
            fitting = ()  # one bias; a second vector begins something new, such as a normalisation
        else:
            rank += 1
            fitting = shape
        ranks[name] = rank
    return ranks


def _arrays(subject: Subject, values: Values) -> dict[str, np.ndarray]:
    _, cache, params = subject.forward_with(values)
    weights = [np.asarray(value) for value in leaves(params).values()]
    return {
        path: np.array(value)
        for path, value in leaves(opened(cache)).items()
        if isinstance(value, np.ndarray)
        and not any(value.shape == weight.shape and np.array_equal(value, weight) for weight in weights)
    }
