"""From layers to a program: lays out memory, then lets each layer write its operations down."""

from dataclasses import replace

import numpy as np

from unstuck.errors import ShapeError
from unstuck.nn.fusion import Fusion
from unstuck.nn.kernels import table as codes
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.layer import Gradient, Layer, Places
from unstuck.nn.layers.normalisation import BatchNorm
from unstuck.nn.layers.residual import Addition, block_start
from unstuck.nn.layout import Layout
from unstuck.nn.program import Buffer, Program, Shape, Statistics, Writer


def output_shapes(layers: dict[str, Layer], shape: Shape) -> dict[str, Shape]:
    """Shape of one sample of each layer's output.

    Raises:
        ShapeError: names the first layer that does not fit, what it got and what it needs.
    """
    shapes, before = dict[str, Shape](), [shape]
    for name, layer in layers.items():
        try:
            shape = layer.output_shape(shape)
            if isinstance(layer, Addition):
                layer.check(before[block_start(layers, name)], shape)
        except ShapeError as error:
            msg = f"layer {name!r}: {error}"
            raise ShapeError(msg) from None
        shapes[name] = shape
        before.append(shape)
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
    fusion = Fusion.of(chain, {start - 1 for _, start in _blocks(layers)}) if fused else Fusion.none(chain)
    values = _write_forward(writer, layers, places, before, fusion)
    scores = writer.copied(values[-1])
    forward_rows = len(writer.rows)
    forward_stages = writer.stages(0, forward_rows)

    reuse = fused and not _blocks(layers)
    gradients = _gradients(writer, chain, before, fusion, values if reuse else None)
    last = gradients[-1]
    deltas = writer.allocate(before[-1])
    if last is not None:
        if writer.compact(last.view):
            deltas = last.view
        else:
            writer.elementwise(codes.COPY, deltas, last.view)
    for i in reversed(range(len(chain))):
        dy, dx = gradients[i + 1], gradients[i]
        if dy is None:
            break
        if isinstance(chain[i], Flatten):
            _unflatten(writer, dy, dx)
        elif not fusion.gated[i]:
            chain[i].write_backward(writer, places[i], values[i], values[i + 1], dy, dx)
        for end, start in _blocks(layers):
            around = gradients[end + 1]
            if start == i and dx is not None and around is not None:  # past the block, to its input
                writer.elementwise_back(codes.SUM, around.view, dx.view, dx.view)

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
        input=values[0],
        outputs={
            name: value
            for name, value, lost in zip(names, values[1:], fusion.inside, strict=True)
            if not lost
        },
        shapes=shapes,
        scores=scores,
        deltas=deltas,
        targets=targets,
        lanes=lanes,
    )


def _write_forward(
    writer: Writer, layers: dict[str, Layer], places: list[Places], before: list[Shape], fusion: Fusion
) -> list[Buffer]:
    """Let the layers write their forward passes; the input's and every layer's value."""
    chain, starts = list(layers.values()), dict(_blocks(layers))
    values = [writer.allocate(before[0])]
    for i, layer in enumerate(chain):
        gated, inside = fusion.gated[i], fusion.inside[i]
        if isinstance(layer, Flatten):
            values.append(_as_features(values[-1]))
            continue
        if i > 0 and fusion.inside[i - 1]:
            values.append(replace(values[-1], rectified=gated))
            continue
        values.append(replace(writer.allocate(before[i + 1]), rectified=gated))
        if isinstance(layer, Addition):
            layer.write_sum(writer, values[i], values[starts[i]], values[i + 1])
        else:
            layer.write_forward(writer, places[i], values[i], replace(values[i + 1], rectified=inside))
    return values


def _blocks(layers: dict[str, Layer]) -> list[tuple[int, int]]:
    """Of every residual block the number of its addition and of its first layer."""
    return [
        (i, block_start(layers, name))
        for i, (name, layer) in enumerate(layers.items())
        if isinstance(layer, Addition)
    ]


def _gradients(
    writer: Writer, chain: list[Layer], before: list[Shape], fusion: Fusion, values: list[Buffer] | None
) -> list[Gradient | None]:
    """Memory for the gradient of each value; None where nothing below has parameters.

    It is the value's own memory where that is not read any more: half the memory keeps a chunk in the cache.
    `values`: None if they must stay.
    """
    gradients: list[Gradient | None] = [None]
    wanted = False
    for i, layer in enumerate(chain):
        below = wanted
        wanted = wanted or bool(layer.parameters())
        if not wanted:
            gradients.append(None)
            continue
        previous = gradients[-1]
        if fusion.gated[i]:
            gradients.append(previous)
        elif isinstance(layer, Flatten) and previous is not None and writer.compact(previous.view):
            view = _as_features(previous.view)
            gradients.append(Gradient(view))
        elif values is not None and _free(chain, i, fusion):
            gradients.append(Gradient(replace(values[i + 1], rectified=False)))
        else:
            gradients.append(layer.gradient(writer, before[i + 1], before[i] if below else None))
    return gradients


def _free(chain: list[Layer], index: int, fusion: Fusion) -> bool:
    """Whether a layer's output is of no use once the layer after it has made its gradient."""
    after = index + 1
    while after < len(chain) and (fusion.gated[after] or isinstance(chain[after], Flatten)):
        after += 1
    return not chain[index].reads_output and after < len(chain) and chain[after].overwrites


def _unflatten(writer: Writer, dy: Gradient, dx: Gradient | None) -> None:
    """The features' gradient as the image's, unless both are the same memory."""
    if dx is not None and dx.view.offset != dy.view.offset:
        image = Buffer(dy.view.offset, *dx.view.lengths, _compact_strides(dx.view.lengths, writer.lanes))
        writer.elementwise(codes.COPY, image, dx.view)


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
