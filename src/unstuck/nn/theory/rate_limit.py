"""The largest learning rate at which descent on single samples is stable at the start, without training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError
from unstuck.nn.losses import MSELoss
from unstuck.nn.network import Sequential

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RateLimit:
    """The predicted limit of a configuration, over its seeds."""

    eigenvalues: Floats
    """(seeds,) largest eigenvalue of the tangent kernel of a single sample, over the samples."""
    curvature: float
    """Second derivative of the loss in one output: what the eigenvalue is multiplied by."""

    @property
    def rates(self) -> Floats:
        """(seeds,) 2 / (curvature × eigenvalue)."""
        with np.errstate(divide="ignore"):
            return 2 / (self.curvature * self.eigenvalues)

    @property
    def median(self) -> float:
        """The limit of the configuration: 2 / (curvature × median eigenvalue)."""
        return float(2 / (self.curvature * np.median(self.eigenvalues)))

    @property
    def quartiles(self) -> tuple[float, float]:
        """Limits that a quarter of the seeds lie below, and above."""
        low, high = np.quantile(self.rates, [0.25, 0.75])
        return float(low), float(high)


def rate_limit(
    net: Sequential,
    inputs: ArrayLike,
    *,
    seeds: Iterable[int] = range(200),
    init: Any = None,
    loss_scale: float = 1.0,
) -> RateLimit:
    r"""Predict the learning rate above which steps on single samples grow instead of shrink.

    A step on sample x changes the network's output there by $-\eta\,c\,\Theta(x,x)\,(f - t)$ to first order,
    with the tangent kernel $\Theta(x,x) = J J^\top$, $J = \partial f/\partial w$, and c the loss's second
    derivative in one output. The error on that sample shrinks while

    $$\eta\,c\,\max_x \lambda_{\max}(\Theta(x, x)) < 2.$$

    It is a property of the configuration: it predicts the scale at which half of the seeds fail within a
    factor of two, and hardly which seeds.

    Args:
        net: its weights, if it has any, do not matter; outputs are its last layer's, one number each.
        inputs: (N, features) or (N, C, H, W): all samples.
        seeds: of the initialisations.
        init: see `nn.Initialisation.of`.
        loss_scale: factor of the squared error's gradient, as in a training.

    Returns:
        The limit, for the mean squared error over the outputs: c = 2 loss_scale / outputs.

    Raises:
        UnstuckError: no seeds, or samples that do not fit.

    Example:
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.Linear(1, 1, bias=False))
        >>> round(rate_limit(net, [[2.0]], seeds=[0]).median, 6)  # f = w x, Theta = x^2 = 4, c = 2
        0.25

    References:
        A. Jacot, F. Gabriel, C. Hongler (2018), arXiv 1806.07572 (the tangent kernel);
        Y. LeCun, L. Bottou, G. Orr, K.-R. Müller (1998), Efficient BackProp (2 / λ).
    """
    samples = np.asarray(inputs, dtype=np.float64)
    chosen = list(seeds)
    if not chosen:
        raise UnstuckError("seeds: found none, expected at least one")
    twin = Sequential(dict(net.layers))
    found: list[float] = []
    outputs = 1
    for seed in chosen:
        twin.init(seed, init, np.float64)
        largest = 0.0
        for i in range(len(samples)):
            rows = _jacobian(twin, samples[i : i + 1])
            outputs = len(rows)
            largest = max(largest, float(np.linalg.eigvalsh(rows @ rows.T)[-1]))
        found.append(largest)
    return RateLimit(np.array(found), 2 * loss_scale / outputs)


def _jacobian(net: Sequential, sample: Floats) -> Floats:
    """(outputs, parameters) of one sample.

    The squared error's gradient is J^T (f - t) times 2 / outputs: with t = f - outputs / 2 in one output, and
    t = f in the others, it is a row of J.
    """
    out = net.forward(sample)
    count = out.size
    rows: list[Floats] = []
    for k in range(count):
        target = out.copy().reshape(1, -1)
        target[0, k] -= count / 2
        _, grads = net.loss_and_grads(sample, target.reshape(out.shape), MSELoss())
        rows.append(np.concatenate([np.asarray(grad, dtype=np.float64).ravel() for grad in grads.values()]))
    return np.stack(rows)
