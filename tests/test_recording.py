import math
import time

import numpy as np
import pytest

from unstuck.errors import ShapeError, UnstuckError
from unstuck.trace.grouping import torch_names
from unstuck.trace.recording import Meta, Recording
from unstuck.trace.schedule import due
from unstuck.trace.structure import Node, Structure

NAMES = ("W1", "b1", "W2", "b2")


def perceptron(seed=0):
    rng = np.random.default_rng(seed)
    return dict(
        zip(NAMES, [rng.normal(size=(5, 3)), np.zeros(5), rng.normal(size=(2, 5)), np.zeros(2)], strict=True)
    )


def gradients(params, x, t):
    """Forward and backward of a two-layer ReLU network with softmax and cross entropy."""
    h = np.maximum(x @ params["W1"].T + params["b1"], 0)
    z = h @ params["W2"].T + params["b2"]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(p[np.arange(len(t)), t]))
    dz = (p - np.eye(2)[t]) / len(t)
    dh = (dz @ params["W2"]) * (h > 0)
    return loss, dict(zip(NAMES, [dh.T @ x, dh.sum(axis=0), dz.T @ h, dz.sum(axis=0)], strict=True)), h, z


def train(steps, recording=None, *, in_place=False, cast=lambda array: array):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 3))
    t = (x[:, 0] > 0).astype(int)
    params, history = perceptron(), []
    for _ in range(steps):
        history.append({name: array.copy() for name, array in params.items()})
        loss, grads, h, z = gradients(params, x, t)
        if recording is not None:
            recording.step(
                loss=loss,
                params={name: cast(array) for name, array in params.items()},
                grads={name: cast(array) for name, array in grads.items()},
                activations={"h": h, "z": z},
                lr=0.1,
                inputs=x,
                targets=t,
            )
        for name, grad in grads.items():
            if in_place:
                params[name] -= 0.1 * grad
            else:
                params[name] = params[name] - 0.1 * grad
    history.append(params)
    return history


@pytest.mark.parametrize("in_place", [True, False])
def test_updates_and_drift_are_those_of_the_weights(in_place):
    run = Recording(meta=Meta(loss="CrossEntropyLoss"))
    history = train(6, run, in_place=in_place)
    run.close(history[-1])
    assert run.steps == 6
    assert run.meta.complete
    for layer, name in (("W1", "W1"), ("W1.bias", "b1"), ("W2", "W2"), ("W2.bias", "b2")):
        for k in range(6):
            update = np.linalg.norm(history[k + 1][name] - history[k][name])
            drift = np.linalg.norm(history[k + 1][name] - history[0][name])
            assert run.at("update_norm", layer, k) == pytest.approx(update)
            assert run.at("drift_norm", layer, k) == pytest.approx(drift)
            assert run.at("weight_norm", layer, k) == pytest.approx(np.linalg.norm(history[k][name]))
        norm = np.linalg.norm(history[0][name])
        if norm == 0:
            assert run.is_null("drift", layer)
            assert run.last("drift", layer) is None
        else:
            assert run.last("drift", layer) == pytest.approx(drift / norm)


def test_without_the_final_weights_the_last_update_stays_unknown():
    run = Recording()
    train(4, run)
    run.close()
    run.close()
    assert run.series("update_norm", "W1").steps.tolist() == [0, 1, 2]
    assert run.series("weight_norm", "W1").steps.tolist() == [0, 1, 2, 3]


def test_the_network_and_its_data_are_measured():
    run = Recording(meta=Meta(loss="CrossEntropyLoss"))
    train(3, run)
    assert run.series("lr").values.tolist() == [0.1] * 3
    assert run.series("data.mean").steps.tolist() == [0]
    majority = run.first("data.majority")
    assert majority in {k / 8 for k in range(4, 9)}
    prior = -majority * math.log(majority) - (1 - majority) * math.log(1 - majority)
    assert run.first("baseline_loss") == pytest.approx(prior)
    assert 0 <= run.first("accuracy") <= 1
    assert run.first("predicted_classes") in {1.0, 2.0}
    assert run.series("grad_cosine").steps.tolist() == [1, 2]
    assert run.first("output_variation") == run.first("act_variation", "z")


def test_the_structure_is_the_chain_that_the_arrays_show():
    run = Recording()
    train(1, run)
    assert [(node.name, node.type, node.inputs) for node in run.structure.nodes] == [
        ("W1", "Linear", ("input",)),
        ("h", "Output", ("W1",)),
        ("W2", "Linear", ("h",)),
        ("z", "Output", ("W2",)),
    ]
    assert run.structure.layers[0].parameters == {"weight": (5, 3), "bias": (5,)}
    assert run.layers("weight_norm") == ("W1", "W1.bias", "W2", "W2.bias")
    assert run.layers("act_mean") == ("h", "z")
    assert run.layers("dead") == ()


def test_activations_stand_behind_the_layer_of_their_width():
    run = Recording()
    rng = np.random.default_rng(0)
    run.step(
        params={"conv.weight": rng.normal(size=(4, 1, 3, 3)), "fc.weight": rng.normal(size=(4, 16))},
        activations={
            "z1": np.ones((2, 4, 3, 3)),
            "a1": np.ones((2, 4, 3, 3)),
            "pool": np.ones((2, 4)),
            "z2": np.ones((2, 4)),
        },
    )
    assert [node.name for node in run.structure.nodes] == ["conv", "z1", "a1", "fc", "pool", "z2"]
    assert run.structure.nodes[0].type == "Conv2d"
    scores = Recording()
    scores.step(params=perceptron(), activations={"scores": np.ones((4, 2))})
    assert [node.name for node in scores.structure.nodes] == ["W1", "W2", "scores"]
    named = Recording()
    named.step(
        params={"a": np.ones((2, 3)), "b": np.ones((2, 2))},
        activations={"a": np.ones((4, 2)), "b": np.ones((4, 2))},
    )
    assert [(node.name, node.type, node.shape) for node in named.structure.nodes] == [
        ("a", "Linear", (2,)),
        ("b", "Linear", (2,)),
    ]


def test_activations_may_come_later_than_parameters():
    run = Recording()
    run.step(params=perceptron())
    assert [node.name for node in run.structure.nodes] == ["W1", "W2"]
    run.step(params=perceptron(), activations={"h": np.ones((4, 5))})
    assert [node.name for node in run.structure.nodes] == ["W1", "h", "W2"]
    assert run.series("units", "h").steps.tolist() == [1]


def test_a_loaded_recording_goes_on(tmp_path):
    run = Recording()
    train(3, run)
    run.save(tmp_path)
    loaded = Recording.load(tmp_path)
    train(1, loaded)
    assert loaded.series("loss").steps.tolist() == [0, 1, 2, 3]
    assert loaded.structure == run.structure


def test_names_group_by_suffix_or_by_shape():
    assert torch_names(
        {"conv.weight": (4, 1, 3, 3), "conv.bias": (4,), "W": (2, 4), "b": (2,), "gain": (2,)}
    ) == {
        "conv.weight": "conv.weight",
        "conv.bias": "conv.bias",
        "W": "W.weight",
        "b": "W.bias",
        "gain": "gain.weight",
    }
    with pytest.raises(UnstuckError, match=r"'a\.weight'.*'a'"):
        torch_names({"a.weight": (2, 3), "a": (2, 3)})


def test_a_transposed_layout_is_pointed_out():
    with pytest.warns(UserWarning, match=r"'b'.*axis 0 must count the units.*W\.T"):
        Recording().step(params={"W": np.ones((3, 5)), "b": np.ones(5)})


def test_the_type_of_an_operation_decides_what_is_measured():
    nodes = (
        Node("fc", "Linear", ("input",), (2,), {"weight": (2, 3), "bias": (2,)}),
        Node("act", "ReLU", ("fc",), (2,)),
        Node("out", "Sigmoid", ("act",), (2,)),
    )
    run = Recording(Structure(nodes=nodes))
    z = np.array([[0.0, 1.0], [0.0, 0.0]])
    run.step(params={"fc.weight": np.ones((2, 3))}, activations={"fc": z, "act": z, "out": z})
    assert run.layers("dead") == ("act",)
    assert (run.first("dead", "act"), run.first("zero", "act")) == (0.5, 0.75)
    assert run.layers("slope") == ("out",)
    assert run.layers("act_rms") == ("fc", "act", "out")


def test_nothing_that_is_passed_in_changes_and_kept_arrays_are_copies():
    run = Recording()
    params, grads = perceptron(), perceptron(1)
    run.step(params=params, grads=grads)
    for name in params:
        params[name] += 1.0
        grads[name] += 1.0
    run.step(params=params, grads=grads)
    assert run.first("update_norm", "W1") == pytest.approx(math.sqrt(15))
    assert run.last("grad_cosine") != pytest.approx(1.0)
    frozen = perceptron()
    before = {name: array.copy() for name, array in frozen.items()}
    for array in frozen.values():
        array.flags.writeable = False
    run.step(params=frozen, grads=frozen)
    run.close(frozen)
    assert all((array == before[name]).all() for name, array in frozen.items())


def test_lists_and_float32_give_the_same_as_float64():
    double, lists, single = Recording(), Recording(), Recording()
    train(3, double)
    train(3, lists, cast=lambda array: array.tolist())
    train(3, single, cast=lambda array: array.astype(np.float32))
    for quantity in ("weight_norm", "grad_norm", "update_norm", "unit_spread"):
        wanted = double.series(quantity, "W1").values
        assert (lists.series(quantity, "W1").values == wanted).all()
        assert single.series(quantity, "W1").values == pytest.approx(wanted, rel=1e-4)


def test_a_missing_gradient_is_null_and_an_absent_one_is_not_measured():
    run = Recording()
    run.step(params={"a": np.ones((2, 3)), "c": np.ones((2, 2))}, grads={"a": None})
    assert run.is_null("grad_norm", "a")
    assert not run.has("grad_norm", "c")
    assert run.has("grad_norm")


def test_nan_is_recorded_and_never_raises():
    run = Recording(meta=Meta(loss="MSELoss"))
    bad = np.full((2, 3), np.nan)
    for _ in range(2):
        run.step(
            loss=float("nan"),
            params={"a": bad},
            grads={"a": bad},
            activations={"y": bad},
            inputs=bad,
            targets=bad,
        )
    assert math.isnan(run.first("loss"))
    assert run.first("nonfinite", "a") == 1.0
    assert math.isnan(run.first("update_norm", "a"))
    assert run.is_null("effective_rank", "y")
    assert run.first("data.nonfinite") == 1.0
    assert run.is_null("data.mean")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"grads": {"W9": np.ones(2)}}, r"grads\['W9'\].*W1, b1, W2, b2"),
        ({"grads": {"W1": np.ones((3, 5))}}, r"grads\['W1'\].*\(3, 5\).*\(5, 3\)"),
        ({"params": {"W1": "text"}}, r"params\['W1'\].*str"),
        ({"params": {"W1": [[1, 2], [3]]}}, r"params\['W1'\].*list"),
        ({"params": {"W1": np.ones((5, 3)) * 1j}}, r"params\['W1'\].*complex"),
        ({"params": [np.ones(3)]}, "params: expected a dict"),
        ({"params": {1: np.ones(3)}}, "params.*key 1"),
        ({"params": {"W1": np.ones((5, 3))}}, r"params\['b1'\] is missing"),
        ({"params": perceptron() | {"W3": np.ones((2, 2))}}, r"params\['W3'\] is new"),
        ({"params": perceptron() | {"W1": np.ones((4, 3))}}, r"params\['W1'\].*\(4, 3\).*\(5, 3\)"),
        ({"loss": np.ones(3)}, "loss.*one number"),
        ({"loss": "low"}, "loss.*str"),
        ({"activations": {"k": np.ones((2, 2))}}, r"activations\['k'\].*W1, W2, y"),
        ({"activations": {"W1": np.ones((0, 2))}}, r"activations\['W1'\].*\(0, 2\)"),
        ({"inputs": np.ones((3, 2)), "targets": np.ones(4)}, "inputs has 3 samples, targets has 4"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    run = Recording()
    run.step(params=perceptron(), activations={"y": np.ones((2, 2))})
    with pytest.raises(UnstuckError, match=message):
        run.step(**({"params": perceptron()} | call))


def test_parameters_must_fit_a_given_structure():
    structure = Structure(nodes=(Node("fc", "Linear", ("input",), (2,), {"weight": (2, 3)}),))
    with pytest.raises(UnstuckError, match=r"'W\.weight'.*its layers: fc"):
        Recording(structure).step(params={"W": np.ones((2, 3))})
    with pytest.raises(ShapeError, match=r"'fc\.weight'.*\(3, 2\).*\(2, 3\)"):
        Recording(structure).step(params={"fc.weight": np.ones((3, 2))})


def test_a_torch_tensor_that_needs_its_gradient_is_refused_in_words():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, 3)
    run = Recording()
    run.step(params={"w": tensor})
    assert run.first("weight_norm", "w") == pytest.approx(math.sqrt(6))
    with pytest.raises(UnstuckError, match=r"params\['w'\].*detach"):
        run.step(params={"w": tensor.requires_grad_()})


def test_rows_are_found_again():
    run = Recording()
    run.add(3, "fc", "drift", 0.5)
    run.add(1, "fc", "drift", None)
    run.add(2, "fc", "drift", math.nan)
    run.add(3, "fc", "drift", 0.75)
    series = run.series("drift", "fc")
    assert series.steps.tolist() == [2, 3]
    assert math.isnan(series.values[0])
    assert run.at("drift", "fc", 3) == run.last("drift", "fc") == 0.75
    assert run.at("drift", "fc", 1) is run.first("drift", "fc") is run.at("drift", "fc", 9) is None
    assert run.is_null("drift", "fc", 1)
    assert not run.is_null("drift", "fc")
    assert not run.is_null("drift", "fc", 0)
    assert run.has("drift", "fc")
    assert not run.has("drift", "conv")
    assert run.series("loss").steps.size == 0
    assert run.steps == 4
    run.add(4, "fc", "drift", 1.0)
    assert run.series("drift", "fc").steps.tolist() == [2, 3, 4]


def test_the_last_of_several_rows_for_a_step_counts():
    run = Recording()
    for k in range(1000):
        run.add((7 * k) % 10, "", "loss", float(k))
    assert run.series("loss").steps.tolist() == list(range(10))
    latest = [max(k for k in range(1000) if (7 * k) % 10 == step) for step in range(10)]
    assert run.series("loss").values.tolist() == latest


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((0, "", "lose", 1.0), "'lose'.*'loss'"),
        ((-1, "", "loss", 1.0), "negative"),
        ((0, "", "loss", "much"), "loss.*'much'"),
    ],
)
def test_bad_rows_are_refused(row, message):
    with pytest.raises(UnstuckError, match=message):
        Recording().add(*row)


def test_layers_stand_in_forward_order_whatever_the_order_of_rows():
    structure = Structure(nodes=(Node("b", "Linear", ("input",)), Node("a", "Linear", ("b",))))
    run = Recording(structure)
    for layer in ("x", "a.bias", "a", "b.bias", "w", "b"):
        run.add(0, layer, "grad_norm", 1.0)
    assert run.layers("grad_norm") == ("b", "b.bias", "a", "a.bias", "x", "w")


def test_long_runs_are_measured_ever_more_rarely():
    run = Recording()
    weight = np.ones((2, 2))
    for _ in range(600):
        run.step(loss=1.0, params={"w": weight})
        weight = weight * 1.001
    assert run.steps == 600
    assert run.series("loss").steps.size == 600
    steps = run.series("weight_norm", "w").steps.tolist()
    assert steps == [k for k in range(600) if due(k)]
    assert len(steps) == 128 + 64 + 64 + 11
    assert run.series("update_ratio", "w").steps.tolist() == steps
    assert run.series("update_ratio", "w").values == pytest.approx(0.001)


def test_reading_a_thousand_steps_of_fifty_layers_takes_milliseconds():
    run = Recording()
    quantities = ("weight_norm", "grad_norm", "update_ratio", "drift", "unit_spread", "act_std", "act_mean")
    for step in range(1000):
        for layer in range(50):
            run.add_row(step, f"layer{layer}", dict.fromkeys(quantities, 1.0))
    begin = time.process_time()
    total = sum(
        run.series(quantity, layer).values.sum() for quantity in quantities for layer in run.layers(quantity)
    )
    took = time.process_time() - begin
    assert total == 350_000
    begin = time.process_time()
    for quantity in quantities:
        for layer in run.layers(quantity):
            run.series(quantity, layer)
            run.last(quantity, layer)
            run.at(quantity, layer, 500)
    again = time.process_time() - begin
    assert took < 0.2
    assert again < 0.05
