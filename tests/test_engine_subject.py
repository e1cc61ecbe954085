"""Engine networks take treatments: each changes one thing, seeds stay paired, a trial finds the cause."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.initialise import draw
from unstuck.nn.training import Training
from unstuck.prove.subject import Subject
from unstuck.prove.subjects.engine import EngineSubject
from unstuck.prove.trial import Trial

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)


def make_training(**options) -> Training:
    """Two layers that learn on which side of a line a point is, unless their weights start at zero."""
    rng = np.random.default_rng(0)
    inputs = rng.random((32, 2)).astype(np.float32)
    net = nn.Sequential(
        {"fc1": nn.Linear(2, 6), "act1": nn.Tanh(), "fc2": nn.Linear(6, 2), "out": nn.Sigmoid()}
    )
    settings = {
        "loss": nn.MSELoss(),
        "optimizer": nn.SGD(lr=0.5),
        "batch_size": 8,
        "epochs": 60,
        "init": "glorot",
    }
    return Training(
        network=net, data=(inputs, (inputs[:, 0] > inputs[:, 1]).astype(int)), **settings | options
    )


def subject_of(**options) -> EngineSubject:
    return EngineSubject(make_training(**options), threads=1)


def changed_fields(before: Training, after: Training) -> set[str]:
    return {
        item.name for item in fields(Training) if getattr(before, item.name) is not getattr(after, item.name)
    }


def values_of(training: Training, seed: int = 3):
    return draw(training.network.specs, training.initialisation, seed)


def test_it_is_a_subject():
    assert isinstance(subject_of(), Subject)


@pytest.mark.parametrize(
    ("treatment", "field"),
    [
        ("init=he", "init"),
        ("init=glorot*4@fc1", "init"),
        ("lr*10", "optimizer"),
        ("activation=relu", "network"),
        ("data=standardise", "data"),
        ("data=-1..1", "data"),
        ("insert=batch_norm", "network"),
    ],
)
def test_a_treatment_changes_one_thing(treatment, field):
    subject = subject_of()
    assert changed_fields(subject.training, subject.treated(treatment)) == {field}
    assert subject.treated(None) is subject.training
    assert subject.refuses(treatment) is None


def test_init_for_all_layers_overrides_what_layers_have_of_their_own():
    own = {"weights": "zeros", "bias": {"scheme": "constant", "value": 0.5}, "layers": {"fc2": "ones"}}
    subject = subject_of(init=own)
    treated = subject.treated("init=glorot*4")
    before, after = values_of(subject.training), values_of(treated)
    expected = values_of(make_training(init={"weights": {"scheme": "glorot", "gain": 4.0}}))
    for name in ("fc1.weight", "fc2.weight"):
        assert np.array_equal(after[name], expected[name])
    for name in ("fc1.bias", "fc2.bias"):
        assert np.array_equal(after[name], before[name])


@pytest.mark.parametrize("target", ["fc2", "Linear"])
def test_init_of_one_layer_or_one_type(target):
    own = {"weights": "zeros", "layers": {"fc2": {"bias": "ones"}}}
    after = values_of(subject_of(init=own).treated(f"init=he@{target}"))
    assert after["fc2.weight"].any()
    assert after["fc1.weight"].any() == (target == "Linear")
    assert (after["fc2.bias"] == 1).all()


def test_biases_of_the_default_stay_when_the_weights_are_drawn_by_another_scheme():
    init = subject_of(init=None).treated("init=glorot").initialisation
    assert init.bias is not None
    assert init.bias.scheme == "default"
    # PyTorch's default is a scheme of weights and biases together, so it brings its biases along.
    assert values_of(subject_of(init="zeros").treated("init=default"))["fc1.bias"].any()


def test_draws_that_a_treatment_leaves_alone_are_the_same():
    subject = subject_of()
    before, after = values_of(subject.training), values_of(subject.treated("init=glorot*4@fc1"))
    assert np.array_equal(after["fc2.weight"], before["fc2.weight"])
    np.testing.assert_allclose(after["fc1.weight"], 4 * before["fc1.weight"])


def test_activations_are_replaced_but_not_the_outputs():
    net = nn.Sequential(
        {
            "fc1": nn.Linear(2, 3), "a1": nn.Tanh(), "fc2": nn.Linear(3, 3), "a2": nn.Sigmoid(),
            "fc3": nn.Linear(3, 2), "out": nn.Sigmoid(),
        }
    )  # fmt: skip
    subject = EngineSubject(replace(make_training(), network=net))

    def types(treatment):
        layers = subject.treated(treatment).network.layers
        return [layers[name].type for name in ("a1", "a2", "out")]

    assert types("activation=relu") == ["ReLU", "ReLU", "Sigmoid"]
    assert types("activation=relu@Sigmoid") == ["Tanh", "ReLU", "Sigmoid"]
    assert types("activation=leakyrelu@a1") == ["LeakyReLU", "Sigmoid", "Sigmoid"]
    assert types(None) == ["Tanh", "Sigmoid", "Sigmoid"]
    assert "no hidden activation 'out'" in (subject.refuses("activation=relu@out") or "")


def test_the_number_type_of_the_weights_is_kept():
    training = make_training()
    training.network.init(seed=0, dtype=np.float64)
    subject = EngineSubject(replace(training))
    assert subject.training.dtype == np.float64
    assert subject.treated("activation=relu").dtype == np.float64


def test_batch_normalisation_goes_before_the_hidden_activations():
    net = nn.Sequential(
        {
            "conv": nn.Conv2d(1, 3, 3), "act": nn.ReLU(), "pool": nn.MaxPool2d(2), "late": nn.Tanh(),
            "flat": nn.Flatten(), "block": nn.Residual(nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 3)),
            "norm": nn.BatchNorm1d(3), "act2": nn.ReLU(), "fc": nn.Linear(3, 2), "out": nn.Sigmoid(),
        }
    ).init(3, dtype=np.float64)  # fmt: skip
    images = np.random.default_rng(0).random((20, 1, 4, 4))
    training = Training(net, (images, np.arange(20) % 2), nn.MSELoss(), nn.SGD(0.1), batch_size=8)
    treated = EngineSubject(training).treated("insert=batch_norm")
    inserted = {name: layer for name, layer in treated.network.layers.items() if name not in net.layers}
    assert inserted == {"act_norm": nn.BatchNorm2d(3), "block.1_norm": nn.BatchNorm1d(3)}
    names = list(treated.network.layers)
    assert names[names.index("act_norm") + 1] == "act"
    assert names[names.index("block.1_norm") + 1] == "block.1"
    assert treated.dtype == np.float64
    for name, value in net.parameters.items():
        assert np.array_equal(treated.network.parameters[name], value)
    assert (treated.network.parameters["act_norm.weight"] == 1).all()
    assert np.isfinite(treated.run(seed=0).final_loss)
    # Draws of the other layers stay what they were: scales and shifts take none.
    before, after = values_of(training), values_of(treated)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    again = EngineSubject(treated).refuses("insert=batch_norm") or ""
    assert "no hidden activation right after a Linear or Conv2d" in again
    alone = EngineSubject(replace(make_training(), batch_size=1)).refuses("insert=batch_norm") or ""
    assert "expected more than 1 value per channel" in alone
    rest = EngineSubject(replace(make_training(), batch_size=31)).refuses("insert=batch_norm") or ""
    assert "the last of 2 in an epoch" in rest


def test_init_leaves_normalisations_alone():
    net = nn.Sequential(
        {"fc": nn.Linear(2, 3), "norm": nn.BatchNorm1d(3), "act": nn.Tanh(), "out": nn.Linear(3, 2)}
    )
    init = {"weights": "zeros", "layers": {"norm": {"weights": "zeros", "bias": "ones"}}}
    subject = EngineSubject(replace(make_training(init=init), network=net))
    after = values_of(subject.treated("init=ones"))
    assert (after["fc.weight"] == 1).all()
    assert (after["norm.weight"] == 0).all()
    assert (after["norm.bias"] == 1).all()
    assert "there are fc, out, Linear" in (subject.refuses("init=he@norm") or "")


def test_inputs_are_standardised_by_feature_and_by_channel():
    features = np.column_stack([np.arange(32), np.full(32, 7.0)]).astype(np.float32)
    training = make_training()
    inputs, targets = (
        EngineSubject(replace(training, data=(features, training.targets))).treated("data=standardise").data
    )
    assert np.mean(inputs[:, 0]) == pytest.approx(0, abs=1e-6)
    assert np.std(inputs[:, 0]) == pytest.approx(1, abs=1e-6)
    assert (inputs[:, 1] == 0).all()
    assert targets is training.targets
    images = np.random.default_rng(1).random((8, 2, 4, 4)).astype(np.float32) * [[[[2.0]], [[9.0]]]]
    net = nn.Sequential(nn.Flatten(), nn.Linear(32, 2), nn.Sigmoid())
    training = Training(net, (images, np.arange(8) % 2), nn.MSELoss(), nn.SGD(lr=0.1), batch_size=4)
    scaled = EngineSubject(training).treated("data=-1..1").inputs
    for channel in (0, 1):
        assert scaled[:, channel].min() == pytest.approx(-1)
        assert scaled[:, channel].max() == pytest.approx(1)
    assert scaled[0, 0, 1, 1] > scaled[0, 0].min()


@pytest.mark.parametrize(
    ("treatment", "reason"),
    [
        ("init=glorot", "drawn so already"),
        ("init=he@conv1", "there are fc1, fc2, Linear"),
        ("init=he@act1", "there are fc1, fc2, Linear"),
        ("init=delta_orthogonal", "needs as many outputs as inputs"),
        ("init=normal", "lacks 'std'"),
        ("lr*1", "would stay what it is"),
        ("lr*1e308", "finite number"),
        ("activation=tanh", "Tanh already"),
        ("activation=relu@relu", "there are act1"),
        ("loss=cross_entropy", "cannot take loss"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(treatment, reason):
    subject = subject_of(optimizer=nn.SGD(lr=50.0))
    assert reason in (subject.refuses(treatment) or "")
    with pytest.raises(UnstuckError, match=re.escape(f"treatment {treatment!r}: ")):
        subject.run(treatment, [0])


def test_inputs_in_range_already_are_refused_and_unread_ids_are_errors():
    subject = EngineSubject(
        replace(make_training(), data=(np.tile(2 * CORNERS - 1, (8, 1)), np.arange(32) % 2))
    )
    assert "scaled so already" in (subject.refuses("data=-1..1") or "")
    with pytest.raises(UnstuckError, match="expected init="):
        subject.refuses("bogus")


def test_runs_are_those_of_the_training_and_are_made_once(monkeypatch):
    subject = subject_of(epochs=4)
    expected = subject.training.run(seeds=[5, 2], threads=1)
    asked = []
    run = Training.run
    monkeypatch.setattr(Training, "run", lambda self, **kw: asked.append(kw["seeds"]) or run(self, **kw))
    told = []
    runs = subject.run(None, [5, 2], lambda *step: told.append(step))
    assert runs.loss.tolist() == expected.final_loss.tolist()
    assert runs.outcome == tuple(expected.outcome)
    assert told[-1] == (2, 2)
    assert runs.cost > 0
    again = subject.run(None, [2, 3, 5])
    assert asked == [[5, 2], [3]]
    assert again.loss[[2, 0]].tolist() == runs.loss.tolist()
    # Two spellings of one treatment are one arm.
    subject.run("init=he", [1])
    subject.run("init=he_normal", [1])
    assert len(asked) == 3


def test_the_sham_deals_the_same_samples_in_another_order():
    subject = subject_of()
    sham = subject.treated(subject.sham.id)
    assert changed_fields(subject.training, sham) == {"data", "init"}
    assert "shuffled in another order and the weights drawn in another order" in subject.sham.summary
    before = {
        (*x.tolist(), int(y)) for x, y in zip(subject.training.inputs, subject.training.targets, strict=True)
    }
    after = {(*x.tolist(), int(y)) for x, y in zip(sham.inputs, sham.targets, strict=True)}
    assert after == before
    assert not np.array_equal(sham.inputs, subject.training.inputs)
    drawn, redrawn = values_of(subject.training), values_of(sham)
    assert sorted(drawn["fc1.weight"].ravel()) == sorted(redrawn["fc1.weight"].ravel())
    assert not np.array_equal(drawn["fc1.weight"], redrawn["fc1.weight"])


def test_the_sham_of_a_fixed_order_stays_within_the_batches():
    subject = subject_of(shuffle=False, init="zeros")
    sham = subject.treated(subject.sham.id)
    assert subject.sham.summary == "the samples of each batch in another order"
    for start in range(0, 32, 8):
        batch = slice(start, start + 8)
        assert not np.array_equal(sham.inputs[batch], subject.training.inputs[batch])
        assert sorted(map(tuple, sham.inputs[batch].tolist())) == sorted(
            map(tuple, subject.training.inputs[batch].tolist())
        )
    # Only the last bits differ: the sums are taken in another order.
    one, other = subject.run(None, [0]), subject.run(subject.sham.id, [0])
    assert one.loss[0] == pytest.approx(other.loss[0], rel=1e-4)


def test_a_training_without_chance_says_that_its_sham_is_the_same_again():
    subject = subject_of(shuffle=False, init="ones", batch_size=1)
    assert "nothing in this training is random" in subject.sham.summary
    assert subject.run(None, [0]).loss == subject.run(subject.sham.id, [0]).loss


def test_a_generator_seeded_again_along_the_way_is_left_alone_by_the_sham():
    subject = subject_of(init={"weights": "glorot", "streams": "reseeded_per_layer"})
    assert subject.treated(subject.sham.id).initialisation == subject.training.initialisation
    fixed = subject_of(init={"weights": "glorot", "streams": "fixed", "order": "across"})
    assert fixed.treated(fixed.sham.id).initialisation.order == "layer"


def test_the_criterion_is_told():
    assert "half of the best constant" in subject_of().criterion
    assert subject_of(success={"loss": 0.1, "accuracy": 0.9}).criterion == (
        "loss <= 0.1 and accuracy >= 0.9 on its training data"
    )


def test_zero_weights_in_series_are_cured_by_drawing_them_and_not_by_the_learning_rate():
    subject = subject_of(init="zeros")
    trial = Trial(
        subject, ("init=glorot", "lr*10", "data=standardise", "init=zeros"), range(20),
        rivals={"init=glorot": "lr*10", "lr*10": "init=glorot"}, codes={"init=glorot": "INI001"},
    )  # fmt: skip
    result = trial.run()
    assert result.unchanged is not None
    assert result.unchanged.successes == 0
    assert set(result.unchanged.outcome) == {"stuck"}
    words = {verdict.treatment: verdict.verdict for verdict in result}
    assert words == {"init=glorot": "proved", "lr*10": "not shown", "data=standardise": "not shown"}
    proved = result.verdicts[0]
    assert (proved.code, proved.after.successes, proved.arms["sham"].successes) == ("INI001", 20, 0)
    assert proved.difference[0] > 0.5
    assert proved.arms["rival"].successes == 0
    assert "this cause and not that one" in result.details["init=glorot"].rival
    assert "drawn so already" in result.refused["init=zeros"]
    assert result.runs == 100
    assert not result.warnings


def test_undoing_a_good_start_is_harmful():
    result = Trial(subject_of(), ("init=zeros",), range(12)).run()
    assert result.verdicts[0].verdict == "harmful"
    assert result.success_rate is not None
    assert result.success_rate.high == 1.0
