import numpy as np
import pytest

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.theory import rate_limit

WIDE = {"scheme": "uniform", "low": -1.0, "high": 1.0}
INIT = {"weights": WIDE, "bias": WIDE}
POINTS = np.array([[0.0], [0.5], [1.0]])


def one_hidden(activation, width):
    return nn.Sequential(nn.Linear(1, width), activation(), nn.Linear(width, 2))


@pytest.mark.parametrize(
    ("activation", "width", "eigenvalue", "limit"),
    [
        (nn.ReLU, 8, 7.5, 0.27),
        (nn.ReLU, 16, 13.5, 0.15),
        (nn.Sigmoid, 8, 3.65, 0.55),
        (nn.Tanh, 16, 13.6, 0.147),
    ],
)
def test_measured_limits(activation, width, eigenvalue, limit):
    found = rate_limit(one_hidden(activation, width), POINTS, seeds=range(200), init=INIT)
    assert np.median(found.eigenvalues) == pytest.approx(eigenvalue, rel=0.06)
    assert found.median == pytest.approx(limit, rel=0.06)
    assert found.quartiles[0] < found.median < found.quartiles[1]
    assert found.median == pytest.approx(float(np.median(found.rates)), rel=0.05)


def test_the_kernel_is_that_of_finite_differences():
    net = one_hidden(nn.Tanh, 5).init(4, INIT, np.float64)
    expected = 0.0
    for point in POINTS:
        rows = []
        for i in range(net.flat.size):
            sides = []
            for step in (1e-6, -1e-6):
                twin = nn.Sequential(dict(net.layers)).load(net.state, np.float64)
                twin.flat[i] += step
                sides.append(twin.forward(point[None])[0])
            rows.append((sides[0] - sides[1]) / 2e-6)
        jacobian = np.array(rows).T
        expected = max(expected, float(np.linalg.eigvalsh(jacobian @ jacobian.T)[-1]))
    assert rate_limit(net, POINTS, seeds=[4], init=INIT).eigenvalues[0] == pytest.approx(expected, rel=1e-5)


def test_above_the_limit_a_linear_network_grows_and_below_it_shrinks():
    x = np.array([[3.0]], np.float32)
    net = nn.Sequential(nn.Linear(1, 1))
    limit = rate_limit(net, x, seeds=[0]).median
    assert limit == pytest.approx(2 / (2 * 10))  # c = 2, Theta = 3^2 + 1
    for factor, grows in ((0.9, False), (1.1, True)):
        result = nn.fit(
            net, (x, np.zeros((1, 1), np.float32)), loss=nn.MSELoss(), optimizer=nn.SGD(lr=factor * limit),
            epochs=20, seed=0,
        )  # fmt: skip
        assert (result.loss[-1] > result.loss[0]) == grows


def test_a_scaled_loss_and_no_seeds():
    net = one_hidden(nn.ReLU, 8)
    one, two = (rate_limit(net, POINTS, seeds=range(3), init=INIT, loss_scale=scale) for scale in (1.0, 2.0))
    assert one.median == pytest.approx(2 * two.median)
    with pytest.raises(UnstuckError, match="seeds"):
        rate_limit(net, POINTS, seeds=[])
