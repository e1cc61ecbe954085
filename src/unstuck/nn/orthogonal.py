"""Random orthogonal matrices: the same bits for one or many, on any machine and any number of threads."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_BATCH: Final = 1 << 16  # values worked on at a time


def orthogonal(normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthogonal factor Q of A = QR, by Householder reflections, with the signs for which diag(R) > 0.

    For A of independent normal numbers, Q is then uniformly distributed (Haar measure). All sums are taken in
    a fixed tree; the QR of a linear-algebra library is blocked and threaded to suit the machine.

    Args:
        normals: (matrices, rows, columns), standard normal numbers.

    Returns:
        Matrices of the same shape, with orthonormal columns, or rows where they are fewer.

    Example:
        >>> orthogonal(np.array([[[3.0, 1.0], [4.0, 2.0]]])).round(3) + 0.0
        array([[[ 0.6, -0.8],
                [ 0.8,  0.6]]])

    References:
        F. Mezzadri (2007), arXiv math-ph/0609050 (why the signs must be fixed).
    """
    count, rows, columns = normals.shape
    batch = max(1, _BATCH // (rows * columns))
    out = np.empty(normals.shape)
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        # the long axis first, matrices last: every operation below is element by element over the matrices
        if rows >= columns:
            out[part] = _factor(normals[part].transpose(1, 2, 0)).transpose(2, 0, 1)
        else:
            out[part] = _factor(normals[part].transpose(2, 1, 0)).transpose(2, 1, 0)
    return out


def _factor(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q of (long, short, matrices)."""
    a = a.copy(order="C")
    short = a.shape[1]
    q = np.zeros_like(a)
    mirrors: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for j in range(short):
        v = a[j:, j].copy()
        sign = np.where(v[0] >= 0.0, 1.0, -1.0)
        v[0] += sign * np.sqrt(_sum(v * v))
        square = _sum(v * v)
        twice = np.where(square > 0.0, 2.0, 0.0) / np.where(square > 0.0, square, 1.0)
        mirrors.append((v, twice))
        _reflect(a[j:, j + 1 :], v, twice)
        q[j, j] = -sign  # the diagonal of R has the sign -sign: this makes it positive
    for j in reversed(range(short)):
        _reflect(q[j:, j:], *mirrors[j])
    return q


def _reflect(block: NDArray[np.float64], v: NDArray[np.float64], twice: NDArray[np.float64]) -> None:
    """Block -= 2 v (vᵀ block)/(vᵀ v), in place."""
    if block.shape[1]:
        v = v[:, np.newaxis]
        block -= v * (twice * _sum(v * block))


def _sum(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the first axis, halving it: the order depends on its length alone."""
    while len(x) > 1:
        half, odd = divmod(len(x), 2)
        rest = x[-1]
        x = x[:half] + x[half : 2 * half]
        if odd:
            x[0] += rest
    return x[0]
