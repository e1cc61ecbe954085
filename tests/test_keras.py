"""Keras on PyTorch: training runs as it does unwatched, and shows what the same network shows in PyTorch."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the name that everybody uses)

from training_data import digits
from unstuck.sources.torch.record import record


@pytest.fixture
def keras() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of changes in PyTorch
        import keras

        assert keras.backend.backend() == "torch"
        yield keras


def assert_sound(diagnosis: Any) -> None:
    found = [(one.code, one.layer, one.summary) for one in diagnosis.findings]
    assert diagnosis.status == "healthy", (found, diagnosis.outcome)


def keras_perceptron(keras: Any, **compile_options: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    settings = {
        "optimizer": keras.optimizers.SGD(0.1, momentum=0.9),
        "loss": "sparse_categorical_crossentropy",
    }
    model.compile(**(settings | compile_options))
    return model


def compare_keras(keras: Any, make: Callable[[], Any], data: tuple[Any, Any], **fit_options: Any) -> Any:
    """Trains with and without watching; returns the recorder."""
    from unstuck.sources.keras.recorder import record_keras

    def train(*, watched: bool) -> tuple[Any, Any]:
        keras.utils.set_random_seed(3)
        model = make()
        with record_keras(model) if watched else nullcontext() as run:
            model.fit(*data, verbose=0, **fit_options)
        return model, run

    plain, _ = train(watched=False)
    watched, run = train(watched=True)
    for first, second in zip(plain.get_weights(), watched.get_weights(), strict=True):
        assert first.tobytes() == second.tobytes()
    for replaced in ("call", "compute_loss"):
        assert replaced not in vars(watched)
    assert "apply" not in vars(watched.optimizer)
    assert run.warnings == []
    return run


def test_keras_fit(keras: Any) -> None:
    inputs, labels = (tensor.numpy() for tensor in digits())
    run = compare_keras(
        keras,
        lambda: keras_perceptron(keras),
        (inputs, labels),
        epochs=4,
        batch_size=32,
        validation_data=(inputs[:100], labels[:100]),
    )
    assert_sound(run.diagnose())
    recording = run.recording
    assert recording.steps == 4 * 57
    assert len(recording.series("loss").values) == recording.steps
    nodes = {node.name: node for node in recording.structure.nodes}
    assert [node.type for node in nodes.values()] == ["Linear", "ReLU", "Linear"]
    first = recording.structure.layers[0]
    assert first.parameters == {"weight": (32, 64), "bias": (32,)}
    assert recording.last("accuracy") > 0.8


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse", "own function", "own class"])
def test_keras_brings_predictions_and_targets_to_one_rank(keras: Any, loss: str) -> None:
    """Targets (N,) against predictions (N, 1) are no table, unless a loss class of one's own makes one."""
    from unstuck.sources.keras.recorder import record_keras

    inputs, labels = (tensor.numpy() for tensor in digits())

    def square(wanted: Any, given: Any) -> Any:
        return keras.ops.mean(keras.ops.square(wanted - given), axis=-1)

    class Table(keras.losses.Loss):
        def call(self, wanted: Any, given: Any) -> Any:
            return square(keras.ops.cast(wanted, "float32"), given)

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential(layers)
    model.compile(
        optimizer=keras.optimizers.Adam(0.01),
        loss={"own function": square, "own class": Table()}.get(loss, loss),
    )
    with record_keras(model) as run:
        model.fit(inputs, (labels > 4).astype("float32"), epochs=6, batch_size=32, verbose=0)
    codes = [finding.code for finding in run.diagnose().findings]
    assert codes[:1] == (["OUT006"] if loss == "own class" else [])


def test_keras_convolutions_with_normalisation(keras: Any) -> None:
    layers = keras.layers
    inputs, labels = (tensor.numpy() for tensor in digits(images=True))

    def make() -> Any:
        image = keras.Input((8, 8, 1))
        x = layers.Conv2D(8, 3, padding="same", use_bias=False)(image)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", activation="relu")(x)])
        x = layers.Dropout(0.1)(layers.Flatten()(layers.MaxPooling2D()(x)))
        model = keras.Model(image, layers.Dense(10)(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(2e-3), loss=loss, metrics=["accuracy"])
        return model

    run = compare_keras(keras, make, (inputs.transpose(0, 2, 3, 1), labels), epochs=2, batch_size=64)
    assert_sound(run.diagnose())
    nodes = run.recording.structure.nodes
    assert [node.type for node in nodes] == [
        "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "ReLU", "add", "MaxPool2d", "Flatten", "Dropout", "Linear",
    ]  # fmt: skip
    assert nodes[0].parameters["weight"] == (8, 1, 3, 3)
    assert set(nodes[5].inputs) == {nodes[2].name, nodes[4].name}


def test_keras_agrees_with_pytorch(keras: Any) -> None:
    """The same weights, data and steps give the same numbers, whichever library they are watched in."""
    from unstuck.sources.keras.recorder import record_keras

    inputs, labels = digits()
    inputs, labels = inputs[:64], labels[:64]
    keras.utils.set_random_seed(3)
    theirs = keras_perceptron(keras)
    ours = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for layer, dense in zip((ours[0], ours[2]), theirs.layers, strict=True):
            layer.weight.copy_(torch.tensor(dense.get_weights()[0].T))
            layer.bias.zero_()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    with record(ours, optimizer, every=1) as first:
        for _ in range(8):
            optimizer.zero_grad()
            F.cross_entropy(ours(inputs), labels).backward()
            optimizer.step()
    with record_keras(theirs) as second:
        theirs.fit(inputs.numpy(), labels.numpy(), epochs=8, batch_size=64, shuffle=False, verbose=0)
    names = dict(zip(("0", "2"), (layer.name for layer in theirs.layers), strict=True))
    for quantity in ("weight_norm", "grad_norm", "update_norm", "update_ratio", "drift", "zero_grad"):
        for one, other in names.items():
            expected, found = first.recording.series(quantity, one), second.recording.series(quantity, other)
            steps = sorted(set(expected.steps.tolist()) & set(found.steps.tolist()))
            assert len(steps) >= 1, quantity
            for step in steps:
                assert first.recording.at(quantity, one, step) == pytest.approx(
                    second.recording.at(quantity, other, step), rel=2e-3, abs=1e-6
                ), (quantity, one, step)
    assert first.recording.series("loss").values == pytest.approx(
        second.recording.series("loss").values, rel=1e-4
    )


def test_keras_and_pytorch_show_the_same_fault(keras: Any) -> None:
    """A first layer of zeros."""
    from unstuck.sources.keras.recorder import record_keras

    inputs, labels = digits()
    keras.utils.set_random_seed(3)
    theirs = keras.Sequential(
        [keras.layers.Dense(32, activation="relu", kernel_initializer="zeros"), keras.layers.Dense(10)]
    )
    theirs.compile(
        optimizer=keras.optimizers.SGD(0.1), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    with record_keras(theirs) as run:
        theirs.fit(inputs.numpy(), labels.numpy(), epochs=2, verbose=0)
    ours = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        for parameter in ours[0].parameters():
            parameter.zero_()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    with record(ours, optimizer) as other:
        for _ in range(2):
            for batch, answer in zip(inputs.split(32), labels.split(32), strict=True):
                optimizer.zero_grad()
                F.cross_entropy(ours(batch), answer).backward()
                optimizer.step()
    names = {layer.name: name for layer, name in zip(theirs.layers, ("0", "2"), strict=True)}

    def told(diagnosis: Any, names: dict[str, str]) -> list[tuple[str, str]]:
        return [
            (one.code, names.get(one.layer, one.layer))
            for finding in diagnosis.findings
            for one in (finding, *finding.consequences)
        ]

    found = told(run.diagnose(), names)
    assert found == told(other.diagnose(), {})
    assert found[0][1] == "0"


def test_keras_refuses_what_it_cannot_watch(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from unstuck.sources.keras.recorder import record_keras

    with pytest.raises(ValueError, match=r"expected a keras\.Model, found Linear"):
        record_keras(nn.Linear(2, 2))
    model = keras_perceptron(keras)
    with monkeypatch.context() as patch:
        patch.setattr(keras.backend, "backend", lambda: "jax")
        with pytest.raises(ValueError, match="on Keras's backend jax the whole step is compiled"):
            record_keras(model)
        patch.setattr(keras.backend, "backend", lambda: "tensorflow")
        with pytest.raises(ValueError, match="run_eagerly=True"):
            record_keras(model)
    with pytest.raises(ValueError, match="compile it first"):
        record_keras(keras.Sequential([keras.layers.Dense(1)]))


@pytest.mark.parametrize(("penalty", "further"), [(0.0, False), (1e-5, False), (1.0, True), ("added", True)])
def test_terms_that_are_added_to_a_keras_loss_make_its_constant_that_of_a_part(
    keras: Any, penalty, further
) -> None:
    from unstuck.sources.keras.recorder import record_keras

    class Adds(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            self.add_loss(keras.ops.mean(x**2))
            return x

    inputs, labels = (tensor.numpy() for tensor in digits())
    keras.utils.set_random_seed(0)
    held = keras.regularizers.L2(penalty) if penalty and penalty != "added" else None
    layers = [keras.layers.Dense(16, activation="relu", kernel_regularizer=held)]
    layers += [Adds()] if penalty == "added" else []
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss)
    with record_keras(model) as run:
        model.fit(inputs, labels, epochs=1, batch_size=64, verbose=0)
    assert run.recording.has("part_baseline") == further
    assert run.recording.has("baseline_loss") != further


@pytest.mark.parametrize(
    ("last", "scores", "bad", "code"),
    [
        ("softmax", True, False, "OUT002"),
        (None, False, False, "OUT003"),
        ("softmax", False, False, None),
        (None, True, False, None),
        ("softmax", False, True, "DAT003"),
    ],
)
def test_faults_that_people_bring_from_keras(
    keras: Any, last: Any, scores: bool, bad: bool, code: Any
) -> None:
    from unstuck.sources.keras.recorder import record_keras

    inputs, labels = (tensor.numpy().copy() for tensor in digits())
    if bad:
        inputs[700, 3] = float("nan")  # not in the first batch
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, activation=last)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=scores)
    model.compile(optimizer=keras.optimizers.Adam(3e-3), loss=loss)
    with record_keras(model) as run:
        model.fit(inputs, labels, epochs=5, batch_size=32, verbose=0, shuffle=False)
    diagnosis = run.diagnose()
    codes = [one.code for one in diagnosis.findings if one.severity != "info"]
    assert codes[:1] == ([code] if code else [])
    assert diagnosis.healthy == (code is None)
