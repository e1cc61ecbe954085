"""Dynamical isometry: whether a layer, or a whole network, keeps the length of every direction.

References:
    L. Xiao, Y. Bahri, J. Sohl-Dickstein, S. Schoenholz, J. Pennington (2018), arXiv 1806.05393.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import ShapeError

Floats = NDArray[np.float64]


class Isometry(NamedTuple):
    """How far from an isometry a linear map is; both numbers are 0 for one."""

    mean_log: float
    """Mean of ln s over the singular values s: whether lengths shrink or grow on the whole."""
    var_log: float
    """Variance of ln s: whether some directions do and others do not."""


def singular_values(weight: ArrayLike, size: tuple[int, int] = (1, 1)) -> Floats:
    """Singular values of a Linear, or of a Conv2d with stride 1 on a circle.

    With circular padding a convolution is a matrix for each spatial frequency k, W(k) = Σ_x W_x e^(-2πi k x);
    the singular values of all of them are those of the whole. A delta-orthogonal kernel has W(k) = W_centre
    times a phase: all of them are 1 (times its gain). It keeps the same property with the engine's zero
    padding of half a kernel, as only its centre counts; other kernels do not.

    Args:
        weight: (out, in), or (out, in, kh, kw).
        size: height and width of the image, for a convolution; at least those of the kernel.

    Returns:
        (height * width * min(out, in),), largest first.

    Raises:
        ShapeError: weights of another shape, or a kernel larger than the image.

    Example:
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)).init(seed=0, init="delta_orthogonal")
        >>> singular_values(net.parameters["0.weight"], (6, 6)).round(5).max()
        np.float64(1.0)

    References:
        L. Xiao et al. (2018), arXiv 1806.05393; H. Sedghi, V. Gupta, P. Long (2019), arXiv 1805.10408.
    """
    kernel = np.asarray(weight, dtype=np.float64)
    if kernel.ndim == 2:
        return np.asarray(np.linalg.svd(kernel, compute_uv=False), dtype=np.float64)
    if kernel.ndim != 4 or any(k > n for k, n in zip(kernel.shape[2:], size, strict=True)):
        msg = (
            f"singular values need a weight (out, in), or (out, in, kh, kw) no larger than the image; "
            f"got shape {kernel.shape} for an image of {size}"
        )
        raise ShapeError(msg)
    frequencies = np.fft.fft2(kernel, size).transpose(2, 3, 0, 1)
    values = np.asarray(np.linalg.svd(frequencies, compute_uv=False), dtype=np.float64)
    return np.sort(values, axis=None)[::-1]


def isometry(jacobian: ArrayLike) -> Isometry:
    """How far a Jacobian, or a weight, is from an isometry.

    Mean and variance of ln s over its singular values s; directions with s = 0 make them infinite.

    Args:
        jacobian: (outputs, inputs); or the singular values themselves, (N,).

    Returns:
        The two numbers.

    Example:
        >>> isometry([[0.0, 1.0], [-1.0, 0.0]])
        Isometry(mean_log=0.0, var_log=0.0)

    References:
        J. Pennington, S. Schoenholz, S. Ganguli (2017), arXiv 1711.04735.
    """
    given = np.asarray(jacobian, dtype=np.float64)
    s = given if given.ndim == 1 else np.linalg.svd(given, compute_uv=False)
    if not s.all():
        return Isometry(-np.inf, np.inf)
    logs = np.log(s)
    return Isometry(float(logs.mean()), float(logs.var()))
