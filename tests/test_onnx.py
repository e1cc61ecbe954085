"""Networks as ONNX files: what onnxruntime computes from them is what the engine computes."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import twins
from every_layer import every_layer, lived_in
from unstuck import __version__, nn
from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn.layers.kinds import KINDS
from unstuck.nn.onnx import _WRITERS


def run(path, x):
    """Outputs of a file in onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": np.asarray(x, np.float32)})[0]


def same(net, x, tmp_path, **options):
    """Write, check the file, and compare for several numbers of samples."""
    path = tmp_path / "net.onnx"
    net.to_onnx(path, **options)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    for count in (len(x), 2):
        twins.close(run(path, x[:count]), net.forward(x[:count]), 1e-5)
    return model


@pytest.mark.parametrize("options", [{}, {"input_shape": (2, 8, 9)}], ids=["open", "fixed"])
def test_every_layer(tmp_path, options):
    net = lived_in(every_layer().init(3))
    assert {layer.type for layer in net.layers.values()} == KINDS.keys() == _WRITERS.keys()
    model = same(net, twins.images((5, 2, 8, 9)).astype(np.float32), tmp_path, **options)
    dims = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == (["N", 2, 8, 9] if options else ["N", 2, "H", "W"])
    assert {tensor.name for tensor in model.graph.initializer} >= set(net.parameters)


FEATURES = [
    nn.Linear(6, 3),
    nn.Linear(6, 3, bias=False),
    nn.BatchNorm1d(6),
    nn.BatchNorm1d(6, affine=False),
    nn.BatchNorm1d(6, eps=1e-2, track_running_stats=False),
    nn.BatchNorm1d(6, affine=False, track_running_stats=False),
    nn.Dropout(0.3),
    nn.Residual(nn.Tanh(), nn.Linear(6, 6), nn.Residual(nn.ReLU())),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.ReLU(),
    nn.LeakyReLU(0.3),
    nn.ELU(0.6),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Softplus(),
    nn.Softplus(3.0, 2.0),
    nn.Softmax(),
    nn.LogSoftmax(),
]
IMAGES = [
    nn.Conv2d(2, 3, 3),
    nn.Conv2d(2, 3, (2, 3), stride=(2, 1), padding=(1, 2), bias=False),
    nn.BatchNorm2d(2),
    nn.BatchNorm2d(2, track_running_stats=False),
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, padding=1),
    nn.AvgPool2d((2, 3), padding=1),
    nn.AvgPool2d(3, (1, 2)),
    nn.Residual(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)),
    nn.Flatten(),
    nn.GELU(),
    nn.Softmax(),
    nn.LogSoftmax(),
]


@pytest.mark.parametrize("layer", FEATURES, ids=repr)
def test_layers_of_features(layer, tmp_path):
    net = lived_in(nn.Sequential(layer).init(0, {"weights": "lecun", "bias": {"scheme": "normal", "std": 1}}))
    x = 3 * np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    x[0, :3] = 0, 60, -60  # where curves are flat, and where exponentials overflow
    same(net, x, tmp_path, input_shape=(6,))


@pytest.mark.parametrize("layer", IMAGES, ids=repr)
def test_layers_of_images(layer, tmp_path):
    net = lived_in(nn.Sequential(layer).init(0, {"weights": "lecun", "bias": {"scheme": "normal", "std": 1}}))
    same(net, twins.images((4, 2, 6, 7)).astype(np.float32), tmp_path, input_shape=(2, 6, 7))


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Linear(2, 3), nn.Tanh()], ["N", 3]),
        ([nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2)], ["N", 3, "out_H", "out_W"]),
        ([nn.BatchNorm2d(2), nn.ReLU()], ["N", 2, "H", "W"]),
        ([nn.AvgPool2d(2), nn.Flatten()], ["N", "features"]),
        ([nn.ReLU(), nn.BatchNorm1d(2)], ["N", 2]),
    ],
    ids=str,
)
def test_what_the_layers_leave_open_has_a_name(layers, expected, tmp_path):
    images = not isinstance(layers[0], nn.Linear) and not isinstance(layers[-1], nn.BatchNorm1d)
    x = twins.images((3, 2, 6, 7) if images else (3, 2)).astype(np.float32)
    model = same(nn.Sequential(*layers).init(0), x, tmp_path)
    shape = model.graph.output[0].type.tensor_type.shape
    assert [dim.dim_param or dim.dim_value for dim in shape.dim] == expected


def test_a_float64_network_is_rounded(tmp_path):
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2)).init(0, None, np.float64)
    model = same(net, np.random.default_rng(0).normal(size=(3, 6)), tmp_path)
    assert {tensor.data_type for tensor in model.graph.initializer} == {onnx.TensorProto.FLOAT}


def test_the_file_says_where_it_is_from(tmp_path):
    model = same(nn.Sequential(nn.Linear(6, 5)).init(0), np.ones((2, 6)), tmp_path)
    assert (model.producer_name, model.producer_version) == ("unstuck", __version__)
    assert "unstuck" in model.doc_string
    assert "Linear(in_features=6, out_features=5, bias=True)" in model.graph.doc_string
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 13)]


def test_refuses_what_cannot_be_written(tmp_path):
    path = tmp_path / "net.onnx"

    class Own(nn.Tanh):
        pass

    for net, options, words in (
        (nn.Sequential(nn.Linear(2, 3)), {}, "the network has no weights yet"),
        (nn.Sequential(nn.Linear(2, 3), Own()).init(0), {}, "layer '1': ONNX has no Own of your own"),
        (nn.Sequential(nn.Tanh()).init(0), {}, "no layer says what an input looks like; give input_shape"),
    ):
        with pytest.raises(UnstuckError, match=words):
            net.to_onnx(path, **options)
    with pytest.raises(ShapeError, match=r"got \(3,\)"):
        nn.Sequential(nn.Linear(2, 3)).init(0).to_onnx(path, (3,))
    with pytest.raises(UnstuckError, match="cannot be written"):
        nn.Sequential(nn.Linear(2, 3)).init(0).to_onnx(tmp_path / "none" / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_engine_does_not_import_onnx_and_says_when_it_is_missing():
    program = """
import sys
from unstuck import nn
assert "onnx" not in sys.modules
sys.modules["onnx"] = None
try:
    nn.Sequential(nn.Linear(2, 3)).init(0).to_onnx("net.onnx")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "this needs onnx: pip install 'unstuck[onnx]'\n"
