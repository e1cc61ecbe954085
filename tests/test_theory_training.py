"""What theory says of training, with trainings of the engine: edge of stability, lazy training, saddles."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn import theory
from unstuck.nn.fit import start
from unstuck.nn.training import Training

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.data / 16, DIGITS.target


# sharpness


def test_sharpness_is_the_largest_eigenvalue():
    x, target = np.random.default_rng(0).normal(size=(12, 3)), np.random.default_rng(1).normal(size=(12, 2))
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).init(0, None, np.float64)
    loss, h, columns = nn.MSELoss(), 1e-5, []
    for view in net.parameters.values():
        for place in np.ndindex(view.shape):
            sides = []
            for sign in (1, -1):
                view[place] += sign * h
                grads = net.loss_and_grads(x, target, loss)[1]
                sides.append(np.concatenate([grad.ravel() for grad in grads.values()]))
                view[place] -= sign * h
            columns.append((sides[0] - sides[1]) / (2 * h))
    expected = np.linalg.eigvalsh(np.array(columns)).max()
    before = net.flat.copy()
    found = theory.sharpness(net, (x, target), loss, rounds=500, tolerance=1e-9)
    assert found == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(net.flat, before)


def test_sharpness_where_the_loss_curves_downwards_most():
    # (tanh w1 - t1)² / 2 + (tanh w2 - t2)² / 2: one unit beyond its turning point, the other at its goal
    w, targets = np.array([1.0, 0.9]), np.array([-1.0, np.tanh(0.9)])
    net = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Tanh()).load(
        {"0.weight": w[:, np.newaxis]}, np.float64
    )
    slope = 1 - np.tanh(w) ** 2
    curvatures = slope**2 - 2 * (np.tanh(w) - targets) * np.tanh(w) * slope
    assert abs(curvatures.min()) > curvatures.max() > 0
    found = theory.sharpness(net, ([[1.0]], [targets]), nn.MSELoss(), rounds=300, tolerance=1e-9)
    assert found == pytest.approx(curvatures.max(), rel=1e-4)


def test_sharpness_needs_finite_gradients():
    net = nn.Sequential(nn.Linear(1, 1)).load({"0.weight": [[1e100]], "0.bias": [0.0]}, np.float64)
    with pytest.raises(UnstuckError, match="a gradient near the weights is not finite"):
        theory.sharpness(net, ([[1e200]], [[0.0]]), nn.MSELoss())


# the edge of stability: AC6


def test_gradient_descent_ends_at_the_edge_of_stability():
    """LR λ / 2 rises from below to 1 and hovers there (digits 300, tanh 64-50-50-10, all samples a step)."""
    # the paper's loss is half the sum over the outputs, the engine's their mean: LR 0.2 is 0.2 * 10 / 2 here
    net = nn.Sequential(nn.Linear(64, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh(), nn.Linear(50, 10))
    lr = 0.2 * 10 / 2
    data = IMAGES[:300], np.eye(10)[LABELS[:300]]
    training = Training(net, data, nn.MSELoss(), nn.SGD(lr=lr), batch_size=0, epochs=6000)
    session, found = start(training, 0), {}
    for step in (0, 3000, 4000, 5000, 6000):
        session.advance(step)
        found[step] = lr / 2 * theory.sharpness(session.network(), data, training.loss)
    assert found.pop(0) < 0.7
    assert list(found.values()) == pytest.approx([1, 1, 1, 1], rel=0.03)


# lazy training: AC7


def test_the_larger_a_networks_outputs_are_made_the_less_its_weights_move():
    """f = alpha (h(w) - h(w0)), loss / alpha²: the relative change is proportional to 1 / alpha."""
    x, signs = IMAGES[:200], np.where(LABELS[:200] % 2, 1.0, -1.0)[:, np.newaxis]
    products, steps = [], []
    for alpha in (4, 16, 64):
        net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1)).init(0, "he", np.float64)
        before = net.parameters["0.weight"].copy()
        # (alpha (h - h0) - y)² / alpha² = (h - (h0 + y / alpha))²
        targets = net.forward(x) + signs / alpha
        training = Training(net, (x, targets), nn.MSELoss(), nn.SGD(lr=0.01), batch_size=0, epochs=1000)
        session = start(training, 0)
        while not session.losses or session.losses[-1] > 0.1 * session.losses[0]:
            assert session.step < 1000, "the loss must fall to a tenth"
            session.advance(session.step + 10)
        change = session.network().parameters["0.weight"] - before
        products.append(alpha * np.linalg.norm(change) / np.linalg.norm(before))
        steps.append(session.step)
    assert products == pytest.approx([np.mean(products)] * 3, rel=0.05)
    assert len(set(steps)) == 1


# symmetry: AC7, T22


def test_equal_units_part_after_a_time_that_grows_with_the_logarithm_of_their_difference():
    """64-16-10 logistic, all weights 0.1 plus eps times noise, LR 1: the step at which the loss shows it."""
    losses, spread = {}, {}
    for eps in (0.0, 1e-2, 1e-4, 1e-6, 1e-8):
        net = nn.Sequential(nn.Linear(64, 16), nn.Sigmoid(), nn.Linear(16, 10))
        net.init(0, {"weights": {"scheme": "normal", "mean": 0.1, "std": eps}}, np.float64)
        data = IMAGES[:300], LABELS[:300]
        training = Training(net, data, nn.CrossEntropyLoss(), nn.SGD(lr=1.0), batch_size=0, epochs=1000)
        session = start(training, 0)
        session.advance(1000)
        losses[eps] = np.array(session.losses)
        spread[eps] = np.ptp(session.network().parameters["0.weight"], axis=0).max()
    assert spread[0.0] == 0  # equal units stay equal, bit for bit
    assert losses[0.0][-1] > 1
    decades = np.array([2, 4, 6, 8])
    parted = np.array([np.argmax(losses[10.0**-d] < 0.8 * losses[0.0]) for d in decades])
    line = np.polyval(np.polyfit(decades, parted, 1), decades)
    np.testing.assert_allclose(parted, line, atol=50)
    np.testing.assert_allclose(parted, [150, 300, 400, 500], atol=50)
    assert all(losses[10.0**-d][-1] < 0.2 for d in decades)
