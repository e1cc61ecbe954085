"""How far the moments of one batch lie from the running ones of a batch normalisation."""

import numpy as np

from unstuck.trace.measure import Doubles, Values


def norm_gaps(
    mean: Doubles, var: Doubles, running_mean: Doubles, running_var: Doubles, *, eps: float
) -> Values:
    """The rows `norm_mean_gap` and `norm_var_gap` of one normalisation at one step.

    Args:
        mean: (channels,), of the batch.
        var: the same of its variances, as the batch is divided by them.
        running_mean: after the step's own forward pass.
        running_var: the same.
        eps: of the normalisation, added to every variance.

    Returns:
        sqrt(mean of (mean - running_mean)^2 / (running_var + eps)) over the channels, and the mean over
        them of |ln((var + eps) / (running_var + eps))|.

    Example:
        >>> ones = np.ones(4)
        >>> norm_gaps(ones, ones, 3 * ones, 4 * ones, eps=0.0)
        {'norm_mean_gap': 1.0, 'norm_var_gap': 1.3862943611198906}
    """
    with np.errstate(all="ignore"):
        far = (mean - running_mean) ** 2 / (running_var + eps)
        apart = np.abs(np.log((var + eps) / (running_var + eps)))
        return {"norm_mean_gap": float(np.sqrt(np.mean(far))), "norm_var_gap": float(np.mean(apart))}
