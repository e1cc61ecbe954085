import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive_measures as naive
from unstuck.trace import baseline, measure
from unstuck.trace.distinct import count_distinct

RNG = np.random.default_rng(5)
CONV = RNG.normal(size=(4, 3, 3, 3))
LOW_RANK = RNG.normal(size=(12, 2)) @ RNG.normal(size=(2, 5))
TWINS = RNG.normal(size=(7, 3))[:, [0, 1, 0, 2, 1]]

OUTPUTS = {
    "random": RNG.normal(size=(9, 4)),
    "float32": RNG.normal(size=(9, 4)).astype(np.float32),
    "image": RNG.normal(size=(3, 2, 2, 3)),
    "sequence": RNG.normal(size=(4, 3, 2)),
    "wide": RNG.normal(size=(3, 8)),
    "low rank": LOW_RANK,
    "equal units": TWINS,
    "scaled units": TWINS * np.array([1.0, 2.0, 3.0, 4.0, 5.0]),
    "opposite units": np.stack([TWINS[:, 0], -TWINS[:, 0]], axis=1),
    "one sample": RNG.normal(size=(1, 4)),
    "one sample, positions": RNG.normal(size=(1, 2, 3, 3)),
    "one unit": RNG.normal(size=(5, 1)),
    "constant": np.full((6, 3), 0.7),
    "constant per unit": np.tile([0.1, 0.7, -3.0], (6, 1)),
    "zero": np.zeros((6, 3)),
    "a zero sample": np.vstack([np.zeros((1, 3)), RNG.normal(size=(4, 3))]),
    "a zero unit": np.hstack([np.zeros((5, 1)), RNG.normal(size=(5, 2))]),
    "tiny": RNG.normal(size=(5, 3)) * 1e-120,
    "large": RNG.normal(size=(5, 3)) * 1e120,
}


def close(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is None:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-300), name


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", ["Linear", "ReLU", "Sigmoid", "Tanh"])
def test_output_stats_equal_the_naive_ones(name, kind):
    output = OUTPUTS[name]
    if kind == "ReLU":
        output = np.maximum(output, 0)
    elif kind in {"Sigmoid", "Tanh"}:
        output = 1 / (1 + np.exp(-np.clip(output, -30, 30))) if kind == "Sigmoid" else np.tanh(output)
    close(measure.output_stats(output, kind), naive.output_stats(output.astype(float).tolist(), kind))


def test_a_vector_of_outputs_is_one_unit():
    x = RNG.normal(size=6)
    assert measure.output_stats(x) == measure.output_stats(x[:, None])


@pytest.mark.parametrize("bias", [None, np.zeros(4), np.arange(4.0)])
@pytest.mark.parametrize(
    "weight",
    [
        CONV,
        CONV.astype(np.float32),
        CONV * 0,
        CONV[[0, 0, 0, 0]],
        CONV[[0, 1, 0, 1]],
        np.arange(4.0),
        CONV * 1e-120,
    ],
    ids=["random", "float32", "zero", "equal", "pairs", "scale", "tiny"],
)
def test_unit_stats_equal_the_naive_ones(weight, bias):
    rows = naive.units(weight.tolist(), None if bias is None else bias.tolist())
    found = measure.unit_stats(weight, bias, grad=weight[::-1], bias_grad=None)
    close(
        found,
        {
            "unit_spread": naive.spread(rows),
            "distinct_units": naive.distinct_units(rows),
            "grad_spread": naive.spread(naive.units(weight[::-1].tolist())),
        },
    )


def test_a_single_unit_has_no_spread():
    assert measure.unit_stats(np.ones((1, 3))) == {"unit_spread": None, "distinct_units": 1.0}


def test_spread_is_between_half_the_largest_distance_and_it():
    rows = RNG.normal(size=(9, 3))
    largest = max(naive.distance(a, b) for a in rows.tolist() for b in rows.tolist())
    scale = max(naive.norm(row) for row in rows.tolist())
    assert largest / 2 / scale <= measure.spread(rows) <= largest / scale


def test_distinct_units_counts_to_a_millionth():
    unit = RNG.normal(size=8)
    rows = np.stack([unit, unit * (1 + 1e-8), unit * (1 + 1e-4), unit + 1e-3])
    assert measure.distinct_units(rows) == 3


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.integers(1, 5),
    st.sampled_from([1e-30, 1.0, 1e10]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_count_distinct_finds_as_many_as_were_made(picks, width, outlier, seed):
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(7, width)) + 10 * np.arange(7)[:, None]
    pool[3] *= outlier
    rows = pool[picks] * (1 + 1e-9 * rng.normal(size=(len(picks), 1)))
    assert count_distinct(rows, 1e-6) == len(set(picks))


def test_count_distinct_over_several_blocks():
    rows = (
        np.repeat(np.arange(1400.0), 2)[:, None] * 1e-9 + 1.0
    )  # all within reach of each other by projection
    spread_out = np.hstack([rows, np.repeat(np.eye(1400), 2, axis=0)])
    noise = 1e-12 * RNG.normal(size=spread_out.shape)
    assert count_distinct(spread_out + noise, 1e-6) == 1400


def test_large_layers_are_measured_quickly_in_little_memory():
    import time
    import tracemalloc

    weight = RNG.normal(size=(2048, 512)).astype(np.float32)
    for layer in (weight, np.tile(weight[:2], (1024, 1)), weight * 0):
        tracemalloc.start()
        begin = time.process_time()
        measure.unit_stats(layer)
        took = time.process_time() - begin
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < 1.0
        assert peak < 8 * layer.size * 8  # a few float64 copies, no table of units × units × inputs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensor_and_update_stats_equal_the_naive_ones(dtype):
    start, before, after = (RNG.normal(size=(3, 4)).astype(dtype) for _ in range(3))
    close(
        measure.update_stats(before, after, start),
        naive.update_stats(before.tolist(), after.tolist(), start.tolist()),
    )
    grad = after * (after > 0)
    close(
        measure.tensor_stats(before, grad),
        {
            "weight_norm": naive.norm(before.tolist()),
            "grad_norm": naive.norm(grad.tolist()),
            "zero_grad": sum(x == 0 for x in naive.flatten(grad.tolist())) / 12,
            "nonfinite": 0.0,
        },
    )


def test_zero_weights_have_no_relative_update_but_an_absolute_one():
    values = measure.update_stats(np.zeros(3), np.array([3.0, 4.0, 0.0]), np.zeros(3))
    assert values == {"update_norm": 5.0, "update_ratio": None, "drift_norm": 5.0, "drift": None}


def test_grad_cosine():
    a, b = RNG.normal(size=(2, 5)), RNG.normal(size=3)
    c, d = RNG.normal(size=(2, 5)), RNG.normal(size=3)
    wanted = naive.cosine([*a.ravel(), *b], [*c.ravel(), *d])
    assert measure.grad_cosine([(a, c), (b, d)]) == pytest.approx(wanted)
    assert measure.grad_cosine([(a, a * 0)]) is None
    assert measure.grad_cosine([(a, np.full_like(a, np.nan))]) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_told_and_never_warned_of(bad):
    weight = np.ones((2, 4), dtype=np.float32)
    weight[1, 2] = bad
    values = measure.tensor_stats(weight, np.zeros_like(weight))
    assert values["nonfinite"] == measure.tensor_stats(np.ones((2, 4)), weight)["nonfinite"] == 1 / 8
    assert not math.isfinite(values["weight_norm"])
    assert set(measure.unit_stats(weight, None, weight).values()) == {None}
    update = measure.update_stats(np.ones((2, 4)), weight, np.ones((2, 4)))
    assert not math.isfinite(update["update_norm"])
    for kind in ("Linear", "ReLU", "Sigmoid", "Tanh"):
        stats = measure.output_stats(weight, kind)
        assert not math.isfinite(stats["act_rms"])
        for name in ("act_std", "act_variation", "input_cosine", "effective_rank", "distinct_outputs"):
            assert stats[name] is None
    assert baseline.prediction_stats(weight, targets=np.array([0, 1]))["predicted_classes"] is None


def test_huge_finite_values_overflow_nowhere():
    for output in (RNG.normal(size=(5, 3)) * 1e300, (RNG.normal(size=(5, 3)) * 1e37).astype(np.float32)):
        stats = measure.output_stats(output)
        assert all(math.isfinite(value) for value in stats.values())
        assert math.isfinite(measure.norm(output))
        assert stats["effective_rank"] > 1


def test_many_rows_are_thinned_out_and_tell_the_same():
    basis = RNG.normal(size=(3, 6))
    output = (RNG.normal(size=(9000, 3)) @ basis)[:, [0, 1, 2, 3, 4, 5, 5]]
    stats = measure.output_stats(output)
    whole = measure.effective_rank(output)
    assert stats["effective_rank"] == pytest.approx(whole, rel=0.03)
    assert stats["distinct_outputs"] == 6


def test_arrays_are_only_read():
    arrays = [CONV, OUTPUTS["image"], OUTPUTS["random"]]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    measure.unit_stats(CONV, np.zeros(4), CONV, np.zeros(4))
    measure.tensor_stats(CONV, CONV)
    measure.output_stats(OUTPUTS["image"], "Tanh")
    baseline.prediction_stats(OUTPUTS["random"], targets=np.arange(9) % 4, loss_name="MSELoss")
    for array, copy in zip(arrays, before, strict=True):
        assert (array == copy).all()
        array.flags.writeable = True


def test_data_stats_leave_out_what_is_not_finite():
    stats = measure.data_stats(np.array([[1.0, np.nan], [3.0, np.inf]]))
    assert stats == {
        "data.values": 2.0,
        "data.commonest": 0.5,
        "data.min": 1.0,
        "data.max": 3.0,
        "data.mean": 2.0,
        "data.std": 1.0,
        "data.nonfinite": 0.5,
    }
    nothing = measure.data_stats(np.full(3, np.nan))
    assert nothing["data.nonfinite"] == 1.0
    assert nothing["data.mean"] is None


LABELS = [0, 2, 2, 1, 2, 2, 0]


@pytest.mark.parametrize(
    ("loss", "targets", "n_classes"),
    [
        ("CrossEntropyLoss", LABELS, 3),
        ("MSELoss", LABELS, 3),
        ("BCELoss", LABELS, 3),
        ("BCEWithLogitsLoss", [0, 1, 1, 0, 1], 1),
        ("MSELoss", [0.25, 0.5, 0.9, 0.1], 1),
    ],
)
def test_baseline_is_what_the_best_constant_reaches(loss, targets, n_classes):
    wanted = naive.baseline_loss(loss, targets, n_classes)
    assert baseline.baseline_loss(loss, np.array(targets), n_classes) == pytest.approx(wanted, rel=1e-6)


def test_baseline_of_one_hot_targets_is_that_of_their_classes():
    one_hot = np.eye(3)[LABELS]
    for loss in ("CrossEntropyLoss", "MSELoss", "BCEWithLogitsLoss"):
        of_labels = baseline.baseline_loss(loss, np.array(LABELS), 3)
        assert baseline.baseline_loss(loss, one_hot, 3) == pytest.approx(of_labels)
    assert baseline.baseline_loss("NLLLoss", np.array(LABELS), None) == pytest.approx(
        baseline.baseline_loss("CrossEntropyLoss", np.array(LABELS), 3)
    )


@pytest.mark.parametrize(
    ("loss", "targets", "n_classes"),
    [
        ("TripletLoss", LABELS, 3),
        (None, LABELS, 3),
        ("MSELoss", [], 3),
        ("MSELoss", [0.0, np.nan], 1),
        ("CrossEntropyLoss", [0, 3], 3),
        ("CrossEntropyLoss", [-1, 2], 3),
        ("CrossEntropyLoss", [0.5, 0.1], 3),
        ("BCELoss", [2.0, 3.0], 1),
    ],
)
def test_no_baseline_where_none_is_defined(loss, targets, n_classes):
    assert baseline.baseline_loss(loss, np.array(targets), n_classes) is None


def test_ties_are_wrong_and_nan_too():
    scores = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [np.nan, 0.0], [0.0, 1.0]])
    labels = np.array([0, 0, 0, 0, 5])
    assert baseline.accuracy(scores, labels) == 1 / 5
    scores, labels = RNG.integers(0, 3, size=(30, 3)).astype(float), RNG.integers(0, 3, size=30)
    assert baseline.accuracy(scores, labels) == pytest.approx(
        naive.accuracy(scores.tolist(), labels.tolist())
    )


def test_accuracy_of_a_yes_no_output_needs_its_loss():
    scores, labels = np.array([[-1.0], [0.4], [0.5], [2.0]]), np.array([0, 1, 1, 1])
    assert baseline.accuracy(scores, labels, "BCEWithLogitsLoss") == 1.0
    assert baseline.accuracy(scores, labels, "BCELoss") == 0.5
    assert baseline.accuracy(scores, labels, "MSELoss") is None


def test_labels_from_integers_and_one_hot_rows_only():
    assert baseline.class_labels(np.array([[2], [0]])).tolist() == [2, 0]
    assert baseline.class_labels(np.eye(3)[[2, 0]]).tolist() == [2, 0]
    assert baseline.class_labels(np.array([0.5, 1.0])) is None
    assert baseline.class_labels(np.array([[1.0, 1.0], [0.0, 1.0]])) is None
    assert baseline.majority(np.array(LABELS)) == 4 / 7
