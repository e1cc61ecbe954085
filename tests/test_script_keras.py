"""Keras in a script that is run unchanged: what trains is found by itself, or it is said why not."""

import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unstuck.sources.script.diagnosis import diagnose_trainings
from unstuck.sources.script.run import ScriptResult, WatchOptions, run_script

HEAD = """
import hashlib, keras, numpy, torch
keras.utils.clear_session()
keras.utils.set_random_seed(3)
x = numpy.random.randn(256, 8).astype("float32")
y = (x[:, 0] + x[:, 1] > 0).astype("int32")
def digest(*models):
    weights = b"".join(array.tobytes() for model in models for array in model.get_weights())
    print(hashlib.sha256(weights + torch.get_rng_state().numpy().tobytes()).hexdigest())
"""
FIT = (
    HEAD
    + """
model = keras.Sequential([
    keras.layers.Dense(16, activation="relu"),
    keras.layers.Dense(2),
])
model.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
model.fit(x, y, epochs=4, verbose=0, validation_split=0.2)
digest(model)
"""
)
OWN_LOOP = (
    HEAD
    + """
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2)])
optimizer = keras.optimizers.SGD(0.1)
criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
for _ in range(12):
    model.zero_grad()
    criterion(torch.tensor(y), model(torch.tensor(x))).backward()
    with torch.no_grad():
        optimizer.apply([one.value.grad for one in model.trainable_weights], model.trainable_weights)
digest(model)
"""
)
OPTIMISER_OF_PYTORCH = (
    HEAD
    + """
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(2)])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(12):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(y).long()).backward()
    optimizer.step()
digest(model)
"""
)
ADVERSARIES = (
    HEAD
    + """
class Pair(keras.Model):
    def __init__(self):
        super().__init__()
        self.maker = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        self.critic = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    def compile(self, first, second):
        super().compile()
        self.first, self.second = first, second
    def train_step(self, data):
        for part, optimizer, sign in ((self.critic, self.first, 1), (self.maker, self.second, -1)):
            self.zero_grad()
            loss = sign * (self.critic(self.maker(torch.randn(32, 4))) - self.critic(data)).mean()
            loss.backward()
            weights = part.trainable_weights
            with torch.no_grad():
                optimizer.apply([one.value.grad for one in weights], weights)
        return {"loss": loss}
pair = Pair()
pair.built = True
pair.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
pair.fit(x, batch_size=32, epochs=2, verbose=0)
digest(pair.maker, pair.critic)
"""
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ScriptResult]]:
    monkeypatch.chdir(tmp_path)

    def run(text: str, **options: Any) -> ScriptResult:
        Path("train.py").write_text(text)
        result = run_script("train.py", (), WatchOptions(**options))
        assert result.error is None
        return result

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of changes in PyTorch
        yield run


@pytest.mark.parametrize(
    ("text", "steps"),
    [(FIT, [28]), (OWN_LOOP, [11]), (OPTIMISER_OF_PYTORCH, [12]), (ADVERSARIES, [15, 15])],
    ids=["fit", "own loop", "optimiser of PyTorch", "two optimisers"],
)
def test_what_trains_is_found_and_its_numbers_stay_the_same(
    text: str, steps: list[int], run: Callable[..., ScriptResult], capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(text)
    assert [one.recording.steps for one in result.trainings] == steps
    for one in result.trainings:
        assert one.recording.has("update_ratio")
        assert len(one.recording.series("loss").steps) == one.recording.steps
    assert [note for note in result.notes if "could not" in note] == []
    watched = capsys.readouterr().out
    runpy.run_path("train.py", run_name="__main__")
    assert capsys.readouterr().out == watched
    assert len(watched) == 65


def test_layers_and_optimiser_are_found_with_their_lines(run: Callable[..., ScriptResult]) -> None:
    result = run(FIT)
    assert result.notes == ()
    (training,) = result.trainings
    places = {node.name: node.location for node in training.recording.structure.nodes}
    lines = [place.line for place in places.values() if place is not None]
    assert lines == [12, 12, 13]
    assert training.optimizer is not None
    assert training.optimizer.line == 16
    assert training.recording.meta.name == "train.py"
    found, _ = diagnose_trainings(result.trainings)
    assert found.status == "healthy", found.findings


def test_a_fault_is_named_with_its_line(run: Callable[..., ScriptResult]) -> None:
    result = run(FIT.replace("Adam(0.01)", "SGD(1e-7)"))
    found, _ = diagnose_trainings(result.trainings)
    assert [(one.code, one.location.line) for one in found.findings if one.location] == [("LRN009", 16)]


def test_steps_stop_fit(run: Callable[..., ScriptResult]) -> None:
    result = run(FIT, steps=5)
    assert (result.ending, result.steps, result.stopped) == ("stopped", 5, "steps")
    (training,) = result.trainings
    assert training.recording.series("update_norm", "dense").steps.tolist() == [0, 1, 2, 3, 4]


def test_one_fit_after_another_goes_on_and_a_new_optimiser_begins_anew(
    run: Callable[..., ScriptResult],
) -> None:
    again = "model.fit(x, y, epochs=1, verbose=0)\n"
    anew = "model.compile('sgd', keras.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
    assert [one.recording.steps for one in run(FIT + again).trainings] == [28 + 8]
    assert [one.recording.steps for one in run(FIT + anew + again).trainings] == [28, 8]


def test_nothing_stays_changed(run: Callable[..., ScriptResult]) -> None:
    import keras

    kinds = [*keras.Model.__mro__, *keras.optimizers.LossScaleOptimizer.__mro__]
    names = ("__init__", "apply", "make_train_function")
    methods = [(kind, name, vars(kind)[name]) for kind in kinds for name in names if name in vars(kind)]
    run(FIT)
    assert [vars(kind)[name] for kind, name, _ in methods] == [method for _, _, method in methods]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (("Dense(16, ", "Dense(16, kernel_initializer='zeros', "), 1, "train.py:12"),
        (("model.fit", "keras.backend.backend = lambda: 'jax'\nmodel.fit"), 2, "KERAS_BACKEND=torch"),
    ],
    ids=["faulty", "unseen"],
)
def test_from_the_command_line(change: tuple[str, str], status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FIT.replace(*change))
    command = [sys.executable, "-c", "from unstuck.cli import main; main()", "run", "train.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == status
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            FIT.replace("model.fit", "keras.backend.backend = lambda: 'jax'\nmodel.fit"),
            "a training was not recorded: on Keras's backend jax the whole step is compiled, nothing in",
        ),
        (
            FIT.replace("model.fit", "keras.backend.backend = lambda: 'tensorflow'\nmodel.fit"),
            "compile(..., run_eagerly=True)",
        ),
        (
            FIT.replace(
                "model.fit", "model._jit_compile = True\nmodel._should_torch_compile = bool\nmodel.fit"
            ),
            "jit_compile=False",
        ),
        (
            HEAD + "keras.Sequential([keras.layers.Dense(1)])(x)\n",
            "it uses Keras, but none of its optimisers",
        ),
    ],
    ids=["jax", "tensorflow", "compiled", "no training"],
)
def test_what_cannot_be_seen_is_said_in_a_line(
    text: str, reason: str, run: Callable[..., ScriptResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.setattr(keras.backend, "backend", keras.backend.backend)  # scripts change it
    result = run(text)
    assert result.trainings == ()
    assert result.unseen.startswith("train.py: ")
    assert reason in result.unseen
    assert "\n" not in result.unseen
