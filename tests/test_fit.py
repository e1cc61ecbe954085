"""nn.fit and Training: the contract, the outcomes, batches of every size, and what they refuse."""

import threading
from dataclasses import replace

import numpy as np
import pytest

import naive_network
import twins
from unstuck import nn
from unstuck.errors import DataError, ShapeError, UnstuckError
from unstuck.nn.fit import start

BOTH = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def blobs(count=60, seed=0):
    """Two well separated clouds of points in the plane, and their classes."""
    labels = np.arange(count) % 2
    return twins.images((count, 2), seed) * 0.3 + np.where(labels, 1.0, -1.0)[:, None], labels


def dense(hidden=5, outputs=2):
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def fit(net, data, **options):
    """nn.fit with defaults for these tests."""
    return nn.fit(
        net, data, **{"loss": nn.CrossEntropyLoss(), "optimizer": nn.SGD(0.3), "batch_size": 8} | options
    )


# ---------------------------------------------------------------- the contract


def test_trains_the_network_in_place():
    net, data = dense().init(3), blobs()
    start, before = net.flat.copy(), net.loss_and_grads(*data, nn.CrossEntropyLoss())[0]
    result = fit(net, data, epochs=12, seed=1)
    assert result.net is net
    assert (net.flat != start).any()
    assert result.loss.shape == (12,)
    assert result.epochs == 12
    assert result.outcome == "success"
    assert result.success
    assert result.final_loss == pytest.approx(net.loss_and_grads(*data, nn.CrossEntropyLoss())[0], rel=1e-6)
    assert result.final_loss < 0.2 * before
    assert result.accuracy == np.mean(net.forward(data[0]).argmax(axis=1) == data[1]) == 1.0
    assert (np.diff(result.loss) < 0).all()


def test_goes_on_from_the_weights_that_are_there():
    net, data = dense().init(3), blobs()
    result = fit(net, data, epochs=1, batch_size=0, seed=99)
    assert result.loss[0] == pytest.approx(
        dense().init(3).loss_and_grads(*data, nn.CrossEntropyLoss())[0], rel=1e-6
    )
    again = fit(net, data, epochs=1, batch_size=0)
    assert again.loss[0] == pytest.approx(result.final_loss, rel=1e-6)


def test_initialises_a_network_without_weights_from_the_seed():
    data, options = blobs(), {"epochs": 3, "seed": 5}
    expected = fit(dense().init(5), data, **options).net.flat
    np.testing.assert_array_equal(fit(dense(), data, **options).net.flat, expected)
    assert (
        fit(dense(), data, epochs=3, seed=6).net.parameters["0.weight"] != expected[16:26].reshape(5, 2)
    ).all()
    he = fit(dense(), data, epochs=3, seed=5, init="he").net.flat
    np.testing.assert_array_equal(he, fit(dense().init(5, "he"), data, **options).net.flat)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_order():
    data = blobs()
    runs = [fit(dense().init(1), data, epochs=4, seed=seed) for seed in (2, 2, 3)]
    np.testing.assert_array_equal(runs[0].net.flat, runs[1].net.flat)
    np.testing.assert_array_equal(runs[0].loss, runs[1].loss)
    assert (runs[0].net.flat != runs[2].net.flat).any()
    in_order = [fit(dense().init(1), data, epochs=4, seed=seed, shuffle=False).net.flat for seed in (2, 3)]
    np.testing.assert_array_equal(in_order[0], in_order[1])


def test_seeds_make_arrays_over_members():
    net, data = dense(), blobs()
    result = fit(net, data, epochs=4, seeds=[3, 1, 4])
    assert not net.initialised
    assert len(result) == 3
    np.testing.assert_array_equal(result.seeds, [3, 1, 4])
    assert result.loss.shape == (3, 4)
    assert (
        result.final_loss.shape
        == result.accuracy.shape
        == result.outcome.shape
        == result.epochs.shape
        == (3,)
    )
    np.testing.assert_array_equal(result.epochs, 4)
    np.testing.assert_array_equal(result.success, result.outcome == "success")
    for i in range(3):
        loss, _ = result.member(i).loss_and_grads(*data, nn.CrossEntropyLoss())
        assert loss == pytest.approx(result.final_loss[i], rel=1e-6)
    assert len(fit(net, data, epochs=4, seeds=[])) == 0


def test_seeds_ignore_the_weights_that_are_there():
    data = blobs()
    expected = fit(dense(), data, epochs=2, seeds=[1, 2]).parameters
    np.testing.assert_array_equal(fit(dense().init(9), data, epochs=2, seeds=[1, 2]).parameters, expected)


@BOTH
def test_the_parameters_decide_the_number_type(dtype):
    net = dense().init(0, dtype=dtype)
    assert fit(net, blobs(), epochs=1).net.dtype == dtype
    assert fit(net, blobs(), epochs=1, seeds=[0]).parameters.dtype == dtype


def test_progress_goes_up_to_one():
    shares = []
    fit(dense(), blobs(), epochs=35, batch_size=30, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) == 4
    assert shares[-1] == 1.0
    shares.clear()
    fit(
        dense(), blobs(), epochs=35, batch_size=1, progress=shares.append
    )  # members as lanes: a few times a second
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_progress_of_an_ensemble_ends_at_one_and_its_errors_end_the_run():
    shares = []
    fit(dense(), blobs(), epochs=2, seeds=range(5), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def interrupt(_share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(dense(), blobs(), epochs=2000, seeds=range(50), progress=interrupt)


# ---------------------------------------------------------------- batches


@BOTH
@pytest.mark.parametrize(
    ("count", "batch"),
    [(1, 1), (1, 0), (3, 0), (5, 1), (7, 3), (16, 16), (17, 16), (33, 32), (40, 0), (40, 39), (9, 9)],
)
def test_batches_of_every_size_equal_plain_loops(count, batch, dtype):
    net = dense(3).init(1, dtype=dtype)
    x, labels = blobs(count, 4)
    x = x.astype(dtype)
    loss, optimizer = nn.CrossEntropyLoss(), nn.SGD(0.2, 0.5)
    training = nn.Training(net, (x, labels), loss, optimizer, batch_size=batch, epochs=2)
    expected, losses = naive_network.train(training, net.parameters, seed=3)
    assert training.steps_per_epoch == (1 if batch == 0 else -(-count // batch))
    result = training.run(seed=3)
    twins.close(result.loss, losses, twins.PRECISION[dtype])
    for name, value in result.net.parameters.items():
        twins.close(value, expected[name], twins.PRECISION[dtype], name)


def test_one_number_in_one_number_out():
    x = np.linspace(-1, 1, 9)[:, None]
    result = fit(
        nn.Sequential(nn.Linear(1, 1)), (x, 3 * x + 1), loss=nn.MSELoss(), epochs=200, batch_size=0, seed=0
    )
    np.testing.assert_allclose(result.net.parameters["0.weight"], [[3.0]], atol=1e-5)
    np.testing.assert_allclose(result.net.parameters["0.bias"], [1.0], atol=1e-5)
    assert result.accuracy is None


def test_learns_images_of_three_colours():
    labels = np.arange(24) % 3
    x = 0.1 * twins.images((24, 3, 32, 32))
    x[np.arange(24), labels, 8:24, 8:24] += 1.0
    net = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, 3)
    )
    result = fit(net, (x, labels), epochs=40, seed=0)
    assert result.accuracy == 1.0
    assert result.outcome == "success"


# ---------------------------------------------------------------- outcomes


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_diverged(momentum):
    x, labels = blobs()
    optimizer = nn.SGD(1e6, momentum)
    result = fit(dense(), (x * 1e3, x * 1e3), loss=nn.MSELoss(), optimizer=optimizer, epochs=50, seed=0)
    assert result.outcome == "diverged"
    assert result.epochs < 50
    assert not np.isfinite(result.final_loss)
    assert not result.success
    assert len(result.loss) == max(result.epochs, 1)
    many = fit(dense(), (x * 1e3, x * 1e3), loss=nn.MSELoss(), optimizer=optimizer, epochs=50, seeds=[0, 1])
    assert list(many.outcome) == ["diverged", "diverged"]
    assert fit(dense(), (x, labels), epochs=50, seed=0).outcome == "success"


def test_dead_when_a_whole_layer_is_inactive():
    net = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2)).init(0)
    net.parameters["0.bias"][:] = -100
    before = net.parameters["0.weight"].copy()
    assert fit(net, blobs(), epochs=3).outcome == "dead"
    np.testing.assert_array_equal(net.parameters["0.weight"], before)


def test_one_silent_unit_of_a_hidden_layer_is_not_dead():
    net = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 2)).init(0)
    net.parameters["0.bias"][:] = [-100, -100, -100, -100, 5]
    assert fit(net, blobs(), epochs=3, optimizer=nn.SGD(0.0)).outcome == "stuck"


def test_dead_when_one_output_is_inactive():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU()).init(0)
    net.parameters["0.bias"][:] = [5.0, -100.0]
    options = {"epochs": 1, "optimizer": nn.SGD(0.0)}
    assert fit(net, blobs(), **options).outcome == "dead"
    net.parameters["0.bias"][:] = [5.0, 5.0]
    assert fit(net, blobs(), **options).outcome == "stuck"


def test_stuck_when_zero_layers_stand_in_series():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    result = fit(net, blobs(), epochs=20, batch_size=0, init={"weights": "zeros", "bias": "zeros"})
    assert result.outcome == "stuck"
    for name, value in net.parameters.items():
        assert name == "4.bias" or not value.any(), name
    assert result.final_loss == pytest.approx(np.log(2), rel=1e-6)


def test_success_without_a_criterion_is_half_the_loss_of_the_best_constant():
    x = np.linspace(-1, 1, 21)[:, None]
    constant = np.mean((x - x.mean()) ** 2)
    for share, outcome in ((0.49, "success"), (0.51, "stuck")):
        weight = 1 - np.sqrt(share)  # loss: share of that of the constant
        net = nn.Sequential(nn.Linear(1, 1, bias=False)).load({"0.weight": [[weight]]})
        result = fit(net, (x, x), loss=nn.MSELoss(), optimizer=nn.SGD(0.0), epochs=1)
        assert result.final_loss == pytest.approx(share * constant, rel=1e-5)
        assert result.outcome == outcome


@pytest.mark.parametrize(
    "criterion", [{"accuracy": 1.0}, {"loss": 0.05}, {"mse": 0.02}, {"accuracy": 0.9, "loss": 0.05}], ids=str
)
def test_success_ends_the_training(criterion):
    options = {"loss": nn.MSELoss(), "epochs": 400, "seed": 2}
    result = fit(dense(), blobs(), success=criterion, **options)
    assert result.outcome == "success"
    assert result.epochs < 400
    assert result.epochs % 10 == 0
    assert result.loss.shape == (result.epochs,)
    # it held at the end, and ten epochs earlier it did not
    earlier = result.epochs - 10
    if earlier:
        before = fit(dense(), blobs(), success=criterion, **options | {"epochs": earlier})
        assert before.outcome == "stuck"
    straight = fit(dense(), blobs(), **options | {"epochs": result.epochs})
    np.testing.assert_array_equal(straight.net.flat, result.net.flat)


@pytest.mark.parametrize("criterion", [{"loss": 1e-9}, {"mse": 1e-9}, {"loss": 10.0, "mse": 1e-9}], ids=str)
def test_a_criterion_that_is_not_met_is_no_success(criterion):
    result = fit(dense(), blobs(), loss=nn.MSELoss(), success=criterion, epochs=15, seed=2)
    assert result.outcome == "stuck"
    assert result.epochs == 15


def test_mse_can_be_asked_of_another_loss():
    net, (x, labels) = dense(), blobs()
    result = fit(net, (x, labels), success={"mse": 0.5}, epochs=50, seed=0)
    scores = net.forward(x).astype(np.float64)
    assert (np.mean((scores - np.eye(2)[labels]) ** 2) <= 0.5) == (result.outcome == "success")


# ---------------------------------------------------------------- running


def test_slices_of_any_length_give_the_same_bits():
    training = nn.Training(dense(), blobs(), nn.CrossEntropyLoss(), nn.SGD(0.3, 0.9), batch_size=7, epochs=6)
    whole, parts = start(training, 4), start(training, 4)
    whole.advance(whole.last_step)
    for step in (1, 2, 5, 9, 10, 22, 23, 40, whole.last_step):
        parts.advance(step)
        assert parts.step == step
        parts.full_loss()  # looking changes nothing
    np.testing.assert_array_equal(parts.params, whole.params)
    np.testing.assert_array_equal(parts.state, whole.state)
    np.testing.assert_allclose(parts.epoch_losses, whole.epoch_losses, rtol=1e-13)
    np.testing.assert_array_equal(training.run(seed=4).net.flat, whole.params)
    parts.advance(3)
    assert parts.step == whole.last_step


def test_a_fork_goes_on_by_itself():
    training = nn.Training(dense(), blobs(), nn.CrossEntropyLoss(), nn.SGD(0.3, 0.9), batch_size=7, epochs=6)
    whole, trunk = start(training, 4), start(training, 4)
    whole.advance(30)
    trunk.advance(13)
    kept = trunk.params.copy(), trunk.state.copy()
    branch, other = trunk.fork(training.optimizer), trunk.fork(nn.SGD(0.03, 0.9))
    branch.advance(30)
    other.advance(30)
    np.testing.assert_array_equal(trunk.params, kept[0])
    np.testing.assert_array_equal(trunk.state, kept[1])
    assert trunk.step == 13
    np.testing.assert_array_equal(branch.params, whole.params)
    np.testing.assert_array_equal(branch.epoch_losses, whole.epoch_losses)
    assert (other.params != whole.params).any()


def test_two_threads_at_once_give_the_bits_of_one_alone():
    data = blobs(300)
    jobs = [(dense(8), 1), (nn.Sequential(nn.Linear(2, 9), nn.ReLU(), nn.Linear(9, 2)), 2)]
    options = {"epochs": 60, "batch_size": 4}
    alone = [fit(nn.Sequential(net.layers), data, seed=seed, **options).net.flat for net, seed in jobs]
    found = {}
    gate = threading.Barrier(len(jobs))

    def work(index):
        net, seed = jobs[index]
        gate.wait()
        found[index] = fit(net, data, seed=seed, **options).net.flat

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, flat in enumerate(alone):
        np.testing.assert_array_equal(found[index], flat)


def test_a_training_is_a_value():
    training = nn.Training(dense(), blobs(), nn.CrossEntropyLoss(), nn.SGD(0.3), batch_size=8, epochs=3)
    slower = replace(training, optimizer=nn.SGD(0.1), frozen=("0",))
    first = training.run(seed=1)
    other = slower.run(seed=1)
    assert (first.net.flat != other.net.flat).any()
    np.testing.assert_array_equal(other.net.parameters["0.weight"], dense().init(1).parameters["0.weight"])
    np.testing.assert_array_equal(training.run(seed=1).net.flat, first.net.flat)


# ---------------------------------------------------------------- what they refuse


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batchsize": 3}, r"fit: unknown option 'batchsize', expected some of clip_norm, clip_value"),
        (
            {"batch_size": -1},
            r"batch_size \(0 means all samples\) must be a whole number of at least 0, found -1",
        ),
        (
            {"batch_size": 2.5},
            r"batch_size \(0 means all samples\) must be a whole number of at least 0, found 2.5",
        ),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, found 0"),
        ({"epochs": True}, "epochs must be a whole number of at least 1, found True"),
        ({"loss_scale": 0.0}, "loss_scale must be above 0, found 0.0"),
        ({"loss_scale": float("nan")}, "loss_scale must be a finite number, found nan"),
        ({"success": {"f1": 0.5}}, "success: unknown key 'f1', expected some of loss, mse, accuracy"),
        ({"frozen": ["fc"]}, r"frozen: no layer or parameter 'fc'; there are 0, 0.bias, 0.weight, 2"),
        ({"init": "gloroot"}, "gloroot"),
        ({"seed": -1}, r"seed: found -1, expected a whole number from 0 to 2\*\*64 - 1"),
        ({"seeds": [0, -1]}, r"seed: found -1, expected a whole number from 0 to 2\*\*64 - 1"),
        ({"seeds": [0.5]}, r"seed: found 0.5, expected a whole number"),
        ({"seed": 1, "seeds": [1]}, "give either seed .* or seeds, not both"),
        ({"seeds": [1], "record": True}, "give either seed .* or seeds, not both"),
    ],
)
def test_refuses_options_out_of_range(options, words):
    with pytest.raises(UnstuckError, match=words):
        fit(dense(), blobs(), **options)


def test_refuses_a_bad_seed_for_a_network_with_weights_too():
    with pytest.raises(UnstuckError, match="seed: found -1, expected a whole number"):
        fit(dense().init(0), blobs(), seed=-1)


def test_refuses_data_that_do_not_fit():
    x, labels = blobs()
    with pytest.raises(ShapeError, match=r"layer '0': Linear needs samples of shape \(2,\), got \(3,\)"):
        fit(dense(), (np.zeros((4, 3)), [0, 1, 0, 1]))
    with pytest.raises(ShapeError, match=r"CrossEntropyLoss needs classes of shape \(60,\), got .* \(59,\)"):
        fit(dense(), (x, labels[1:]))
    with pytest.raises(DataError, match=r"labels must lie in 0\.\.1 for 2 outputs, found 0\.\.2"):
        fit(dense(), (x, labels + np.arange(60) // 59))
    with pytest.raises(DataError, match="inputs contain 1 NaN or infinite numbers"):
        fit(dense(), (np.where(np.arange(120).reshape(60, 2) == 7, np.nan, x), labels))
    with pytest.raises(DataError, match="needs whole numbers as classes"):
        fit(dense(), (x, labels + 0.5))


def test_a_refused_training_leaves_the_network_as_it_was():
    net = dense().init(1)
    before = net.flat.copy()
    with pytest.raises(UnstuckError):
        fit(net, blobs(), batch_size=-1)
    np.testing.assert_array_equal(net.flat, before)


@pytest.mark.parametrize("batch_size", [0, 60, 61, 1000, np.int64(60)])
def test_a_batch_larger_than_the_data_is_all_of_them(batch_size):
    one, all_of_them = dense().init(1), dense().init(1)
    fit(one, blobs(), batch_size=batch_size)
    fit(all_of_them, blobs(), batch_size=60)
    np.testing.assert_array_equal(one.flat, all_of_them.flat)


def test_arrays_taken_before_training_stay_those_of_the_network():
    net = dense().init(1)
    weight = net.parameters["0.weight"]
    before = weight.copy()
    fit(net, blobs())
    assert not np.array_equal(weight, before)
    np.testing.assert_array_equal(weight, net.parameters["0.weight"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": nn.MSELoss}, "loss: expected an nn.Loss, found"),
        ({"optimizer": nn.SGD}, "optimizer: expected an nn.Optimizer, found"),
        ({"success": {"accuracy": 0.9}, "loss": nn.MSELoss()}, "accuracy was asked for"),
        ({"frozen": "0.wait"}, "no layer or parameter '0.wait'"),
        ({"threads": -1}, "threads must be a whole number of at least 1"),
    ],
)
def test_refuses_what_is_of_another_kind(changes, words):
    x, labels = blobs()
    targets = np.eye(2)[labels] * 0.5 if "success" in changes else labels
    with pytest.raises(UnstuckError, match=words):
        fit(dense(), (x, targets), **changes)


@pytest.mark.parametrize("loss", [nn.BCELoss(), nn.BCEWithLogitsLoss()])
def test_binary_losses_refuse_targets_that_are_no_probabilities(loss):
    with pytest.raises(DataError, match=r"needs targets in 0\.\.1, found 0\.\.7"):
        loss.prepare(np.array([[0.0], [7.0]]), (1,), 2)
