"""What the engine's kernels measure against `trace.measure`, layer by layer; watching changes nothing."""

import numpy as np
import pytest

from unstuck import nn
from unstuck.nn.fit import start
from unstuck.nn.observer import Observer
from unstuck.sources.engine import record_training
from unstuck.sources.engine_layers import Layers
from unstuck.trace import measure
from unstuck.trace.recording import Recording
from unstuck.trace.schedule import measured_steps


def images(activation, dtype=np.float32, samples=37, scale=1.0, **options):
    """A training of a small convolutional network, on a number of samples that no vector divides."""
    rng = np.random.default_rng(1)
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), activation, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 7),
        nn.ReLU(), nn.Linear(7, 3),
    )  # fmt: skip
    net.init(3, dtype=dtype)
    x = scale * rng.normal(size=(samples, 2, 6, 7))
    return nn.Training(
        net, (x, rng.integers(3, size=samples)), nn.CrossEntropyLoss(), nn.SGD(0.1), 8, 4, **options
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.ELU(), nn.GELU()])
@pytest.mark.parametrize("samples", [1, 16, 37])
def test_sums_of_outputs_are_those_of_measure(activation, dtype, samples):
    training = images(activation, dtype, samples)
    session = start(training, 0)
    recording = Recording(training.network.structure((2, 6, 7)))
    layers = Layers(recording, training, training.samples, session.params)
    layers.outputs(0, session.params, close=False)
    layers.flush()
    compare(recording, training, session.activations(training.samples), dtype)


def compare(recording, training, activations, dtype):
    for name, output in activations.items():
        expected = measure.size_stats(output, training.network.layers[name].type)
        for quantity, value in expected.items():
            found = recording.at(quantity, name, 0)
            if value is None:
                assert found is None
                assert recording.is_null(quantity, name, 0)
            else:
                near = 1e-5 if dtype is np.float32 else 1e-12
                assert found == pytest.approx(value, rel=near, abs=near, nan_ok=True), (name, quantity)


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e25, np.nan, np.inf])
def test_outputs_whose_squares_are_not_representable(scale):
    training = images(nn.ReLU(), scale=1.0)
    session = start(training, 0)
    with np.errstate(invalid="ignore"):
        params = session.params * np.float32(scale)
    recording = Recording(training.network.structure((2, 6, 7)))
    layers = Layers(recording, training, training.samples, params)
    layers.outputs(0, params, close=False)
    layers.flush()
    session.params[...] = params
    compare(recording, training, session.activations(training.samples), np.float32)


@pytest.mark.parametrize("scale", [1.0, 0.0, 1e-25, 1e25, np.nan])
def test_sums_of_weights_are_those_of_measure(scale):
    training = images(nn.ReLU())
    session = start(training, 0)
    recording = Recording(training.network.structure((2, 6, 7)))
    layers = Layers(recording, training, training.samples, session.params)
    rng = np.random.default_rng(0)
    points = [session.params + rng.normal(size=session.params.size).astype(np.float32) for _ in range(2)]
    slopes = [
        np.float32(scale) * rng.normal(size=session.params.size).astype(np.float32).clip(0) for _ in range(2)
    ]
    for step, gradient in enumerate(slopes):
        layers.weights(step, points[0], points[1], gradient, close=True)
    layers.flush()
    views = training.layout.views
    cosine = measure.grad_cosine(
        (b, a) for a, b in zip(*(views(slope).values() for slope in slopes), strict=True)
    )
    found = recording.at("grad_cosine", "", 1)
    assert found is cosine if cosine is None else found == pytest.approx(cosine, rel=1e-5, abs=1e-6)
    first, before, after = views(session.params), views(points[0]), views(points[1])
    for name, gradient in views(slopes[1]).items():
        expected = measure.tensor_stats(before[name], gradient)
        expected |= measure.update_stats(before[name], after[name], first[name])
        for quantity, value in expected.items():
            got = recording.at(quantity, name.removesuffix(".weight"), 1)
            assert got is value if value is None else got == pytest.approx(value, rel=1e-5, nan_ok=True)
        if name.endswith(".weight"):
            assert recording.has("distinct_units", name.removesuffix(".weight"))


@pytest.mark.parametrize("every", [None, 1, 3])
def test_watching_changes_no_bit_and_measures_the_steps_it_says(every):
    training = images(nn.Tanh(), samples=40)
    result = record_training(training, 5, every=every)
    np.testing.assert_array_equal(result.net.flat, training.run(seed=5).net.flat)
    expected = set(measured_steps(20)) | (set(range(0, 20, every)) if every else set())
    recording = result.recording
    assert recording.series("update_norm", "4").steps.tolist() == sorted(expected)
    assert recording.series("act_rms", "1").steps.tolist() == sorted(expected | {20})
    assert recording.series("lr").steps.tolist() == sorted(expected)
    assert recording.series("full_loss").steps.tolist() == [*measured_steps(20), 20]
    assert recording.series("distinct_units", "4").steps.tolist() == [0, 1, 4, 19]
    assert recording.series("effective_rank", "0").steps.tolist() == [0, 1, 4, 19, 20]
    assert recording.series("loss").steps.size == recording.steps == 20


def test_a_network_too_large_for_all_samples_at_once_is_looked_at_with_fewer(monkeypatch):
    training = images(nn.ReLU(), samples=70)
    monkeypatch.setattr("unstuck.nn.observer.MOST_BYTES", 1)
    observer = Observer(training, training.samples)
    assert observer.samples.count == observer.program.lanes
    observer.look(start(training, 0).params)
    some = start(training, 0).activations(observer.samples)
    for name, output in some.items():
        np.testing.assert_array_equal(observer.output(name), output)
