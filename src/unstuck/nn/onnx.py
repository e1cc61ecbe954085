"""Networks as ONNX files, which most runtimes read. The package onnx is imported only when one is written."""

import math
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from unstuck.errors import UnstuckError
from unstuck.nn.compiler import output_shapes
from unstuck.nn.files import store
from unstuck.nn.layers.activations import GELU, Softplus
from unstuck.nn.layers.conv import Conv2d
from unstuck.nn.layers.flatten import Flatten
from unstuck.nn.layers.kinds import KINDS
from unstuck.nn.layers.layer import pair
from unstuck.nn.layers.linear import Linear
from unstuck.nn.layers.normalisation import BatchNorm
from unstuck.nn.layers.pooling import AvgPool2d, MaxPool2d
from unstuck.nn.layers.residual import Addition, block_start
from unstuck.nn.network import Sequential
from unstuck.nn.program import Shape

OPSET: Final = 13
"""Operator set of December 2020, the oldest in which softmax works along one axis; every runtime has it."""
FORMAT: Final = 7
"""The file format's version of that time."""
INPUT: Final = "input"
OUTPUT: Final = "output"


def to_onnx(net: Sequential, path: str | os.PathLike[str], input_shape: Shape | None = None) -> None:
    """Write a network as it is used (`net.forward`) to an ONNX file.

    The graph's input is "input" and its output "output", of any number of samples. Weights keep their names
    and are written as float32, which all runtimes compute in: a float64 network is rounded. What ONNX has no
    operator for in this operator set (GELU, SiLU, Softplus with options) is written in several.

    Args:
        net: with weights, and made of the engine's own layer types.
        path: for example `net.onnx`; a file that is there is replaced only when the new one is whole.
        input_shape: shape of one sample, (features,) or (C, H, W). None: what the first layer says; an
            image's height and width then stay open.

    Raises:
        UnstuckError: no weights yet, a layer that ONNX cannot have, no way to tell the shape, the file cannot
            be written, or onnx is not installed.
        ShapeError: an input_shape that does not fit.
    """
    onnx = _onnx()
    shape = _input_shape(net) if input_shape is None else tuple(input_shape)
    graph = _Graph(net)
    for name, layer in net.layers.items():
        writer = _WRITERS.get(layer.type)
        if writer is None or type(layer) is not KINDS.get(layer.type):
            msg = f"layer {name!r}: ONNX has no {layer.type} of your own, only {', '.join(_WRITERS)}"
            raise UnstuckError(msg)
        graph.layer = name
        graph.results.append(writer(graph, layer, graph.results[-1]))
    graph.add_as(OUTPUT, "Identity", graph.results[-1])
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "network",
            [helper.make_tensor_value_info(INPUT, kind, ["N", *shape])],
            [helper.make_tensor_value_info(OUTPUT, kind, ["N", *_output_shape(net, shape)])],
            list(graph.constants.values()),
            doc_string=repr(net),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=FORMAT,
        producer_name="unstuck",
        producer_version=version("unstuck"),
        doc_string="Written by unstuck: a network of unstuck.nn as it is used after training.",
    )
    store(Path(path), model.SerializeToString())


class _Graph:
    """Nodes and constants of a graph, collected layer by layer."""

    def __init__(self, net: Sequential) -> None:
        self.net = net
        self.values: Mapping[str, ArrayLike] = net.state
        """Parameters and buffers of the network by name."""
        self.results = [INPUT]
        """Names of the input and of every layer's result."""
        self.layer = ""
        """Name of the layer that is being written."""
        self.nodes = list[Any]()
        self.constants = dict[str, Any]()

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node; the name of its result."""
        return self.add_as(f"/{self.layer}/{operator}_{len(self.nodes)}", operator, *inputs, **attributes)

    def add_as(self, result: str, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node whose result has this name."""
        self.nodes.append(_onnx().helper.make_node(operator, inputs, [result], name=result, **attributes))
        return result

    def constant(self, name: str, value: ArrayLike) -> str:
        """Give a number or array a name in the graph."""
        array = np.ascontiguousarray(value, dtype=np.float32)
        self.constants[name] = _onnx().numpy_helper.from_array(array.reshape(np.shape(value)), name)
        return name

    def number(self, value: float) -> str:
        """A constant with its value for a name."""
        return self.constant(f"constant {value!r}", value)

    def parameters(self, *names: str) -> list[str]:
        """Those of the present layer that there are."""
        found = [f"{self.layer}.{name}" for name in names]
        return [self.constant(name, self.values[name]) for name in found if name in self.values]


def _linear(graph: _Graph, _layer: Linear, x: str) -> str:
    return graph.add("Gemm", x, *graph.parameters("weight", "bias"), transB=1)


def _window(layer: Conv2d | MaxPool2d | AvgPool2d) -> dict[str, list[int]]:
    kernel = pair(layer.type, "kernel_size", layer.kernel_size, 1)
    stride = kernel if layer.stride is None else pair(layer.type, "stride", layer.stride, 1)
    padding = pair(layer.type, "padding", layer.padding, 0)
    return {"kernel_shape": [*kernel], "strides": [*stride], "pads": [*padding, *padding]}


def _conv(graph: _Graph, layer: Conv2d, x: str) -> str:
    return graph.add("Conv", x, *graph.parameters("weight", "bias"), **_window(layer))


def _max_pool(graph: _Graph, layer: MaxPool2d, x: str) -> str:
    return graph.add("MaxPool", x, **_window(layer))


def _avg_pool(graph: _Graph, layer: AvgPool2d, x: str) -> str:
    return graph.add("AveragePool", x, count_include_pad=1, **_window(layer))


def _batch_norm(graph: _Graph, layer: BatchNorm, x: str) -> str:
    ones = np.ones(layer.num_features)
    scale, shift = graph.parameters("weight", "bias") or [
        graph.constant(f"{graph.layer}.weight", ones),
        graph.constant(f"{graph.layer}.bias", ones * 0),
    ]
    if layer.track_running_stats:
        statistics = graph.parameters("running_mean", "running_var")
        return graph.add("BatchNormalization", x, scale, shift, *statistics, epsilon=layer.eps)
    # it is evaluated, too, with the statistics of the samples it is given
    axes = [0] if layer.axes == 1 else [0, 2, 3]
    rest = graph.add("Sub", x, graph.add("ReduceMean", x, axes=axes, keepdims=1))
    variance = graph.add("ReduceMean", graph.add("Mul", rest, rest), axes=axes, keepdims=1)
    std = graph.add("Sqrt", graph.add("Add", variance, graph.number(layer.eps)))
    shape = [1, layer.num_features] + [1] * (layer.axes - 1)
    wide = [
        np.reshape(graph.values.get(f"{graph.layer}.{n}", d), shape)
        for n, d in (("weight", ones), ("bias", 0 * ones))
    ]
    scale, shift = (graph.constant(name, value) for name, value in zip((scale, shift), wide, strict=True))
    return graph.add("Add", graph.add("Mul", graph.add("Div", rest, std), scale), shift)


def _residual(graph: _Graph, _layer: Addition, x: str) -> str:
    return graph.add("Add", x, graph.results[block_start(graph.net.layers, graph.layer)])


def _gelu(graph: _Graph, layer: GELU, x: str) -> str:
    if layer.approximate == "tanh":
        cube = graph.add("Mul", graph.add("Mul", x, x), x)
        inner = graph.add("Add", x, graph.add("Mul", cube, graph.number(0.044715)))
        bend = graph.add("Tanh", graph.add("Mul", inner, graph.number(math.sqrt(2 / math.pi))))
    else:
        bend = graph.add("Erf", graph.add("Mul", x, graph.number(math.sqrt(0.5))))
    half = graph.add("Mul", x, graph.number(0.5))
    return graph.add("Mul", half, graph.add("Add", bend, graph.number(1.0)))


def _softplus(graph: _Graph, layer: Softplus, x: str) -> str:
    scaled = x if layer.beta == 1 else graph.add("Mul", x, graph.number(layer.beta))
    curve = graph.add("Softplus", scaled)
    curve = curve if layer.beta == 1 else graph.add("Div", curve, graph.number(layer.beta))
    straight = graph.add("Greater", scaled, graph.number(layer.threshold))
    return graph.add("Where", straight, x, curve)


_WRITERS: Final[dict[str, Callable[[_Graph, Any, str], str]]] = {
    "Linear": _linear,
    "Conv2d": _conv,
    "MaxPool2d": _max_pool,
    "AvgPool2d": _avg_pool,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "Dropout": lambda _graph, _layer, x: x,  # in use everything passes
    "Residual": _residual,
    "Flatten": lambda graph, _, x: graph.add("Flatten", x, axis=1),
    "Sigmoid": lambda graph, _, x: graph.add("Sigmoid", x),
    "Tanh": lambda graph, _, x: graph.add("Tanh", x),
    "ReLU": lambda graph, _, x: graph.add("Relu", x),
    "LeakyReLU": lambda graph, layer, x: graph.add("LeakyRelu", x, alpha=float(layer.negative_slope)),
    "ELU": lambda graph, layer, x: graph.add("Elu", x, alpha=float(layer.alpha)),
    "GELU": _gelu,
    "SiLU": lambda graph, _, x: graph.add("Mul", x, graph.add("Sigmoid", x)),
    "Softplus": _softplus,
    "Softmax": lambda graph, _, x: graph.add("Softmax", x, axis=1),
    "LogSoftmax": lambda graph, _, x: graph.add("LogSoftmax", x, axis=1),
}
"""By the layer's type."""


def _input_shape(net: Sequential) -> tuple[int | str, ...]:
    """Shape of a sample, as far as the first layer that has one says it."""
    for layer in net.layers.values():
        match layer:
            case Linear():
                return (layer.in_features,)
            case Conv2d():
                return layer.in_channels, "H", "W"
            case BatchNorm():
                return (layer.num_features,) if layer.axes == 1 else (layer.num_features, "H", "W")
            case Flatten() | MaxPool2d() | AvgPool2d():
                return "C", "H", "W"
            case _:
                pass
    msg = "to_onnx: no layer says what an input looks like; give input_shape, (features,) or (C, H, W)"
    raise UnstuckError(msg)


def _output_shape(net: Sequential, shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Shape of a sample of the output, with words for what the input leaves open."""
    sizes = tuple(size for size in shape if isinstance(size, int))
    if len(sizes) == len(shape):
        return list(output_shapes(net.layers, sizes).values())[-1]
    for layer in net.layers.values():
        match layer:
            case Linear():
                shape = (layer.out_features,)
            case Conv2d():
                shape = (layer.out_channels, "out_H", "out_W")
            case MaxPool2d() | AvgPool2d():
                shape = (shape[0], "out_H", "out_W")
            case Flatten():
                shape = ("features",)
            case _:
                pass
    return shape


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        msg = "this needs onnx: pip install 'unstuck[onnx]'"
        raise UnstuckError(msg) from None
    return onnx
