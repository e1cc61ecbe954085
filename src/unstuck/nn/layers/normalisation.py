"""BatchNorm1d and BatchNorm2d: each channel to mean 0 and variance 1 over a batch."""

from dataclasses import dataclass
from typing import ClassVar

from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn.checks import real
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.layer import Gradient, Layer, Places, positive
from unstuck.nn.program import Buffer, Constants, Shape, Writer

CUMULATIVE = -1.0
"""Stands for momentum=None in a row of the table."""


@dataclass(frozen=True)
class BatchNorm(Layer):
    """What both have in common."""

    reads_output: ClassVar[bool] = False
    axes: ClassVar[int]
    """Of one sample: 1 for features, 3 for images."""
    samples: ClassVar[str]
    num_features: int
    eps: float = 1e-5
    momentum: float | None = 0.1
    affine: bool = True
    track_running_stats: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_features", positive(self.type, "num_features", self.num_features))
        if real(f"{self.type}: eps", self.eps) < 0:
            msg = f"{self.type}: eps must be at least 0, found {self.eps!r}"
            raise UnstuckError(msg)
        if self.momentum is not None and not 0 <= real(f"{self.type}: momentum", self.momentum) <= 1:
            msg = f"{self.type}: momentum must be from 0 to 1, or None, found {self.momentum!r}"
            raise UnstuckError(msg)

    @property
    def overwrites(self) -> bool:
        return True

    def parameters(self) -> dict[str, Shape]:
        shape = (self.num_features,)
        return {"weight": shape, "bias": shape} if self.affine else {}

    def buffers(self) -> dict[str, tuple[Shape, float]]:
        if not self.track_running_stats:
            return {}
        shape = (self.num_features,)
        return {"running_mean": (shape, 0.0), "running_var": (shape, 1.0), "num_batches_tracked": ((), 0.0)}

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != self.axes or shape[0] != self.num_features:
            msg = f"{self.type} needs {self.num_features} {self.samples}, got samples of shape {shape}"
            raise ShapeError(msg)
        return shape

    def _row(self, places: Places, x: Buffer, second: Buffer, result: Buffer, shares: Buffer) -> list[int]:
        """The fields of all six operations; `second` is y in the forward pass and its gradient backwards.

        `shares` has four vectors for each channel.
        """
        tracked = [places.get(name, 0) for name in ("running_mean", "running_var", "num_batches_tracked")]
        return [
            *(x.offset, *x.lengths, *x.strides),
            *(second.offset, *second.strides),
            *(result.offset, *result.strides),
            shares.offset,
            *(int(self.affine), places.get("weight", 0), places.get("bias", 0)),
            *(int(self.track_running_stats), *tracked),
        ]

    @property
    def _constants(self) -> Constants:
        return float(self.eps), CUMULATIVE if self.momentum is None else float(self.momentum)

    def write_forward(self, writer: Writer, places: Places, x: Buffer, y: Buffer) -> None:
        row = self._row(places, x, y, y, writer.keep(y, (4 * self.num_features,)))
        writer.row(codes.MOMENTS, *row, constants=self._constants)
        writer.row(codes.JOIN_MOMENTS, *row, constants=self._constants)
        writer.row(codes.NORMALISE, *row)

    def write_backward(
        self, writer: Writer, places: Places, x: Buffer, y: Buffer, dy: Gradient, dx: Gradient | None
    ) -> None:
        if dx is None and not self.affine:
            return
        row = self._row(places, x, dy.view, (dx or dy).view, writer.keep(y, (4 * self.num_features,)))
        writer.row(codes.SLOPE_SUMS, *row)
        writer.row(codes.JOIN_SLOPES, *row)
        if dx is not None:
            writer.row(codes.NORMALISE_BACK, *row)


@dataclass(frozen=True)
class BatchNorm1d(BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance of each feature over the batch.

    In training (`fit`, `loss_and_grads`) those are the batch's own; the variance that normalises is the
    biased one. `fit` also moves the running statistics, running = (1 - momentum) running + momentum batch,
    with the unbiased variance; the network is evaluated (`forward`) with these. They belong to a network as
    its weights do: each member of an ensemble has its own, and copies, files and PyTorch get them.

    Args:
        num_features: features of a sample.
        eps: added to the variance.
        momentum: the newest batch's part in the running statistics; None: the mean of all batches so far.
        affine: whether there are weight and bias (1 and 0 at first, see `Initialisation.norm`).
        track_running_stats: False: an evaluation, too, takes the statistics of the samples that it is given.

    Shapes: input and output (N, num_features), weight, bias, running_mean and running_var (num_features,).

    Raises:
        UnstuckError: a size, eps or momentum out of range.
        ShapeError: training on a batch of one sample, whose variance is 0.

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> net = nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).init(0)
        >>> net.forward([[0.0, 5.0], [2.0, 9.0]]).round(3).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]

    References:
        Ioffe & Szegedy (2015), "Batch normalization: accelerating deep network training by reducing internal
        covariate shift", arXiv:1502.03167.
    """

    axes: ClassVar[int] = 1
    samples: ClassVar[str] = "features"


@dataclass(frozen=True)
class BatchNorm2d(BatchNorm):
    """`BatchNorm1d` for images: mean and variance of each channel over the batch and all positions.

    Args:
        num_features: channels.
        eps: added to the variance.
        momentum: the newest batch's part in the running statistics; None: the mean of all batches so far.
        affine: whether there are weight and bias (1 and 0 at first, see `Initialisation.norm`).
        track_running_stats: False: an evaluation, too, takes the statistics of the samples that it is given.

    Shapes: input and output (N, num_features, H, W), weight, bias, running_mean and running_var
    (num_features,).

    Raises:
        UnstuckError: a size, eps or momentum out of range.
        ShapeError: training on a single image of one position.

    References:
        Ioffe & Szegedy (2015), arXiv:1502.03167.
    """

    axes: ClassVar[int] = 3
    samples: ClassVar[str] = "channels of images (N, C, H, W)"
