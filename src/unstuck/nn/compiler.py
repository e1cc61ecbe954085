"""From layers to a program: lays out memory, then lets each layer write its operations down."""

from dataclasses import replace

import numpy as np

from unstuck.errors import ShapeError
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.activations import ReLU
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Gradient, Layer
from unstuck.nn.layers.normalisation import BatchNorm
from unstuck.nn.layout import Layout
from unstuck.nn.program import Buffer, Program, Shape, Statistics, Writer


def output_shapes(layers: dict[str, Layer], shape: Shape) -> dict[str, Shape]:
    """Shape of one sample of each layer's output.

    Raises:
        ShapeError: names the first layer that does not fit, what it got and what it needs.
    """
    shapes = dict[str, Shape]()
    for name, layer in layers.items():
        try:
            shape = layer.output_shape(shape)
        except ShapeError as error:
            msg = f"layer {name!r}: {error}"
            raise ShapeError(msg) from None
        shapes[name] = shape
    return shapes


def compile_network(
    layers: dict[str, Layer], layout: Layout, input_shape: Shape, *, fused: bool = False
) -> Program:
    """Write a chain of layers down for one input shape; vectors have as many lanes as `layout.pad` allows.

    With `fused`, a ReLU is done by the layers before and after it where they can: the numbers are the same,
    but the output of the layer before is nowhere in memory.
    """
    shapes = output_shapes(layers, input_shape)
    lanes = _lanes(layout)
    writer = Writer(lanes)
    names, chain = list(layers), list(layers.values())
    before = [input_shape, *shapes.values()]
    places = [_places(layout, name, layer) for name, layer in layers.items()]

    first = writer.allocate(input_shape, chain[0].border)
    values = [first]
    gated = [fused and _gated(chain, i) for i in range(len(chain))]
    inside = [fused and layer.rectifies and _type(chain, i + 1) is ReLU for i, layer in enumerate(chain)]
    """By layer: whether its output only exists rectified."""
    for i, layer in enumerate(chain):
        if isinstance(layer, Flatten):
            values.append(_as_features(values[-1]))
        elif i > 0 and inside[i - 1]:
            values.append(replace(values[-1], rectified=gated[i]))
        else:
            border = chain[i + 1].border if i + 1 < len(chain) else (0, 0)
            values.append(replace(writer.allocate(before[i + 1], border), rectified=gated[i]))
            layer.write_forward(writer, places[i], values[i], replace(values[i + 1], rectified=inside[i]))
    scores = writer.copied(values[-1])
    forward_rows = len(writer.rows)
    forward_stages = writer.stages(0, forward_rows)

    gradients = _gradients(writer, chain, before, gated)
    last = gradients[-1]
    deltas = writer.allocate(before[-1])
    if last is not None:
        if writer.compact(last.view):
            deltas = last.view
        else:
            writer.elementwise(codes.COPY, deltas, last.view)
    for i in reversed(range(len(chain))):
        layer, dy, dx = chain[i], gradients[i + 1], gradients[i]
        if dy is None:
            break
        if isinstance(layer, Flatten):
            if dx is not None and dx.view.offset != dy.view.offset:
                image = Buffer(dy.view.offset, *dx.view.lengths, _compact_strides(dx.view.lengths, lanes))
                writer.elementwise(codes.COPY, image, dx.view)
            continue
        if gated[i]:
            continue
        layer.write_backward(writer, places[i], values[i], values[i + 1], dy, dx)

    stages = forward_stages + writer.stages(forward_rows, len(writer.rows))
    targets = writer.allocate((int(np.prod(before[-1])) + 2,)).offset  # and two vectors for the loss
    return Program(
        table=np.array([numbers for numbers, _ in writer.rows], dtype=np.int64).reshape(-1),
        constants=np.array([constants for _, constants in writer.rows], dtype=np.float64).reshape(-1, 2),
        stages=np.array(stages, dtype=np.int64),
        forward_stages=len(forward_stages),
        memory_size=writer.size + lanes,
        statistics=tuple(
            Statistics(name, layer.type, int(np.prod(shapes[name][1:])), layer.track_running_stats)
            for name, layer in layers.items()
            if isinstance(layer, BatchNorm)
        ),
        input=first,
        outputs={
            name: value for name, value, lost in zip(names, values[1:], inside, strict=True) if not lost
        },
        shapes=shapes,
        scores=scores,
        deltas=deltas,
        targets=targets,
        lanes=lanes,
    )


def _type(chain: list[Layer], index: int) -> type[Layer] | None:
    return type(chain[index]) if index < len(chain) else None


def _gated(chain: list[Layer], index: int) -> bool:
    """Whether a layer is a ReLU whose slope the next one multiplies with on the way back."""
    rest = [layer for layer in chain[index + 1 :] if not isinstance(layer, Flatten)]
    return isinstance(chain[index], ReLU) and bool(rest) and rest[0].gates


def _gradients(
    writer: Writer, chain: list[Layer], before: list[Shape], gated: list[bool]
) -> list[Gradient | None]:
    """Memory for the gradient of each value; None where nothing below has parameters."""
    gradients: list[Gradient | None] = [None]
    wanted = False
    for i, layer in enumerate(chain):
        below = wanted
        wanted = wanted or bool(layer.parameters())
        if not wanted:
            gradients.append(None)
            continue
        previous = gradients[-1]
        if gated[i]:
            gradients.append(previous)
        elif isinstance(layer, Flatten) and previous is not None and writer.compact(previous.view):
            view = _as_features(previous.view)
            gradients.append(Gradient(view, view))
        else:
            gradients.append(layer.gradient(writer, before[i + 1], before[i] if below else None))
    return gradients


def _places(layout: Layout, name: str, layer: Layer) -> dict[str, int]:
    return {short: layout.offsets[f"{name}.{short}"] for short in (*layer.parameters(), *layer.buffers())}


def _lanes(layout: Layout) -> int:
    from unstuck.nn.kernels.vectors import lanes

    return lanes(64 // layout.pad)


def _compact_strides(lengths: tuple[int, int, int], lanes: int) -> tuple[int, int, int]:
    return lengths[1] * lengths[2] * lanes, lengths[2] * lanes, lanes


def _as_features(buffer: Buffer) -> Buffer:
    count = buffer.channels * buffer.lines * buffer.positions
    step = buffer.strides[2]
    return Buffer(buffer.offset, count, 1, 1, (step, step, step), buffer.rectified)
