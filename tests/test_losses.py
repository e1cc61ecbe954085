"""Losses, against plain loops, differences and PyTorch."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import naive_network
import twins
from unstuck import nn
from unstuck.errors import DataError, ShapeError, UnstuckError

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
LOSSES = (nn.MSELoss(), nn.CrossEntropyLoss(), nn.NLLLoss(), nn.BCELoss(), nn.BCEWithLogitsLoss())
CLASSES = (nn.CrossEntropyLoss(), nn.NLLLoss())
OF_CLASSES = pytest.mark.parametrize("loss", CLASSES, ids=lambda loss: loss.type)
EACH = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.type)


def network(loss, *widths):
    """Linear layers; probabilities at the end where the loss wants them."""
    layers = [nn.Linear(n, m) for n, m in itertools.pairwise(widths)]
    return nn.Sequential(*layers, nn.Sigmoid()) if isinstance(loss, nn.BCELoss) else nn.Sequential(*layers)


def scores(values, dtype=np.float64):
    """A network whose outputs are these, for any input of one feature."""
    return nn.Sequential(nn.Linear(1, len(values))).load(
        {"0.weight": np.zeros((len(values), 1)), "0.bias": values}, dtype
    )


@BOTH
@EACH
@pytest.mark.parametrize(("batch", "outputs"), [(1, 1), (1, 4), (7, 3), (16, 2), (17, 10), (40, 1)])
def test_equals_plain_loops(loss, batch, outputs, dtype):
    if outputs == 1 and loss in CLASSES:
        outputs = 5
    twins.same_as_naive(network(loss, 2, outputs), 2 * twins.images((batch, 2)), loss, dtype)


@BOTH
@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss not in CLASSES], ids=lambda loss: loss.type)
@pytest.mark.parametrize("stride", [1, 2])
def test_equals_plain_loops_on_images(loss, stride, dtype):
    # the network may end with a convolution, whose gradient lies spread out
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 2, stride=stride))
    net = net if loss != nn.BCELoss() else nn.Sequential(net, nn.Sigmoid())
    twins.same_as_naive(net, twins.images((3, 1, 4, 5)), loss, dtype)


@EACH
def test_equals_finite_differences(loss):
    net = network(loss, 3, 4).init(1, "he", np.float64)
    x = twins.images((9, 3))
    twins.same_as_differences(net, x, twins.target_for(net, x, loss), loss)


@given(st.sampled_from(LOSSES), st.integers(1, 12), st.integers(1, 40), st.floats(0.1, 2.0))
def test_equals_torch(loss, outputs, batch, size):
    twins.same_as_torch(network(loss, 3, 4, outputs), size * twins.images((batch, 3)), loss)


@EACH
def test_classes_become_one_hot(loss):
    net = network(loss, 2, 4).init(0, dtype=np.float64)
    x, labels = twins.images((9, 2)), np.arange(9) % 4
    value, grads = net.loss_and_grads(x, labels, loss)
    expected, true_grads = naive_network.loss_and_grads(net, net.parameters, x, labels, loss)
    twins.close(value, expected, 1e-12)
    twins.close(grads["0.weight"], true_grads["0.weight"], 1e-12)
    if loss not in CLASSES:
        same, _ = net.loss_and_grads(x, np.eye(4)[labels], loss)
        assert same == value


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int64, np.float32, np.float64], ids=lambda kind: kind.__name__
)
@OF_CLASSES
def test_losses_of_classes_read_whole_numbers_of_any_type(loss, kind):
    net = network(loss, 2, 3).init(0)
    x, labels = twins.images((6, 2)), np.arange(6) % 3
    expected, _ = net.loss_and_grads(x, labels, loss)
    assert net.loss_and_grads(x, labels.astype(kind), loss)[0] == expected


@BOTH
def test_likelihood_after_log_softmax_is_cross_entropy(dtype):
    net = network(nn.CrossEntropyLoss(), 2, 4).init(0, dtype=dtype)
    longer = nn.Sequential(*net.layers.values(), nn.LogSoftmax()).load(net.parameters, dtype)
    x, labels = 5 * twins.images((9, 2)), np.arange(9) % 4
    expected, true_grads = net.loss_and_grads(x, labels, nn.CrossEntropyLoss())
    value, grads = longer.loss_and_grads(x, labels, nn.NLLLoss())
    twins.close(value, expected, twins.PRECISION[dtype] / 10)
    for name, gradient in grads.items():
        twins.close(gradient, true_grads[name], twins.PRECISION[dtype] / 10, name)


def test_likelihood_trains_and_tells_success():
    x = np.linspace(-1, 1, 20)[:, None]
    net = nn.Sequential(nn.Linear(1, 2), nn.LogSoftmax())
    options = {"loss": nn.NLLLoss(), "optimizer": nn.SGD(0.5), "epochs": 60, "seed": 0}
    result = nn.fit(net, (x, (x[:, 0] > 0).astype(int)), batch_size=4, **options)
    assert result.outcome == "success"
    assert result.accuracy == 1.0


@BOTH
@EACH
def test_nan_scores_give_a_nan_loss_and_gradient(loss, dtype):
    for place in range(3):
        values = [0.5, 0.25, 0.75]
        values[place] = np.nan
        net = scores(values, dtype)
        labels = [place, 0] if loss == nn.NLLLoss() else [1, 0]  # it reads only the label's score
        value, grads = net.loss_and_grads(np.ones((2, 1)), labels, loss)
        assert np.isnan(value)
        # its gradient does not depend on the scores at all
        assert np.isnan(grads["0.bias"][place]) or loss == nn.NLLLoss()


@BOTH
def test_cross_entropy_of_large_scores_is_exact(dtype):
    net = scores([1000.0, 0.0, -1000.0], dtype)
    for label, expected in ((0, 0.0), (1, 1000.0), (2, 2000.0)):
        value, grads = net.loss_and_grads([[1.0]], [label], nn.CrossEntropyLoss())
        assert value == expected
        np.testing.assert_allclose(grads["0.bias"], np.eye(3)[0] - np.eye(3)[label], atol=1e-37)


@BOTH
@pytest.mark.parametrize("score", [0.0, 50.0, -50.0, 1e4, -1e4])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_binary_losses_at_the_ends(score, target, dtype):
    torch = twins.torch
    for loss, value in ((nn.BCEWithLogitsLoss(), score), (nn.BCELoss(), 1.0 if score > 0 else 0.0)):
        found, grads = scores([value], dtype).loss_and_grads([[1.0]], [[target]], loss)
        tensor = torch.tensor([value], dtype=getattr(torch, np.dtype(dtype).name), requires_grad=True)
        expected = twins.torch_loss(loss)(tensor, torch.tensor([target], dtype=tensor.dtype))
        expected.backward()
        np.testing.assert_allclose(found, expected.item(), rtol=1e-6, atol=1e-20)  # torch gives 0 below
        np.testing.assert_allclose(grads["0.bias"], tensor.grad.numpy(), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize(
    ("loss", "targets", "error", "words"),
    [
        (
            nn.CrossEntropyLoss(),
            [0, 3, 1],
            DataError,
            r"CrossEntropyLoss: labels must lie in 0\.\.2 .*found 0\.\.3",
        ),
        (
            nn.CrossEntropyLoss(),
            [0, -1, 1],
            DataError,
            r"CrossEntropyLoss: labels .* 3 outputs, found -1\.\.1",
        ),
        (nn.CrossEntropyLoss(), [0.5, 1.0, 2.0], DataError, "needs whole numbers as classes, got float64"),
        (nn.CrossEntropyLoss(), [0, np.nan, 1], DataError, "needs whole numbers as classes"),
        (
            nn.CrossEntropyLoss(),
            [0, 1],
            ShapeError,
            r"needs classes of shape \(3,\), got targets of shape \(2,\)",
        ),
        (nn.NLLLoss(), [0, 3, 1], DataError, r"NLLLoss: labels must lie in 0\.\.2 .*found 0\.\.3"),
        (nn.NLLLoss(), [0, 1], ShapeError, r"NLLLoss needs classes of shape \(3,\), got .* \(2,\)"),
        (nn.CrossEntropyLoss(), np.eye(3), ShapeError, r"needs classes of shape \(3,\), got .* \(3, 3\)"),
        (
            nn.MSELoss(),
            [0, 1, 9],
            DataError,
            r"MSELoss: labels must lie in 0\.\.2 for 3 outputs, found 0\.\.9",
        ),
        (nn.MSELoss(), [0, 1], ShapeError, r"MSELoss needs .* each of 3 samples, got .*\(2,\)"),
        (
            nn.MSELoss(),
            np.zeros((3, 2)),
            ShapeError,
            r"MSELoss needs targets of shape \(3, 3\), got \(3, 2\)",
        ),
        (nn.MSELoss(), [0.5, 1.0, 2.0], ShapeError, r"MSELoss needs targets of shape \(3, 3\), got \(3,\)"),
        (nn.MSELoss(), np.full((3, 3), np.inf), DataError, "MSELoss: 9 targets are NaN or infinite"),
        (nn.BCELoss(), np.full((3, 3), np.nan), DataError, "BCELoss: 9 targets are NaN or infinite"),
        (nn.BCEWithLogitsLoss(), 1.0, ShapeError, r"BCEWithLogitsLoss needs .* 3 samples, got .*\(\)"),
    ],
)
def test_refuses_targets_that_do_not_fit(loss, targets, error, words):
    with pytest.raises(error, match=words):
        scores([0.0, 0.0, 0.0]).loss_and_grads(np.ones((3, 1)), targets, loss)


def test_cross_entropy_refuses_images_as_scores():
    net = nn.Sequential(nn.Conv2d(1, 3, 1)).init(0)
    with pytest.raises(ShapeError, match=r"CrossEntropyLoss needs a network whose output is \(N, classes\)"):
        net.loss_and_grads(np.ones((2, 1, 2, 2)), [0, 1], nn.CrossEntropyLoss())


def test_errors_are_one_family():
    assert issubclass(DataError, UnstuckError)
    assert issubclass(ShapeError, UnstuckError)
