"""Sequential: names, parameters, evaluation, and what it refuses."""

import numpy as np
import pytest

import twins
from unstuck import nn
from unstuck.errors import DataError, ShapeError, UnstuckError
from unstuck.nn.network import checked_inputs

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def small():
    """A network with every kind of name."""
    body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
    head = nn.Sequential({"flat": nn.Flatten(), "fc": nn.Linear(32, 3, bias=False)})
    return nn.Sequential({"body": body, "pool": nn.MaxPool2d(2, 2), "head": head})


def test_nested_names_are_those_of_torch():
    net = small().init(0)
    assert list(net.layers) == ["body.0", "body.1", "pool", "head.flat", "head.fc"]
    assert list(net.parameters) == ["body.0.weight", "body.0.bias", "head.fc.weight"]
    torch = twins.torch.nn
    twin = torch.Sequential()
    twin.add_module("body", torch.Sequential(torch.Conv2d(1, 2, 3, padding=1), torch.ReLU()))
    twin.add_module("pool", torch.MaxPool2d(2, 2))
    twin.add_module("head", torch.Sequential())
    twin.head.add_module("flat", torch.Flatten())
    twin.head.add_module("fc", torch.Linear(32, 3, bias=False))
    assert {name: tuple(value.shape) for name, value in twin.named_parameters()} == {
        name: value.shape for name, value in net.parameters.items()
    }
    twin.load_state_dict({name: twins.torch.tensor(value) for name, value in net.parameters.items()})
    x = twins.images((3, 1, 8, 8)).astype(np.float32)
    twins.close(net.forward(x), twin(twins.torch.tensor(x)).detach().numpy(), 1e-5)


def test_unnamed_layers_are_numbered():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Sequential(nn.Linear(3, 1))).init(0)
    assert list(net.parameters) == ["0.weight", "0.bias", "2.0.weight", "2.0.bias"]
    assert repr(net).splitlines()[1].strip().startswith("(0): Linear(in_features=2, out_features=3")


@BOTH
def test_whole_networks_equal_plain_loops(dtype):
    twins.same_as_naive(small(), twins.images((5, 1, 8, 8)), nn.CrossEntropyLoss(), dtype)


def test_layers_without_parameters_alone():
    net = nn.Sequential(nn.AvgPool2d(2), nn.Flatten()).init(0)
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    np.testing.assert_array_equal(net.forward(x), [[2.5, 4.5, 10.5, 12.5]])
    value, grads = net.loss_and_grads(x, np.zeros((1, 4)), nn.MSELoss())
    assert (value, grads) == (pytest.approx(np.mean(np.square([2.5, 4.5, 10.5, 12.5]))), {})


def test_flatten_goes_channel_by_channel_line_by_line():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    net = nn.Sequential(nn.Flatten()).init(0)
    np.testing.assert_array_equal(net.forward(x), x.reshape(2, 12))
    twins.same_as_naive(
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 3)), twins.images((2, 3, 2, 2))
    )


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100])
@BOTH
def test_a_sample_does_not_depend_on_its_neighbours(count, dtype):
    net = small().init(1, dtype=dtype)
    x = twins.images((100, 1, 8, 8)).astype(dtype)
    np.testing.assert_array_equal(net.forward(x[:count]), net.forward(x)[:count])


def test_gradient_of_many_is_the_mean_of_the_gradients_of_each():
    net = small().init(1, dtype=np.float64)
    x, labels = twins.images((37, 1, 8, 8)), np.arange(37) % 3
    value, grads = net.loss_and_grads(x, labels, nn.CrossEntropyLoss())
    each = [net.loss_and_grads(x[i : i + 1], labels[i : i + 1], nn.CrossEntropyLoss()) for i in range(37)]
    twins.close(value, np.mean([v for v, _ in each]), 1e-13)
    for name, gradient in grads.items():
        twins.close(gradient, np.mean([g[name] for _, g in each], axis=0), 1e-12, name)


def test_gradients_are_copies_and_calls_leave_no_trace():
    net = small().init(1)
    x, labels, before = twins.images((5, 1, 8, 8)), np.arange(5) % 3, net.flat.copy()
    first, grads = net.loss_and_grads(x, labels, nn.CrossEntropyLoss())
    kept = {name: gradient.copy() for name, gradient in grads.items()}
    second, again = net.loss_and_grads(x, labels, nn.CrossEntropyLoss())
    assert first == second
    for name, gradient in again.items():
        np.testing.assert_array_equal(gradient, kept[name])
        np.testing.assert_array_equal(grads[name], kept[name])
    np.testing.assert_array_equal(net.flat, before)


def test_inputs_of_any_number_type_and_layout():
    net = nn.Sequential(nn.Linear(3, 2)).init(0)
    x = np.arange(12).reshape(4, 3)
    expected = net.forward(x.astype(np.float32))
    for other in (
        x,
        x.astype(np.uint8),
        x.astype(np.float64),
        np.asfortranarray(x),
        x.tolist(),
        x[::-1][::-1],
    ):
        np.testing.assert_array_equal(net.forward(other), expected)


def test_parameters_are_views():
    net = nn.Sequential(nn.Linear(1, 2)).init(0)
    net.parameters["0.weight"][...] = [[2.0], [3.0]]
    net.parameters["0.bias"][:] = [1.0, -1.0]
    np.testing.assert_array_equal(net.forward([[2.0]]), [[5.0, 5.0]])


def test_init_returns_the_network_and_a_seed_fixes_it():
    net = small()
    assert net.init(seed=7) is net
    first = net.flat.copy()
    np.testing.assert_array_equal(small().init(seed=7).flat, first)
    assert (small().init(seed=8).parameters["head.fc.weight"] != net.parameters["head.fc.weight"]).all()


def test_copies_have_parameters_of_their_own():
    net = small().init(0)
    twin = net.copy()
    np.testing.assert_array_equal(twin.flat, net.flat)
    twin.parameters["body.0.weight"][:] = 0
    assert net.parameters["body.0.weight"].any()
    assert not small().copy().initialised


@BOTH
def test_load_takes_over_all_values(dtype):
    net, other = small().init(0, dtype=dtype), small().init(1, dtype=dtype)
    assert net.load(other.parameters) is net
    assert net.dtype == dtype
    np.testing.assert_array_equal(net.flat, other.flat)
    assert small().load(other.parameters, np.float64).dtype == np.float64


def test_infinite_activations_do_not_become_numbers():
    net = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU())
    net.load({"0.weight": [[3e38]], "0.bias": [0], "1.weight": [[-1.0]], "1.bias": [0]})
    np.testing.assert_array_equal(net.forward([[2.0], [-2.0]]), [[0.0], [np.inf]])


# ---------------------------------------------------------------- what it refuses


def test_refuses_to_run_without_weights():
    net = small()
    for call in (
        lambda: net.forward(np.zeros((1, 1, 8, 8))),
        lambda: net.loss_and_grads(np.zeros((1, 1, 8, 8)), [0], nn.CrossEntropyLoss()),
        lambda: net.parameters,
    ):
        with pytest.raises(
            UnstuckError, match=r"the network has no weights yet: call net.init\(seed=0\) first"
        ):
            call()


@pytest.mark.parametrize("thing", [nn.ReLU, "ReLU", None, 3, twins.torch.nn.ReLU()], ids=str)
def test_refuses_what_is_no_layer(thing):
    with pytest.raises(UnstuckError, match=r"layer '1': expected a layer such as nn.Linear\(3, 4\), found"):
        nn.Sequential(nn.Linear(2, 2), thing)


def test_refuses_to_be_empty():
    for build in (nn.Sequential, lambda: nn.Sequential({})):
        with pytest.raises(UnstuckError, match="a network needs at least one layer, found none"):
            build()


def test_refuses_nan_and_says_where():
    net = nn.Sequential(nn.Linear(3, 2)).init(0)
    x = np.zeros((4, 3))
    x[2, 1], x[3, 0] = np.nan, np.inf
    with pytest.raises(DataError, match=r"inputs contain 2 NaN or infinite numbers, the first at .*\(2, 1\)"):
        net.forward(x)
    with pytest.raises(DataError, match="inputs contain 2 NaN or infinite numbers"):
        net.loss_and_grads(x, np.zeros((4, 2)), nn.MSELoss())


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3, 4), (1, 1, 1, 1, 1), ()], ids=str)
def test_refuses_arrays_that_are_neither_features_nor_images(shape):
    with pytest.raises(
        ShapeError, match=r"inputs must be \(N, features\) or \(N, C, H, W\) with at least one sample"
    ):
        checked_inputs(np.zeros(shape), np.dtype(np.float32))


@pytest.mark.parametrize("values", [[["a"]], [[None]], [[1j]]], ids=str)
def test_refuses_inputs_that_are_no_numbers(values):
    with pytest.raises(DataError, match="inputs must be real numbers, found an array of"):
        nn.Sequential(nn.Linear(1, 1)).init(0).forward(values)


def test_load_refuses_wrong_shapes_and_names():
    net = nn.Sequential(nn.Linear(2, 3)).init(0)
    before = net.flat.copy()
    with pytest.raises(ShapeError, match=r"parameter '0.weight' needs shape \(3, 2\), got \(2, 3\)"):
        net.load({"0.weight": np.zeros((2, 3)), "0.bias": np.zeros(3)})
    with pytest.raises(ShapeError, match=r"parameter '0.bias' needs shape \(3,\), got \(\)"):
        net.load({"0.weight": np.zeros((3, 2)), "0.bias": 1.0})
    with pytest.raises(UnstuckError, match=r"parameters do not fit: missing \['0.bias'\], unknown \['b'\]"):
        net.load({"0.weight": np.zeros((3, 2)), "b": np.zeros(3)})
    np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("dtype", [np.int64, np.float16], ids=lambda dtype: dtype.__name__)
def test_init_refuses_other_number_types(dtype):
    with pytest.raises(UnstuckError, match=f"parameters must be float32 or float64, found {dtype.__name__}"):
        nn.Sequential(nn.Linear(1, 1)).init(0, dtype=dtype)


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("glorott", "glorott"),
        ({"weights": "glorot", "sigma": 1}, r"init: unknown key 'sigma'; known: weights, bias"),
        ({"layers": {"9": "zeros"}}, r"init.layers: no layer '9' with parameters; there are: '0'"),
        ({"order": "sideways"}, "sideways.*known: layer, across"),
        (3, "init: found 3, expected a scheme's name or a table of settings"),
    ],
)
def test_init_refuses_unknown_initialisations(init, words):
    with pytest.raises(UnstuckError, match=words):
        nn.Sequential(nn.Linear(1, 1)).init(0, init)
