import numpy as np
import pytest

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.study.plateaus import plateaus_of, read_loss, read_losses

THREE = ([0, 0.5, 1], [0, 1, 0])
FOUR = ([0, 0.3, 0.6, 1], [0, 1, 0, 1])
FIVE = ([0, 0.25, 0.5, 0.75, 1], [0, 1, 0, 1, 0])
WIDE = {"scheme": "uniform", "low": -1.0, "high": 1.0}


def loss_of(points, name):
    return next(plateau.loss for plateau in plateaus_of(*points) if plateau.name == name)


@pytest.mark.parametrize(
    ("points", "name", "loss"),
    [
        (THREE, "the best constant", 0.2222),
        (FOUR, "the best constant", 0.25),
        (FIVE, "the best constant", 0.24),
        (FOUR, "the best sigmoid of a line", 0.2004),
        (FOUR, "one answer for points 2 and 3", 0.125),
        (FOUR, "one answer for points 1 to 3", 0.1667),
        (FIVE, "one answer for points 2 to 4", 0.1333),
        (THREE, "output 1 dead, the other right", 0.1667),
        (THREE, "output 0 dead, the other right", 0.3333),
        (THREE, "all outputs dead", 0.5),
        (FOUR, "output 0 dead, the other right", 0.25),
        (FOUR, "all outputs dead", 0.5),
    ],
)
def test_losses_that_were_measured(points, name, loss):
    assert loss_of(points, name) == pytest.approx(loss, abs=1e-4)


def test_the_best_sigmoid_of_a_line_is_the_best_of_a_grid():
    x, y = np.array(FOUR[0]), np.array(FOUR[1])
    a, b = np.meshgrid(np.linspace(-8, 8, 321), np.linspace(-6, 6, 241))
    answers = 1 / (1 + np.exp(-(a[..., None] * x + b[..., None])))
    assert loss_of(FOUR, "the best sigmoid of a line") == pytest.approx(
        np.min(np.mean((answers - y) ** 2, axis=-1)), abs=1e-4
    )


def test_two_readings_tie_and_it_is_said():
    reading = read_loss(0.2502, plateaus_of(*FOUR))
    assert reading.ties
    assert reading.plateaus[0].name == "the best constant"
    assert "output 0 dead, the other right" in reading.words
    alone = read_loss(0.2005, plateaus_of(*FOUR))
    assert not alone.ties
    assert alone.words == "the best sigmoid of a line"
    assert read_loss(0.05, plateaus_of(*FOUR)).words == "no plateau that is known"


def test_readings_of_many_members():
    losses = [0.2004, 0.2011, 0.125, float("nan"), 0.06, 0.1998]
    found = read_losses(losses, plateaus_of(*FOUR))
    assert [(reading.words.split(" or ")[0], count) for reading, count in found] == [
        ("the best sigmoid of a line", 3),
        ("one answer for points 1 and 2", 1),
        ("no plateau that is known", 1),
    ]
    assert found[0][0].loss == 0.2004


def test_networks_that_fail_rest_on_the_plateaus_that_were_measured():
    """1-8-2 ReLU networks on four points: of those that fail, more than half rest at a sigmoid of a line."""
    net = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 2), nn.Sigmoid())
    result = nn.fit(
        net, (np.array(FOUR[0], np.float32)[:, None], np.array(FOUR[1])), loss=nn.MSELoss(),
        optimizer=nn.SGD(lr=0.5), batch_size=1, shuffle=False, epochs=10_000, seeds=range(256),
        init={"weights": WIDE, "bias": WIDE}, success={"accuracy": 1.0, "mse": 0.01},
    )  # fmt: skip
    failed = np.asarray(result.outcome) != "success"
    found = read_losses(result.final_loss[failed], plateaus_of(*FOUR))
    assert found[0][0].words == "the best sigmoid of a line"
    assert found[0][1] > 0.5 * failed.sum() - 3 * np.sqrt(failed.sum() / 4)
    assert sum(count for reading, count in found if reading.plateaus) > 0.7 * failed.sum()


def test_other_targets_and_any_order():
    numbers = plateaus_of([1.0, 0.0], [[2.0], [0.0]])
    assert {plateau.name: plateau.loss for plateau in numbers}["the best constant"] == 1.0
    assert [p.loss for p in plateaus_of([1, 0.6, 0.3, 0], [1, 0, 1, 0])] == [
        p.loss for p in plateaus_of(*FOUR)
    ]
    assert all(plateau.loss > 0 for plateau in plateaus_of([0, 1], [0, 1]))


@pytest.mark.parametrize(
    ("inputs", "targets", "words"),
    [
        ([0], [0], "2 to 12"), (np.zeros((3, 2)), [0, 1, 0], "one input"), ([0, 0], [0, 1], "distinct"),
        ([0, 1], [0], "one for each"), ([0, 1], [0, -1], "from 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(inputs, targets, words):
    with pytest.raises(UnstuckError, match=words):
        plateaus_of(inputs, targets)
