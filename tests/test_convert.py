"""Networks to and from PyTorch: the same network, or an error that names the module."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import twins
from every_layer import every_layer, lived_in
from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.layers.kinds import KINDS

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
T = torch.nn


@BOTH
def test_every_layer_goes_to_torch_and_back(dtype):
    net = lived_in(every_layer().init(3, dtype=dtype))
    assert {layer.type for layer in net.layers.values()} == KINDS.keys()
    twin = net.to_torch()
    assert [name for name, _ in twin.named_parameters()] == list(net.parameters)
    assert {name for name, _ in twin.named_buffers()} == set(net.buffers)
    x = twins.images((3, 2, 8, 9)).astype(dtype)
    twins.close(net.forward(x), twin.eval()(torch.tensor(x)).detach().numpy(), twins.PRECISION[dtype])
    back = nn.from_torch(twin)
    assert back.layers == net.layers
    assert list(back.layers) == list(net.layers)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.flat, net.flat)


def test_both_have_weights_of_their_own():
    net = nn.Sequential(nn.Linear(2, 3)).init(0)
    before, twin = net.flat.copy(), net.to_torch()
    back = nn.from_torch(twin)
    with torch.no_grad():
        twin[0].weight += 1
    np.testing.assert_array_equal(net.flat, before)
    np.testing.assert_array_equal(back.flat, before)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (T.Linear(3, 4, bias=False), (3,)),
        (T.Sequential(T.Linear(3, 4), T.ReLU(inplace=True), T.Softmax(dim=-1)), (3,)),
        (T.Sequential(T.Conv2d(2, 3, 3, padding="same"), T.SiLU(inplace=True)), (2, 5, 6)),
        (T.Sequential(T.Conv2d(2, 3, (1, 5), padding="same")), (2, 5, 6)),
        (T.Sequential(T.Conv2d(2, 3, 3, padding="valid", stride=2)), (2, 5, 6)),
        (
            T.Sequential(T.Sequential(T.Conv2d(2, 3, 2), T.MaxPool2d(2)), T.Flatten(), T.LogSoftmax(-1)),
            (2, 5, 6),
        ),
        (T.Sequential(T.AvgPool2d(2, 1, 1), T.Softmax(dim=1)), (2, 5, 6)),
    ],
    ids=str,
)
def test_reads_what_torch_can_say_in_other_words(module, shape):
    x = twins.images((4, *shape)).astype(np.float32)
    expected = module(torch.tensor(x)).detach().numpy()
    twins.close(nn.from_torch(module).forward(x), expected, 1e-5)


def test_layers_without_parameters_may_stand_twice():
    act = T.Tanh()
    net = nn.from_torch(T.Sequential(T.Linear(2, 3), act, T.Linear(3, 2), act))
    assert [layer.type for layer in net.layers.values()] == ["Linear", "Tanh", "Linear", "Tanh"]


class _Own(T.Linear):
    def forward(self, x):
        return -super().forward(x)


_TWICE = T.Linear(2, 2)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            T.Sequential(T.Linear(2, 3), T.LSTM(3, 3)),
            r"module '1' \(LSTM\) has no twin in the engine, which has",
        ),
        (T.Sequential(T.Sequential(T.Hardtanh())), r"module '0\.0' \(Hardtanh\) has no twin"),
        (T.Sequential(_Own(2, 3)), r"module '0' \(_Own\) has no twin"),
        (T.Sequential(_TWICE, T.ReLU(), _TWICE), r"module '2' \(Linear\) stands in two places"),
        (T.Conv2d(2, 2, 3, groups=2), r"module '0' \(Conv2d\): groups must be 1, found 2"),
        (T.Conv2d(2, 2, 3, dilation=2), r"\(Conv2d\): dilation must be 1, found \(2, 2\)"),
        (
            T.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
            r"padding_mode must be 'zeros', found 'reflect'",
        ),
        (T.Conv2d(2, 2, 2, padding="same"), r"padding='same' needs kernels of odd size, found \(2, 2\)"),
        (T.MaxPool2d(2, ceil_mode=True), r"\(MaxPool2d\): ceil_mode must be False, found True"),
        (
            T.AvgPool2d(2, count_include_pad=False),
            r"\(AvgPool2d\): count_include_pad must be True, found False",
        ),
        (T.Flatten(0), r"\(Flatten\): start_dim must be 1, found 0"),
        (T.Softmax(dim=-1), r"\(Softmax\): Softmax: dim must be 1"),
        (T.BatchNorm1d(2, bias=False), r"\(BatchNorm1d\): bias must be True where affine is, found False"),
        (T.ELU(-1.0), r"\(ELU\): ELU: alpha must be at least 0, found -1.0"),
        (T.Sequential(), "the module holds no layers"),
        (T.Linear(2, 3).half(), "parameters must all be float32 or all float64, found torch.float16"),
        (T.Sequential(T.Linear(2, 3), T.Linear(3, 2).double()), "found torch.float32, torch.float64"),
        ("net", "expected a torch.nn.Sequential, found str"),
    ],
)
def test_refuses_what_the_engine_does_not_have(module, words):
    with pytest.raises(UnstuckError, match=f"from_torch: .*{words}"):
        nn.from_torch(module)


def test_refuses_networks_that_torch_cannot_have():
    with pytest.raises(UnstuckError, match="the network has no weights yet"):
        nn.Sequential(nn.Linear(2, 3)).to_torch()

    class Own(nn.Tanh):
        pass

    with pytest.raises(UnstuckError, match="layer '0': PyTorch has no twin of a Own of your own"):
        nn.Sequential(Own()).init(0).to_torch()


def test_the_engine_does_not_import_torch_and_says_when_it_is_missing():
    program = """
import sys
from unstuck import nn
assert "torch" not in sys.modules
sys.modules["torch"] = None
try:
    nn.Sequential(nn.Linear(2, 3)).init(0).to_torch()
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "this needs PyTorch: pip install 'unstuck[torch]'\n"
