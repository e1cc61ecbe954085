"""CNNClassifier as scikit-learn knows it, and on streams."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import unstuck
from unstuck import CNNClassifier, nn
from unstuck.errors import DataError, ShapeError, UnstuckError

SMALL = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)]


@parametrize_with_checks([CNNClassifier()])
def test_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.images[:600].astype(np.float32), data.target[:600]


def stages(x, y, size=2):
    for first in range(0, 10, size):
        chosen = (y >= first) & (y < first + size)
        yield x[chosen], y[chosen]


def test_classes_come_one_pair_after_the_other_and_a_memory_keeps_them(digits):
    x, y = digits
    kept = CNNClassifier(SMALL, memory=100, epochs=10, learning_rate=0.01, random_state=0)
    lost = CNNClassifier(SMALL, epochs=10, learning_rate=0.01, random_state=0)
    for part, labels in stages(x, y):
        kept.partial_fit(part, labels)
        lost.partial_fit(part, labels)
    assert kept.classes_.tolist() == list(range(10))
    assert kept.score(x, y) > 0.8
    assert lost.score(x, y) < 0.4
    assert [step.count for step in kept.growth_] == [2] * 5
    assert kept.growth_[1].evidence == {"new labels": [2, 3]}


def test_names_come_one_sample_at_a_time_and_stay_with_their_answers():
    x = np.eye(4, dtype=np.float32)
    names = ["pear", "apple", "fig", "date"]
    clf = CNNClassifier(memory=4, epochs=30, learning_rate=0.01, random_state=1)
    for i in range(4):
        clf.partial_fit(x[i : i + 1], [names[i]])
        assert clf.classes_.tolist() == sorted(names[: i + 1])
        assert clf.predict(x[: i + 1]).tolist() == names[: i + 1]
    assert clf.predict_proba(x).shape == (4, 4)
    np.testing.assert_allclose(clf.predict_proba(x).sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (64,)])
def test_images_with_and_without_channels_and_features(digits, shape):
    x, y = digits
    clf = CNNClassifier(epochs=3, random_state=0).fit(x[:300].reshape(-1, *shape), y[:300])
    assert clf.n_features_in_ == 64
    assert clf.score(x[:300].reshape(-1, *shape), y[:300]) > 0.6


def test_a_pipeline_a_search_a_clone_and_a_pickle(digits):
    x, y = digits
    flat = x.reshape(len(x), -1)[:200]
    search = GridSearchCV(
        make_pipeline(StandardScaler(), CNNClassifier(epochs=2, random_state=0)),
        {"cnnclassifier__learning_rate": [1e-4, 1e-2]},
        cv=2,
    ).fit(flat, y[:200])
    assert search.best_params_ == {"cnnclassifier__learning_rate": 1e-2}
    clf = CNNClassifier(SMALL, memory=3, strategy="gdumb")
    assert clone(clf).get_params() == clf.get_params()
    clf = CNNClassifier(SMALL, epochs=1, random_state=0).fit(x[:50], y[:50])
    twin = pickle.loads(pickle.dumps(clf))  # noqa: S301  our own
    assert np.array_equal(twin.predict_proba(x), clf.predict_proba(x))


@pytest.mark.parametrize(
    "layers",
    [SMALL, [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2)], None],
    ids=["small", "normalised", "default"],
)
def test_a_saved_classifier_goes_on_as_if_it_had_never_stopped(digits, tmp_path, layers):
    x, y = digits
    parts = list(stages(x[:300], y[:300]))
    one = CNNClassifier(layers, memory=40, epochs=2, random_state=5)
    for part in parts[:3]:
        one.partial_fit(*part)
    one.save(tmp_path / "clf")
    other = CNNClassifier.load(tmp_path / "clf")
    assert other.memory == 40
    for part in parts[3:]:
        one.partial_fit(*part)
        other.partial_fit(*part)
    assert np.array_equal(one.decision_function(x), other.decision_function(x))
    one.save(tmp_path / "a")
    other.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "labels", [np.array(["b", "a"]), np.array([2.0, 1.0]), np.array([True, False]), ["x", "yyy"]]
)
def test_labels_of_every_kind_come_back(tmp_path, labels):
    x = np.eye(2, dtype=np.float32)
    clf = CNNClassifier(epochs=50, learning_rate=0.01, random_state=0).fit(x, labels)
    clf.save(tmp_path / "clf")
    again = CNNClassifier.load(tmp_path / "clf")
    assert again.predict(x).tolist() == list(labels)
    assert again.classes_.dtype == clf.classes_.dtype


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(digits):
    x, y = digits
    a, b, c = (
        CNNClassifier(SMALL, epochs=1, random_state=seed).fit(x, y).decision_function(x) for seed in (0, 0, 1)
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_bytes_and_their_fractions_are_the_same_images(digits):
    x, y = digits
    whole = (x * 15).astype(np.uint8)
    a = CNNClassifier(SMALL, epochs=1, random_state=0).fit(whole, y)
    b = CNNClassifier(SMALL, epochs=1, random_state=0).fit(whole / np.float32(255), y)
    assert np.array_equal(a.decision_function(whole), b.decision_function(whole / np.float32(255)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"memory": -1}, "memory must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"batch_size": 0.5}, "batch_size must be"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"strategy": "magic"}, "strategy: expected one of"),
        ({"growth": "magic"}, "growth: expected one of"),
        ({"strategy": "gdumb"}, "memory above 0"),
        ({"layers": 3}, "layers: expected layers"),
        ({"layers": [nn.Linear(3, 3), nn.ReLU()]}, "Linear needs samples"),
        ({"layers": {"head": nn.ReLU()}}, 'called "head"'),
    ],
)
def test_arguments_that_will_not_do(digits, change, match):
    with pytest.raises(UnstuckError, match=match):
        CNNClassifier(**change).fit(digits[0][:10], digits[1][:10])


def test_samples_that_will_not_do(digits):
    x, y = digits
    clf = CNNClassifier(SMALL, epochs=1, random_state=0).partial_fit(x[:20], y[:20])
    before = clf.decision_function(x)
    with pytest.raises(ShapeError, match=r"shape \(7, 8\), expected \(8, 8\)"):
        clf.partial_fit(x[:5, :7], y[:5])
    with pytest.raises(DataError, match="up to 4080, expected at most 16"):
        clf.partial_fit(x[:5] * 255, y[:5])
    with pytest.raises(DataError, match="fractions"):
        clf.predict(x[:5] / 16)
    with pytest.raises(DataError, match="found text such as one, expected numbers"):
        clf.partial_fit(x[:5], ["one"] * 5)
    with pytest.raises(DataError, match="several kinds"):
        clf.partial_fit(x[:2], np.array(["one", 1], dtype=object))
    with pytest.raises(ValueError, match="NaN"):
        clf.partial_fit(np.full((1, 8, 8), np.nan), [1])
    with pytest.raises(ValueError, match="0 sample"):
        clf.partial_fit(x[:0], y[:0])
    with pytest.raises(ShapeError, match="expected \\(N, features\\)"):
        CNNClassifier().fit(np.zeros((2, 1, 2, 2, 2)), [0, 1])
    assert np.array_equal(clf.decision_function(x), before)


def test_images_in_another_range_will_not_do():
    x, y = np.random.default_rng(0).random((20, 8, 8)), np.arange(20) % 4
    whole = np.round(255 * x).astype(np.uint8)
    fractions = CNNClassifier(epochs=1, random_state=0).partial_fit(x, y)
    with pytest.raises(DataError, match=r"up to 25\d.*, expected the range of the first images, up to 0.99"):
        fractions.partial_fit(255 * x, y)
    with pytest.raises(DataError, match="bytes up to 25"):
        fractions.predict(whole)
    fractions.partial_fit(4 * x - 2, y)  # a little farther is no other range
    bytes_ = CNNClassifier(epochs=1, random_state=0).partial_fit(whole, y)
    with pytest.raises(DataError, match=r"down to -25\d.*, expected 0 to 255"):
        bytes_.partial_fit(-255 * x, y)


def test_images_with_their_channels_last_are_told_how_to_turn():
    x = np.zeros((4, 8, 9, 3), np.float32)
    with pytest.raises(ShapeError, match=r"\(8, 9, 3\), expected \(channels, height, width\).*transpose"):
        CNNClassifier().fit(x, [0, 1, 0, 1])
    CNNClassifier(epochs=1).fit(x.transpose(0, 3, 1, 2), [0, 1, 0, 1])


def test_a_memory_that_is_taken_away_is_empty(digits):
    x, y = digits
    clf = CNNClassifier(SMALL, memory=20, epochs=1, random_state=0).partial_fit(x[:40], y[:40])
    assert len(clf.memory_) == 20
    assert len(clf.set_params(memory=6).partial_fit(x[40:60], y[40:60]).memory_) == 6
    assert len(clf.set_params(memory=0).partial_fit(x[40:60], y[40:60]).memory_) == 0
    assert 0 < len(clf.set_params(memory=30).partial_fit(x[60:200], y[60:200]).memory_) <= 30


def test_a_class_with_one_sample_and_a_memory_smaller_than_the_classes(digits):
    x, y = digits
    clf = CNNClassifier(SMALL, memory=3, epochs=1, random_state=0).partial_fit(x[:30], y[:30])
    clf.partial_fit(x[:1], ["17"] if clf.classes_.dtype.kind == "U" else [17])
    assert 17 in clf.classes_
    assert clf.predict(x[:3]).shape == (3,)


def test_a_training_that_breaks_says_so():
    with pytest.raises(UnstuckError, match="training broke"):
        CNNClassifier(learning_rate=1e30, random_state=0).fit(np.eye(8) * 1e6, np.arange(8) % 2)


def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"nothing")
    with pytest.raises(UnstuckError, match="not a safetensors file"):
        CNNClassifier.load(path)
    nn.Sequential(nn.Linear(2, 2)).init(0).save(path)
    with pytest.raises(UnstuckError, match="no saved classifier"):
        CNNClassifier.load(path)
    with pytest.raises(UnstuckError, match="cannot be written"):
        CNNClassifier(epochs=1).fit(np.eye(2), [0, 1]).save(tmp_path / "no" / "folder")


def test_its_name_is_loaded_when_asked_for():
    assert unstuck.CNNClassifier is unstuck.grow.CNNClassifier


# ---- strategies and growth


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"memory": 200}, 0.9),
        ({"memory": 200, "strategy": "gdumb"}, 0.85),
        ({"strategy": "joint"}, 0.95),
        ({"masked": True}, 0.5),
    ],
    ids=str,
)
def test_each_strategy_keeps_what_it_can(digits, options, least):
    x, y = digits
    clf = CNNClassifier(epochs=10, learning_rate=0.003, random_state=0, **options)
    for part in stages(x, y, 5):
        clf.partial_fit(*part)
    assert clf.score(x, y) > least


@pytest.mark.parametrize("strategy", ["ewc", "lwf"])
def test_elastic_weights_and_distillation_hold_on_to_the_old_network(digits, strategy):
    x, y = digits
    parts = list(stages(x, y, 5))
    far = []
    for one in ("naive", strategy):
        clf = CNNClassifier(epochs=6, learning_rate=0.001, random_state=0, strategy=one, masked=True)
        clf.partial_fit(*parts[0])
        before = clf.decision_function(parts[0][0])[:, :5]
        clf.partial_fit(*parts[1])
        after = clf.decision_function(parts[0][0])[:, :5]
        far.append(np.abs(after - before).mean())
    assert far[1] < 0.8 * far[0]


def test_elastic_weights_are_stored(digits, tmp_path):
    x, y = digits
    one = CNNClassifier(SMALL, epochs=1, random_state=0, strategy="ewc")
    parts = list(stages(x[:200], y[:200]))
    one.partial_fit(*parts[0]).partial_fit(*parts[1]).save(tmp_path / "clf")
    other = CNNClassifier.load(tmp_path / "clf")
    one.partial_fit(*parts[2])
    other.partial_fit(*parts[2])
    assert np.array_equal(one.decision_function(x), other.decision_function(x))


def test_a_step_by_hand_is_the_engines(digits):
    x, y = digits
    both = [CNNClassifier(SMALL, epochs=1, batch_size=16, random_state=0) for _ in range(2)]
    for clf in both:
        clf.fit(x[:16], y[:16])
    learner = both[0]._learner
    inputs, units = learner.form.prepare(x[16:32]), learner.classes.units(y[16:32])
    both[0]._learner.net.train(inputs, units, np.arange(16), 16, 0.01, 0)
    net = both[1]._learner.net
    scores = net.scores(inputs)
    from unstuck.grow.penalties import slope

    net.step(inputs, scores, slope(scores, units, None, None), 0.0, 0.01)
    for name, value in both[0].network_.parameters.items():
        np.testing.assert_allclose(value, both[1].network_.parameters[name], atol=2e-5)


def test_noisy_layers_have_no_steps_by_hand(digits):
    x, y = digits
    clf = CNNClassifier([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()], epochs=1, strategy="lwf")
    clf.partial_fit(x[:20], y[:20] % 2)
    with pytest.raises(UnstuckError, match="'1': BatchNorm2d"):
        clf.partial_fit(x[:20], y[:20] % 2 + 2)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_a_narrow_network_grows_on_a_stream_and_gets_better(digits, seed):
    x, y = digits
    narrow = [nn.Flatten(), nn.Linear(64, 2), nn.ReLU()]
    options = {"memory": 300, "epochs": 60, "learning_rate": 0.01, "random_state": seed}
    fixed, grown = (CNNClassifier(narrow, growth=way, **options) for way in ("outputs", "auto"))
    wide = CNNClassifier([nn.Flatten(), nn.Linear(64, 64), nn.ReLU()], growth="auto", **options)
    for part in stages(x, y):
        for clf in (fixed, grown, wide):
            clf.partial_fit(*part)
    assert {step.what for step in grown.growth_} > {"outputs"}
    assert grown.score(x, y) > fixed.score(x, y) + 0.05
    assert {step.what for step in wide.growth_} == {"outputs"}


def test_a_network_that_is_too_small_grows_where_it_is_stuck(digits, tmp_path):
    x, y = digits
    tiny = [nn.Flatten(), nn.Linear(64, 2), nn.ReLU()]
    fixed = CNNClassifier(tiny, epochs=120, learning_rate=0.01, random_state=1).fit(x, y)
    grown = CNNClassifier(tiny, epochs=120, learning_rate=0.01, random_state=1, growth="auto").fit(x, y)
    hidden = [step for step in grown.growth_ if step.what != "outputs"]
    assert hidden
    assert grown.score(x, y) > fixed.score(x, y) + 0.05
    for step in hidden:
        assert step.evidence["before"] - step.evidence["after"] < 0.02 * step.evidence["before"]
        assert step.evidence["after"] > 0.05 * step.evidence["guessing"]
        assert step.evidence["slope"] > 1e-3
    grown.save(tmp_path / "clf")
    again = CNNClassifier.load(tmp_path / "clf")
    assert again.growth_ == grown.growth_
    again.partial_fit(x, y)
    grown.partial_fit(x, y)
    assert np.array_equal(again.decision_function(x), grown.decision_function(x))


def test_a_network_that_is_large_enough_stays_as_it_is(digits):
    x, y = digits
    clf = CNNClassifier(epochs=40, learning_rate=0.003, random_state=0, growth="auto").fit(x, y)
    assert [step.what for step in clf.growth_] == ["outputs"]


def test_growth_by_hand_keeps_every_answer(digits):
    x, y = digits
    clf = CNNClassifier(epochs=1, random_state=0).fit(x, y)
    before = clf.decision_function(x)
    clf.grow("conv1", 3).grow("fc1", 5, "split")
    np.testing.assert_allclose(clf.decision_function(x), before, atol=1e-5)
    assert [(step.layer, step.count) for step in clf.growth_[1:]] == [("conv1", 3), ("fc1", 5)]
    with pytest.raises(UnstuckError, match="how: expected one of 'new', 'split', found 'double'"):
        clf.grow("fc1", 5, "double")
    with pytest.raises(AttributeError, match="record=True"):
        clf.recording_  # noqa: B018


def test_aligned_weights_have_one_norm(digits):
    x, y = digits
    clf = CNNClassifier(SMALL, memory=50, epochs=2, random_state=0, bias_correction="weights")
    clf.partial_fit(x[y < 5], y[y < 5]).partial_fit(x[y >= 5], y[y >= 5])
    norms = np.linalg.norm(clf.network_.parameters["head.weight"], axis=1)
    assert norms[5:].mean() == pytest.approx(norms[:5].mean(), rel=1e-5)
