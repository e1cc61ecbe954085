"""The first case: the figures of its readings, measured over seeds, and what the report says of them."""

import numpy as np
import pytest

from unstuck import datasets, nn
from unstuck.cases.readings import HALF_SUM, images, plans
from unstuck.cases.registry import run_case
from unstuck.errors import UnstuckError

SEEDS = range(5)


@pytest.fixture(scope="module")
def material():
    data = images("digits")
    return data, {plan.key: plan.training for plan in plans(data)}


@pytest.fixture(scope="module")
def story():
    return run_case("weights-barely-move", quick=True)


def half_sum(training, **changes):
    from dataclasses import replace

    return HALF_SUM * replace(training, **changes).run(seeds=SEEDS).final_loss


def reading(story, key):
    return next(reading for reading in story.readings if reading.key == key)


def layer(reading, name):
    return next(layer for layer in reading.layers if layer.name == name)


def codes(reading, *severities):
    return [f.code for f in reading.diagnosis.findings if f.severity in (severities or ("error", "warning"))]


def test_split_is_that_of_the_published_figures(material):
    data, _ = material
    assert (len(data.train), len(data.test)) == (1437, 360)


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("V2", 0.449, 0.451),
        ("V0", 0.25, 0.275),
        ("V0L", 0.43, 0.445),
        ("V0b", 0.165, 0.185),
        ("V6", 0.449, 0.452),
        ("V7", 0.105, 0.15),
    ],
)
def test_final_losses_of_the_readings(material, key, low, high):
    losses = half_sum(material[1][key])
    assert low < losses.min()
    assert losses.max() < high


def test_freezing_the_convolution_of_the_shallow_reading_costs_most_of_what_was_learned(material):
    frozen = half_sum(material[1]["V0"], frozen=("conv1",))
    assert frozen.min() > 0.36
    assert frozen.max() < 0.40


def test_a_single_zero_head_is_innocent(material):
    training = material[1]["V0"]
    init = {"weights": "glorot", "bias": "zeros", "layers": {"conv1": "identity"}}
    drawn = half_sum(training, init=init)
    assert abs(drawn.mean() - half_sum(training).mean()) < 0.02


def test_four_times_glorot_learns_and_plain_glorot_does_not(material):
    training = material[1]["V2"]
    plain = half_sum(training, init="glorot")
    large = half_sum(training, init={"weights": {"scheme": "glorot", "gain": 4.0}, "bias": "zeros"})
    assert plain.min() > 0.44
    assert large.min() > 0.13
    assert np.median(large) < 0.26


@pytest.mark.parametrize(("key", "low", "high"), [("V0b", 0.86, 0.92), ("V6", 0.08, 0.13), ("V7", 0.9, 0.95)])
def test_held_out_accuracy_with_batch_normalisation(material, key, low, high):
    data, trainings = material
    result = trainings[key].run(seeds=SEEDS)
    right = [
        np.mean(result.member(i).forward(data.test.inputs).argmax(1) == data.test.targets) for i in SEEDS
    ]
    assert low < min(right)
    assert max(right) < high


def test_relu_with_cross_entropy_classifies_held_out_digits(material):
    data, trainings = material
    sigmoid = trainings["V2"].network.layers
    swapped = {name: nn.ReLU() if old.type == "Sigmoid" else old for name, old in sigmoid.items()}
    swapped.pop("sigmoid4")
    training = nn.Training(
        nn.Sequential(swapped),
        (data.train.inputs, data.train.targets),
        nn.CrossEntropyLoss(),
        nn.SGD(lr=0.1),
        batch_size=32,
        epochs=20,
        init="he",
    )
    result = training.run(seeds=SEEDS)
    right = [
        np.mean(result.member(i).forward(data.test.inputs).argmax(1) == data.test.targets) for i in SEEDS
    ]
    assert min(right) > 0.93
    assert result.final_loss.max() < 0.09


def test_gradient_through_two_zero_layers_is_exactly_zero(story):
    deep = reading(story, "V2")
    assert [layer(deep, name).grad_first for name in ("conv1", "conv2", "fc1")] == [0.0, 0.0, 0.0]
    assert layer(deep, "fc2").grad_first == pytest.approx(0.90, abs=0.03)


def test_deep_reading_learns_the_class_frequencies_and_nothing_else(story):
    deep = reading(story, "V2")
    assert deep.loss.start == pytest.approx(1.25, abs=1e-3)
    assert deep.loss.by_constant > 0.99
    assert deep.loss.accuracy < 0.15
    assert layer(deep, "fc2").drift is None  # it started at zero


def test_shallow_reading_moves_little_but_that_little_matters(story):
    shallow = reading(story, "V0")
    conv = layer(shallow, "conv1")
    assert conv.share == pytest.approx(0.053, abs=0.02)
    assert shallow.loss.carried(conv.frozen_loss) == pytest.approx(0.62, abs=0.08)
    slow = layer(reading(story, "V0L"), "conv1")
    assert slow.share < 0.01
    assert slow.drift < 0.06


@pytest.mark.parametrize(
    "key", ["V2", "V2-ones", "V0", "V0-ones", "V0L", "V0L-ones", "V0b", "V6", "V7", "wide"]
)
def test_shares_of_the_fall_sum_to_one(story, key):
    assert sum(row.share for row in reading(story, key).layers) == pytest.approx(1, abs=0.02)


def test_batch_normalisation_helps_equal_kernels_and_not_two_zero_layers(story):
    deep, shallow, both = (reading(story, key) for key in ("V6", "V0b", "V7"))
    below = ("conv1", "bn1", "conv2", "bn2", "fc1")
    assert [layer(deep, name).grad_first for name in below] == [0.0] * len(below)
    assert layer(deep, "fc2").grad_first == pytest.approx(0.90, abs=0.03)
    assert deep.loss.accuracy < 0.15
    assert deep.diagnosis.findings[0].code == "INI001"
    assert layer(shallow, "fc").grad_first == pytest.approx(1.31, abs=0.03)
    assert layer(shallow, "conv1").share == pytest.approx(0.019, abs=0.015)
    assert layer(shallow, "bn1").share == pytest.approx(0.042, abs=0.02)
    assert shallow.loss.end < reading(story, "V0").loss.end
    assert all(layer(both, name).drift > 0.5 for name in ("conv1", "conv2", "fc1", "fc2"))
    assert both.loss.accuracy > 0.9
    assert "INI001" not in codes(both)


def test_causes_differ_between_the_readings(story):
    deep = reading(story, "V2").diagnosis.findings[0]
    assert deep.code == "INI001"
    assert {"GRD003", "INI002"} <= {effect.code for effect in deep.consequences}
    for key in ("V0", "V0-ones", "V0L", "V0L-ones"):
        assert "INI001" not in codes(reading(story, key))
        assert {"INI002", "LRN002"} <= set(codes(reading(story, key)))
    wide = reading(story, "wide").diagnosis
    assert wide.healthy
    assert {finding.code for finding in wide.findings} <= {"LRN009"}


def test_wide_network_drifts_by_about_a_hundredth(story):
    wide = reading(story, "wide")
    for name in ("conv1", "fc1"):
        assert 0.005 < layer(wide, name).drift < 0.02
    assert wide.loss.accuracy > 0.9


def test_yardstick_is_measured_in_all_four_readings(story):
    for row in reading(story, "V0").layers:
        values = (row.update, row.update_ratio, row.update_centred, row.update_ratio_centred)
        assert all(value > 0 for value in values)


def test_verdicts_prove_the_fix_and_clear_what_does_not_help(story):
    verdicts = {verdict.treatment: verdict for verdict in story.main.trial}
    assert verdicts["init=glorot_uniform*4"].verdict == "proved"
    for treatment in (
        "init=glorot_uniform@Conv2d",
        "init=glorot_uniform@Linear",
        "init=glorot_uniform",
        "lr*10",
    ):
        assert verdicts[treatment].verdict == "not shown"
        assert verdicts[treatment].after.successes == 0
    assert set(verdicts["init=glorot_uniform*4"].arms) == {"sham", "rival"}
    shallow = {verdict.treatment: verdict for verdict in reading(story, "V0").trial}
    assert shallow["init=glorot_uniform@Linear"].verdict == "not shown"


def test_high_learning_rates_saturate(story):
    rates = {row.lr: row for row in reading(story, "V0").rates}
    assert rates[10.0].saturated > 0.9
    assert rates[0.5].saturated < 0.1
    assert rates[10.0].loss > rates[2.0].loss


def test_a_well_set_network_on_the_same_digits_is_healthy():
    train, test = datasets.digits().split(360)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    result = nn.fit(
        net,
        (train.inputs, train.targets),
        loss=nn.CrossEntropyLoss(),
        optimizer=nn.SGD(lr=0.05, momentum=0.9),
        batch_size=32,
        epochs=15,
        init="he",
        seed=0,
        record=True,
    )
    assert result.recording.diagnose().status == "healthy"
    assert np.mean(net.forward(test.inputs).argmax(1) == test.targets) >= 0.97


def test_unknown_case_and_data_are_named():
    with pytest.raises(UnstuckError, match=r"unknown case .weights..*weights-barely-move"):
        run_case("weights")
    with pytest.raises(UnstuckError, match="imagenet"):
        run_case("weights-barely-move", data="imagenet")
