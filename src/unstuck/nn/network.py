"""Sequential: a chain of layers with one flat array of parameters."""

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import DataError, ShapeError, UnstuckError
from unstuck.nn.checks import cast, numbers
from unstuck.nn.initialise import Initialisation, ParameterSpec, plan
from unstuck.nn.layers.chain import Chain, unfold
from unstuck.nn.layers.layer import Layer
from unstuck.nn.layers.residual import Addition, block_start
from unstuck.nn.layout import ALIGNMENT, BufferSpec, Layout, aligned
from unstuck.nn.losses import Loss
from unstuck.nn.program import Program, Shape
from unstuck.trace.structure import INPUT, Node, Structure

if TYPE_CHECKING:
    import torch

Array = NDArray[np.floating]


class Sequential(Chain):
    """Layers one after another.

    Args:
        layers: the layers in order, named "0", "1", ... as in PyTorch; or one mapping from names to layers.
            A Sequential or Residual among them is unfolded, its layers named "outer.inner".

    Raises:
        UnstuckError: something that is not a layer, or no layer at all.

    Example:
        >>> import numpy as np
        >>> from unstuck import nn
        >>> net = nn.Sequential({"fc": nn.Linear(2, 3), "act": nn.Sigmoid()}).init(seed=0)
        >>> net.forward(np.zeros((5, 2), np.float32)).shape
        (5, 3)
    """

    def __init__(self, *layers: Layer | Chain | Mapping[str, Layer | Chain]) -> None:
        self.layers = unfold(layers, "a network")
        self._flat: Array | None = None
        self._programs: dict[tuple[Shape, np.dtype[np.floating], bool], Program] = {}

    @cached_property
    def specs(self) -> tuple[ParameterSpec, ...]:
        """All parameters in order, as initialisations see them."""
        return tuple(
            ParameterSpec.weight(name, shape)
            if short == "weight"
            else ParameterSpec.bias(name, layer.parameters()["weight"])
            for name, layer in self.layers.items()
            for short, shape in layer.parameters().items()
        )

    @cached_property
    def _buffer_specs(self) -> tuple[BufferSpec, ...]:
        return tuple(
            BufferSpec(f"{name}.{short}", shape, start)
            for name, layer in self.layers.items()
            for short, (shape, start) in layer.buffers().items()
        )

    def layout(self, dtype: np.dtype[np.floating]) -> Layout:
        """Where parameters of this number type stand."""
        return Layout(self.specs, ALIGNMENT // dtype.itemsize, self._buffer_specs)

    def init(
        self,
        seed: int = 0,
        init: object = None,
        dtype: type[np.floating] = np.float32,
        *,
        data: ArrayLike | None = None,
    ) -> Self:
        """Draw all weights and biases.

        Args:
            seed: a whole number from 0 to 2**64 - 1. The same seed gives the same bits.
            init: what `nn.Initialisation.of` reads: None (PyTorch's default), "glorot", a dict, ...
            dtype: float32 to train, float64 to check.
            data: inputs, for the scheme "lsuv", which looks at some of them.

        Returns:
            The network itself.

        Raises:
            UnstuckError: an unknown scheme or layer, a bad seed, another number type, no data for "lsuv".
            ShapeError, DataError: data that do not fit.
        """
        from unstuck.nn.lsuv import needs_data, scale_layers

        scheme = Initialisation.of(init)
        late = needs_data(scheme, self.layout(np.dtype(dtype)))
        if late and data is None:
            msg = "init: the scheme 'lsuv' looks at data, give some inputs: net.init(..., data=X)"
            raise UnstuckError(msg)
        values: dict[str, ArrayLike] = dict(plan(self.specs, scheme).draw(seed))
        fresh = {spec.name: np.full(spec.shape, spec.start) for spec in self._buffer_specs}
        self.load(values | fresh, dtype)
        if late and data is not None:
            inputs = checked_inputs(data, self.dtype)
            program = self.program(inputs.shape[1:], self.dtype)
            scale_layers(program, self.layout(self.dtype), scheme, self.flat, as_samples(inputs))
        return self

    @property
    def initialised(self) -> bool:
        """Whether the network has weights."""
        return self._flat is not None

    @property
    def flat(self) -> Array:
        """All parameters in one array (see `layout`).

        Raises:
            UnstuckError: the network has no weights yet.
        """
        if self._flat is None:
            msg = "the network has no weights yet: call net.init(seed=0) first"
            raise UnstuckError(msg)
        return self._flat

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Number type of the parameters."""
        return self.flat.dtype

    @property
    def parameters(self) -> dict[str, Array]:
        """The weights and biases by PyTorch's names; writing to an array changes the network."""
        return self.layout(self.dtype).views(self.flat)

    @property
    def buffers(self) -> dict[str, Array]:
        """What is kept but not trained, by PyTorch's names: the running statistics of batch normalisation.

        All of the parameters' number type, `num_batches_tracked` too (exact up to 2**24 in float32).
        """
        return self.layout(self.dtype).buffer_views(self.flat)

    @property
    def state(self) -> dict[str, Array]:
        """Parameters and buffers: what `load` reads, and what makes two networks of the same layers equal."""
        return self.layout(self.dtype).all_views(self.flat)

    def load(self, values: Mapping[str, ArrayLike], dtype: type[np.floating] | None = None) -> Self:
        """Set all parameters and buffers from arrays by name.

        Raises:
            UnstuckError: a name is missing or unknown.
            ShapeError: an array has another shape.
        """
        known = [spec.name for spec in (*self.specs, *self._buffer_specs)]
        missing = [name for name in known if name not in values]
        unknown = [name for name in values if name not in set(known)]
        if missing or unknown:
            msg = f"parameters do not fit: missing {missing or 'none'}, unknown {unknown or 'none'}"
            raise UnstuckError(msg)
        kind = np.dtype(dtype or (np.float32 if self._flat is None else self.dtype.type))
        if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
            msg = f"parameters must be float32 or float64, found {kind}"
            raise UnstuckError(msg)
        flat = aligned(self.layout(kind).size, kind)
        for name, view in self.layout(kind).all_views(flat).items():
            value = numbers(f"parameter {name!r}", values[name])
            if value.shape != view.shape:
                msg = f"parameter {name!r} needs shape {view.shape}, got {value.shape}"
                raise ShapeError(msg)
            view[...] = cast(value, kind)
        if self._flat is not None and self._flat.dtype == kind:
            self._flat[...] = flat  # in place: arrays taken from `parameters` stay the network's
        else:
            self._flat = flat
        return self

    def copy(self) -> "Sequential":
        """The same layers with parameters of their own."""
        twin = Sequential(dict(self.layers))
        if self._flat is not None:
            twin.load(self.state, self.dtype.type)
        return twin

    def program(self, input_shape: Shape, dtype: np.dtype[np.floating], *, fused: bool = False) -> Program:
        """The network written down for samples of this shape; `fused`: see `compile_network`.

        Raises:
            ShapeError: a layer does not fit; names it, the shape it got and the shape it needs.
        """
        from unstuck.nn.compiler import compile_network

        key = (input_shape, dtype, fused)
        if key not in self._programs:
            self._programs[key] = compile_network(self.layers, self.layout(dtype), input_shape, fused=fused)
        return self._programs[key]

    def structure(self, input_shape: Shape, loss: str | None = None, frozen: Sequence[str] = ()) -> Structure:
        """The network as a graph, for traces; layers named in `frozen` are not trained."""
        from unstuck.nn.compiler import output_shapes

        shapes = output_shapes(self.layers, input_shape)
        nodes, before = list[Node](), INPUT
        for name, layer in self.layers.items():
            inputs = (before,)
            if isinstance(layer, Addition):
                inputs = (*nodes[block_start(self.layers, name)].inputs[:1], before)
            nodes.append(
                Node(
                    name=name,
                    type=layer.type,
                    inputs=inputs,
                    shape=shapes[name],
                    parameters=layer.parameters(),
                    options=layer.options(),
                    trainable=name not in frozen,
                )
            )
            before = name
        return Structure(nodes=tuple(nodes), loss=loss, input_shape=input_shape)

    def forward(self, x: ArrayLike) -> Array:
        """Outputs of the network as it is used: running statistics normalise, dropout passes everything.

        Args:
            x: (N, C, H, W) images or (N, features); converted to the parameters' number type.

        Returns:
            (N, ...) of the same number type.

        Raises:
            ShapeError: the samples do not fit a layer.
            DataError: NaN or infinite inputs.
        """
        return self.activations(x, only=next(reversed(self.layers)))[next(reversed(self.layers))]

    def activations(self, x: ArrayLike, only: str | None = None) -> dict[str, Array]:
        """Output of every layer (or of the one named), by name: (N, ...)."""
        from unstuck.nn.runner import Runner

        inputs = checked_inputs(x, self.dtype)
        program = self.program(inputs.shape[1:], self.dtype)
        program.check_batch(len(inputs), training=False)
        runner = Runner(program, self.layout(self.dtype), self.dtype)
        samples = as_samples(inputs)
        values = (
            runner.activations(self.flat, samples)
            if only is None
            else {only: runner.forward(self.flat, samples, program.outputs[only])}
        )
        return {name: value.reshape(-1, *program.shapes[name]) for name, value in values.items()}

    def loss_and_grads(
        self, x: ArrayLike, target: ArrayLike, loss: Loss, *, seed: int = 0, step: int = 0
    ) -> tuple[float, dict[str, Array]]:
        """Mean loss over the samples, and its gradient with respect to every parameter, as in a training.

        Batch normalisation takes the statistics of these samples (and leaves the running ones as they are:
        a look changes nothing), dropout draws masks.

        Args:
            x: (N, C, H, W) or (N, features).
            target: what `loss` expects.
            loss: for example `nn.CrossEntropyLoss()`.
            seed: of the training whose masks dropout takes.
            step: its step; samples count as they stand in x.

        Returns:
            The loss, and {"0.weight": array, ...} with PyTorch's names and shapes.

        Raises:
            ShapeError, DataError: inputs or targets that do not fit, or too few for batch normalisation.
        """
        from unstuck.nn.runner import Runner

        inputs = checked_inputs(x, self.dtype)
        program = self.program(inputs.shape[1:], self.dtype)
        program.check_batch(len(inputs), training=True)
        layout = self.layout(self.dtype)
        runner = Runner(program, layout, self.dtype)
        value = runner.gradient(
            self.flat, as_samples(inputs, target, loss, program), loss, masks=(seed, step)
        )
        return value, {name: view.copy() for name, view in layout.views(runner.gradients).items()}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write layers and parameters to one safetensors file; `nn.load(path)` reads it.

        Raises:
            UnstuckError: no weights yet, or the file cannot be written.
        """
        from unstuck.nn.files import save

        save(self, path)

    def to_torch(self) -> "torch.nn.Sequential":
        """The same network in PyTorch, with a copy of the weights; `nn.from_torch` is the way back.

        Raises:
            UnstuckError: no weights yet, or PyTorch is not installed.
        """
        from unstuck.nn.convert import to_torch

        return to_torch(self)

    def to_onnx(self, path: str | os.PathLike[str], input_shape: Shape | None = None) -> None:
        """Write the network as it is used to an ONNX file (`nn.onnx`), for any number of samples, in float32.

        Args:
            path: for example `net.onnx`.
            input_shape: shape of one sample; None: what the first layer says, an image's size left open.

        Raises:
            UnstuckError: no weights yet, a layer of another type, no way to tell the input's shape, a file
                that cannot be written, or onnx is not installed.
            ShapeError: an input_shape that does not fit.
        """
        from unstuck.nn.onnx import to_onnx

        to_onnx(self, path, input_shape)

    def __repr__(self) -> str:
        """As PyTorch prints it: one layer a line."""
        lines = [f"  ({name}): {layer!r}" for name, layer in self.layers.items()]
        return "\n".join(["Sequential(", *lines, ")"])


def checked_inputs(x: ArrayLike, dtype: np.dtype[np.floating]) -> Array:
    """Inputs in the number type asked for.

    Raises:
        ShapeError: no samples, or samples that are neither features nor images.
        DataError: NaN or infinite numbers.
    """
    inputs = numbers("inputs", x)
    if inputs.ndim not in (2, 4) or inputs.shape[0] == 0:
        msg = (
            f"inputs must be (N, features) or (N, C, H, W) with at least one sample, got shape {inputs.shape}"
        )
        raise ShapeError(msg)
    converted = cast(inputs, dtype)
    if not np.isfinite(converted).all():
        bad = ~np.isfinite(converted)
        first = np.unravel_index(int(np.argmax(bad)), bad.shape)
        msg = (
            f"inputs contain {int(bad.sum())} NaN or infinite numbers, the first at {tuple(map(int, first))}"
        )
        raise DataError(msg)
    return converted


def as_samples(
    inputs: Array, target: ArrayLike | None = None, loss: Loss | None = None, program: Program | None = None
) -> Any:
    """Inputs and targets, checked, as the interpreter reads them (`runner.Samples`)."""
    from unstuck.nn.runner import Samples

    count = inputs.shape[0]
    if target is None or loss is None or program is None:
        return Samples(inputs.reshape(-1), np.zeros(count, inputs.dtype), 1, count)
    output = program.shapes[next(reversed(program.shapes))]
    targets = loss.prepare(np.asarray(target), output, count)
    flat = cast(targets, inputs.dtype).reshape(-1)
    if not np.isfinite(flat).all():
        msg = f"targets are too large for {inputs.dtype}: up to {np.abs(targets).max():g}"
        raise DataError(msg)
    return Samples(inputs.reshape(-1), flat, targets.shape[1], count)
