"""Watching steps from inside the training's own pass: the same bits, and what the slow way finds."""

import numpy as np
import pytest

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn.fit import start
from unstuck.nn.kernels import watching
from unstuck.nn.watch import ENOUGH, Watch
from unstuck.trace import measure

LANES = {np.float32: 16, np.float64: 8}


def training(*layers, dtype=np.float64, samples=24, batch=0, epochs=6, lr=0.1, **options):
    net = nn.Sequential(
        nn.Conv2d(2, 5, 3), *layers, nn.Flatten(), nn.Linear(5 * 12, 7), nn.Tanh(), nn.Linear(7, 3)
    )
    net.init(3, dtype=dtype)
    rng = np.random.default_rng(1)
    data = rng.normal(size=(samples, 2, 5, 6)), rng.integers(3, size=samples)
    return nn.Training(net, data, nn.CrossEntropyLoss(), nn.SGD(lr, momentum=0.9), batch, epochs, **options)


def watched(plan, every=1, threads=1):
    """What is found of all steps, and the weights before each and after the last."""
    session = start(plan, 0)
    session.threads = threads
    watch = Watch(plan, session.params, every)
    session.advance_slice(session.last_step, watch)
    assert session.step == session.last_step
    return watch.read(session.step), watch, session


def weights(plan):
    session = start(plan, 0)
    path = [session.params.copy()]
    while session.step < session.last_step:
        session.advance(session.step + 1)
        path.append(session.params.copy())
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.Sigmoid(), nn.ELU()])
def test_outputs_are_those_of_the_batch(act, dtype):
    """Where a batch is one chunk and an output is small, every number of it is looked at."""
    plan = training(act, dtype=dtype, samples=LANES[dtype] - 3)
    found, watch, _ = watched(plan)
    near = 1e-5 if dtype is np.float32 else 1e-12
    for step, params in enumerate(weights(plan)[:-1]):
        session = start(plan, 0)
        session.params[...] = params
        outputs = session.activations(plan.samples)
        assert list(watch.outputs) == [name for name in outputs if name in watch.outputs]
        for i, name in enumerate(watch.outputs):
            kind = plan.network.layers[name].type
            expected = measure.size_stats(outputs[name], kind)
            mean, square, deviation, filled, slope, flat = found.outputs[i, :, step]
            got = {"act_mean": mean, "act_rms": np.sqrt(square), "act_std": np.sqrt(deviation)}
            got |= {"zero": 1 - filled} if kind in {"ReLU", "ELU"} else {}
            got |= {"slope": slope, "saturated": flat} if kind in {"Sigmoid", "Tanh"} else {}
            for quantity, value in got.items():
                assert value == pytest.approx(expected[quantity], rel=near, abs=near), (name, quantity)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_of_several_chunks_every_other_one_is_looked_at_in_turn(dtype):
    lanes = LANES[dtype]
    plan = training(nn.ReLU(), dtype=dtype, samples=4 * lanes - 5, shuffle=False)
    found, watch, _ = watched(plan)
    i = list(watch.outputs).index("5")
    for step, params in enumerate(weights(plan)[:-1]):
        session = start(plan, 0)
        session.params[...] = params
        chunks = np.arange(plan.samples.count) // lanes % 2 == step % 2
        output = session.activations(plan.samples)["5"][chunks]
        expected = measure.size_stats(output, "Linear")
        near = 1e-5 if dtype is np.float32 else 1e-12
        assert found.outputs[i, watching.MEAN, step] == pytest.approx(
            expected["act_mean"], rel=near, abs=near
        )
        assert np.sqrt(found.outputs[i, watching.DEVIATION, step]) == pytest.approx(
            expected["act_std"], rel=near
        )


def test_of_a_large_output_evenly_spread_numbers_are_looked_at():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(4 * 900, 2)
    ).init(0)
    x = np.random.default_rng(0).normal(size=(16, 1, 30, 30)).astype(np.float32)
    plan = nn.Training(net, (x, np.arange(16) % 2), nn.CrossEntropyLoss(), nn.SGD(0.01), 0, 1)
    found, watch, _ = watched(plan)
    rows = watch.plan[watching.HEAD :].tolist()
    looked_at = rows[watching.CHANNELS] * rows[watching.LINES] * rows[watching.POSITIONS]
    assert 64 <= looked_at <= ENOUGH
    other = start(plan, 0)
    output = other.activations(plan.samples)["0"].reshape(16, 4, -1)
    spacing = rows[watching.POSITION_STEP] // watch.training.program.lanes
    assert spacing % 2 == 1
    some = output[:, :, ::spacing]
    assert found.outputs[0, watching.MEAN, 0] == pytest.approx(some.mean(), rel=1e-5)
    assert found.outputs[0, watching.DEVIATION, 0] == pytest.approx(some.var(axis=(0, 2)).mean(), rel=1e-5)
    assert found.outputs[0, watching.MEAN, 0] == pytest.approx(output.mean(), abs=0.05)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "options", [{}, {"clip_norm": 0.01}, {"loss_scale": 1e-25}, {"loss_scale": 1e21, "lr": 1e-22}]
)
def test_tensors_are_those_of_measure(dtype, options):
    """Also where squares of gradients are no float32 numbers, and where the update is made at once."""
    plan = training(nn.ReLU(), dtype=dtype, samples=40, batch=16, epochs=12, **options)
    found, _, session = watched(plan)
    path, views = weights(plan), plan.layout.views
    gradients = []
    for step in range(session.last_step):
        twin = start(plan, 0)
        twin.advance(step)
        twin.advance(step + 1)
        gradients.append(twin.runner.gradients.copy())
    near = 2e-5 if dtype is np.float32 else 1e-12
    for step in range(session.last_step):
        old, new, slopes = views(path[step]), views(path[step + 1]), views(gradients[step])
        for i, name in enumerate(old):
            sums = found.tensors[i, :, step]
            expected = measure.tensor_stats(old[name], slopes[name])
            expected |= measure.update_stats(old[name], new[name], views(path[0])[name])
            norms = {"weight_norm": sums[0], "grad_norm": sums[1], "update_norm": sums[2]}
            norms |= {"drift_norm": sums[3]} if step % watching.TURNS == 0 else {}
            for quantity, square in norms.items():
                assert np.sqrt(square) == pytest.approx(expected[quantity], rel=near), (name, quantity, step)
            assert 1 - sums[5] / old[name].size == pytest.approx(expected["zero_grad"])
            assert np.isnan(sums[3]) == (step % watching.TURNS != 0)
    for step in range(watching.TURNS, session.last_step, watching.TURNS):
        along = sum(
            float(np.sum(views(gradients[step])[name].astype(float) * old))
            for name, old in views(gradients[step - 1]).items()
        )
        if abs(along) < 1e30:  # else it has no direction
            assert found.tensors[:, 4, step].sum() == pytest.approx(along, rel=1e-4, abs=1e-30)


def test_batch_normalisation_and_dropout_are_seen_as_they_train():
    plan = training(nn.BatchNorm2d(5), nn.Dropout(0.5), dtype=np.float64, samples=8)
    found, watch, _ = watched(plan)
    i = list(watch.outputs).index("1")
    assert found.outputs[i, watching.MEAN, 0] == pytest.approx(0.0, abs=1e-9)  # normalised by the batch
    assert found.outputs[i, watching.DEVIATION, 0] == pytest.approx(1.0, rel=1e-3)
    j = list(watch.outputs).index("2")
    assert 0.7 < found.outputs[j, watching.SQUARE, 0] / 2.0 < 1.4  # half of them, doubled


@pytest.mark.parametrize("threads", [1, 2])
def test_it_changes_no_bit_even_if_threads_share_parts(threads):
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    net.init(0)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 1, 28, 28)).astype(np.float32), rng.integers(10, size=200)
    plan = nn.Training(net, data, nn.CrossEntropyLoss(), nn.Adam(1e-3), 64, 2)
    assert plan.program.parts(64) > 1
    found, _, session = watched(plan, threads=threads)
    np.testing.assert_array_equal(session.params, weights(plan)[-1])
    alone, _, _ = watched(plan, threads=1)
    np.testing.assert_array_equal(found.outputs, alone.outputs)
    np.testing.assert_array_equal(found.tensors, alone.tensors)
    assert np.isfinite(found.outputs).all()


def test_steps_are_those_that_are_divided_and_slices_do_not_matter():
    plan = training(nn.ReLU(), samples=40, batch=16, epochs=20)
    whole, _, _ = watched(plan, every=3)
    assert whole.steps.tolist() == list(range(0, 60, 3))
    session = start(plan, 0)
    watch, parts = Watch(plan, session.params, 3), []
    for end in (1, 2, 7, 8, 9, 31, 60):
        while session.step < end:
            session.advance_slice(end, watch)
            parts.append(watch.read(session.step))
    np.testing.assert_array_equal(np.concatenate([part.steps for part in parts]), whole.steps)
    np.testing.assert_array_equal(np.concatenate([part.outputs for part in parts], axis=2), whole.outputs)
    np.testing.assert_array_equal(np.concatenate([part.tensors for part in parts], axis=2), whole.tensors)


def test_a_recording_of_every_step_holds_them_all_and_what_diverges_has_no_rows():
    plan = training(nn.ReLU(), dtype=np.float32, samples=40, batch=16, epochs=30)
    result = nn.fit(
        plan.network,
        plan.data,
        loss=plan.loss,
        optimizer=plan.optimizer,
        batch_size=16,
        epochs=30,
        seed=0,
        record=True,
        every=1,
    )
    recording = result.recording
    for quantity, layer in (
        ("grad_norm", "0"),
        ("update_ratio", "5"),
        ("zero", "1"),
        ("saturated", "4"),
        ("lr", ""),
    ):
        assert recording.series(quantity, layer).steps[:90].tolist() == list(range(90)), quantity
    assert recording.diagnose().healthy


def test_what_is_no_number_any_more_has_no_row():
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 1)).init(0)
    x = np.random.default_rng(0).normal(size=(40, 2, 5, 6)).astype(np.float32)
    lost = nn.fit(
        net, (x, x[:, 0, 0, 0]), loss=nn.MSELoss(), optimizer=nn.SGD(3.0), batch_size=8, seed=0, record=True,
        every=1,
    )  # fmt: skip
    assert lost.outcome == "diverged"
    steps = lost.recording.series("grad_norm", "3").steps
    assert steps.size > 3
    assert {"LRN001", "GRD004"} & {finding.code for finding in lost.recording.diagnose().findings}
    for quantity in ("act_rms", "act_std"):
        assert np.isfinite(lost.recording.series(quantity, "1").values[:-2]).all()


def test_every_needs_a_recording_and_a_number():
    plan = training(nn.ReLU())
    with pytest.raises(UnstuckError, match="every needs record=True"):
        plan.run(0, every=2)
    with pytest.raises(UnstuckError, match="every must be a whole number of at least 1, found 0"):
        plan.run(0, record=True, every=0)
