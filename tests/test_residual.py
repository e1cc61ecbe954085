"""Residual blocks, against plain loops, differences and PyTorch; their names and their place in the graph."""

import numpy as np
import pytest
import torch

import twins
from unstuck import nn
from unstuck.errors import ShapeError, UnstuckError
from unstuck.trace.structure import INPUT

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def dense():
    """A block first of all, one in a block that ends where it ends, one that starts with a function."""
    return nn.Sequential(
        nn.Residual(nn.Linear(4, 6), nn.Tanh(), nn.Residual(nn.Sigmoid()), nn.Linear(6, 4)),
        nn.Residual(nn.Residual(nn.ELU(), nn.Linear(4, 4)), nn.Residual(nn.Linear(4, 4))),
        nn.Linear(4, 3),
    )


def convolutional():
    """Convolutions with padding on all sides of both ends, pooling inside, another shape after."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, stride=2),
        nn.Residual(
            nn.Conv2d(3, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.Tanh(),
            nn.Conv2d(4, 3, 3, padding=1),
        ),
        nn.Residual(nn.MaxPool2d(3, 1, 1), nn.Sigmoid()),
        nn.Conv2d(3, 2, 3, padding=1, stride=2),
        nn.Residual(nn.Conv2d(2, 2, 1)),
        nn.Flatten(),
        nn.Residual(nn.Flatten(), nn.Linear(8, 8)),
    )


def late():
    """Nothing with parameters before the block, which starts with a function."""
    return nn.Sequential(nn.Sigmoid(), nn.Residual(nn.Tanh(), nn.Linear(4, 4), nn.SiLU()))


NETS = pytest.mark.parametrize(
    ("make", "shape"),
    [(dense, (4,)), (convolutional, (1, 7, 6)), (late, (4,))],
    ids=lambda v: getattr(v, "__name__", ""),
)


@BOTH
@NETS
@pytest.mark.parametrize("count", [2, 16, 19])
def test_equals_plain_loops(make, shape, count, dtype):
    net = make()
    if dtype == np.float64:
        twins.same_as_naive(net, twins.images((count, *shape)), init="lecun")
    else:
        twins.same_as_torch(net, twins.images((count, *shape)))


@NETS
def test_equals_finite_differences(make, shape):
    net, x = make().init(4, dtype=np.float64), twins.images((5, *shape))
    twins.same_as_differences(net, x, twins.images(net.forward(x).shape, 1), nn.MSELoss())


@NETS
def test_trains_as_torch_does(make, shape):
    net, x = make().init(2, dtype=np.float64), twins.images((20, *shape))
    target = twins.images(net.forward(x).shape, 1)
    twin = net.to_torch()
    training = nn.Training(net, (x, target), nn.MSELoss(), nn.SGD(0.05, 0.9), 20, 30, shuffle=False)
    trained = training.run(seed=0).net
    optimizer = torch.optim.SGD(twin.parameters(), 0.05, 0.9)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.MSELoss()(twin(torch.tensor(x)), torch.tensor(target)).backward()
        optimizer.step()
    state = twin.state_dict()
    assert set(state) == set(trained.state)
    for name, value in trained.state.items():
        twins.close(value, state[name].numpy(), 1e-9, name, max(1e-3, float(np.abs(value).max())))


def test_names_are_those_of_the_modules_in_torch_and_come_back():
    net = convolutional().init(1)
    assert list(net.layers)[:6] == ["0", "1.0", "1.1", "1.2", "1.3", "1"]
    assert [name for name in net.parameters if name.startswith("1.")] == [
        *("1.0.weight", "1.1.weight", "1.1.bias", "1.3.weight", "1.3.bias")
    ]
    twin = net.to_torch()
    assert [name for name, _ in twin.named_parameters()] == list(net.parameters)
    back = nn.from_torch(twin)
    assert list(back.layers.items()) == list(net.layers.items())
    np.testing.assert_array_equal(back.flat, net.flat)
    alone = nn.from_torch(twin[4])
    assert list(alone.layers) == ["0.0", "0"]
    again = nn.Sequential(dict(net.layers)).load(net.state)
    x = twins.images((3, 1, 7, 6))
    np.testing.assert_array_equal(again.forward(x), net.forward(x))
    assert repr(net).splitlines()[6] == "  (1): Residual()"


def test_the_graph_forks_and_joins():
    nodes = {node.name: node for node in dense().structure((4,)).nodes}
    assert nodes["0.0"].inputs == (INPUT,)
    assert nodes["0.2.0"].inputs == ("0.1",)
    assert nodes["0.2"].inputs == ("0.1", "0.2.0")
    assert nodes["0"].inputs == (INPUT, "0.3")
    assert nodes["1.0.0"].inputs == ("0",)
    assert nodes["1.0"].inputs == ("0", "1.0.1")
    assert nodes["1"].inputs == ("0", "1.1")
    assert nodes["2"].inputs == ("1",)
    assert {nodes[name].type for name in ("0.2", "0", "1.0", "1")} == {"Residual"}


def test_outputs_of_every_part_are_seen_and_a_recording_measures_them():
    net, x = dense().init(0), twins.images((30, 4))
    values = net.activations(x)
    np.testing.assert_allclose(values["0"], x + values["0.3"], atol=1e-6)
    np.testing.assert_allclose(values["1.1"], values["1.0"] + values["1.1.0"], atol=1e-6)
    np.testing.assert_allclose(values["1"], values["0"] + values["1.1"], atol=1e-6)
    result = nn.fit(
        net, (x, np.sin(x[:, :3])), loss=nn.MSELoss(), optimizer=nn.SGD(0.05), epochs=5, seed=0, record=True
    )
    recording = result.recording
    assert recording.last("act_std", "0") > 0
    shares = [recording.last("loss_share", name) for name in ("0.0", "0.3", "1.0.1", "1.1.0", "2", "2.bias")]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    recording.diagnose()


def test_refuses_what_does_not_fit():
    changed = nn.Sequential({"in": nn.Linear(2, 3), "block": nn.Residual(nn.Linear(3, 5))}).init(0)
    with pytest.raises(
        ShapeError, match=r"layer 'block': Residual needs layers that keep .* input \(3,\), got \(5,\)"
    ):
        changed.forward(np.zeros((1, 2)))
    with pytest.raises(ShapeError, match=r"layer '0\.0': Linear needs samples of shape \(2,\), got \(3,\)"):
        nn.Sequential(nn.Residual(nn.Linear(2, 2))).init(0).forward(np.zeros((1, 3)))
    with pytest.raises(UnstuckError, match="a residual block needs at least one layer"):
        nn.Residual()
    with pytest.raises(UnstuckError, match="layer '0': expected a layer"):
        nn.Residual("relu")
    kept = {name: layer for name, layer in dense().layers.items() if not name.startswith("1.1.")}
    with pytest.raises(UnstuckError, match=r"layer '1\.1': expected the layers of its block, 1\.1\.0"):
        nn.Sequential(kept).structure((4,))
