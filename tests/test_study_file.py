"""Study files: everything can be a factor; what is wrong is one line that names the file and the key."""

import pytest

from small_study import STUDY, rows, tables
from unstuck.errors import UnstuckError
from unstuck.study.run import run_study


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "points.toml"
    path.write_text(STUDY)
    return path


WRONG = [
    ("seeds = 130", 'seeds = "many"', "study.seeds: expected int, got str"),
    ("seeds = 130", "seeds = 0", "study.seeds: found 0, expected at least 1"),
    ("epochs = 400", "epoch = 400", "study.epoch: unknown key, expected some of name, seeds"),
    ('name = "points"', 'name = "../points"', "study.name: found '../points'"),
    ("batch_size = 1", "batchsize = 1", "train.batchsize: unknown key"),
    ("batch_size = 1", "batch_size = -1", "batch_size"),
    ('type="SGD", lr=0.5', 'type="SGD", rate=0.5', "train.optimizer.rate: unknown key, expected some of lr"),
    ('type="SGD", lr=0.5', 'type="Sgd", lr=0.5', "train.optimizer.type: found 'Sgd', expected one of SGD"),
    ('loss = "MSELoss"', 'loss = "MSE"', "train.loss: found 'MSE', expected one of MSELoss"),
    ('{type="Sigmoid"}', '{type="Sigmoidal"}', "network.layers.3: no layer type 'Sigmoidal'"),
    ('{type="ReLU"}', '{type="Conv2d", out=3, kernel_size=3}', "network.layers.1"),
    ('{type="Sigmoid"}', '{kind="Sigmoid"}', "network.layers.3: type: missing"),
    ('{type="Linear", out=4}', '{type="Linear"}', "network.layers.0"),
    ('scheme="uniform", low=-1.0', 'scheme="unifrom", low=-1.0', "init.weights"),
    ("accuracy = 1.0", "accuraccy = 1.0", "success: unknown key 'accuraccy'"),
    ("points = [0.0, 0.5, 1.0]", "", "points: found none"),
    ("points = [0.0, 0.5, 1.0]", 'points = "a"', "data.points: expected array"),
    ('"train.optimizer.lr" = [0.5, 1]', '"train.optimiser.lr" = [0.5, 1]', "train.optimiser: unknown key"),
    ('"train.optimizer.lr" = [0.5, 1]', '"training.lr" = [0.5, 1]', "factors: training.lr: leads nowhere"),
    ('"train.optimizer.lr" = [0.5, 1]', '"train.optimizer.lr" = []', "found an empty list"),
    ('"train.optimizer.lr" = [0.5, 1]', '"train.optimizer.lr" = [1, 0.5, 1.0]', "found 1.0 twice"),
    ('"train.optimizer.lr" = [0.5, 1]', '"train.optimizer.lr" = 0.5', "expected a list of values"),
    ('"train.optimizer.lr" = [0.5, 1]', '"train.optimizer.lr" = [0.5, -1]', "train.optimizer.lr = -1"),
    ('"network.layers.1.type"', '"network.layers.9.type"', "network.layers has no 9, expected 0 to 3"),
    ('"network.layers.1.type"', '"network.layers.1.type.x"', "network.layers.1.type is ReLU, no table"),
    ('"network.layers.1.type"', '"study.seeds"', "study.seeds: cannot be varied"),
    ("[factors]", "[factors", "no TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "said"), WRONG, ids=[wrong for _, wrong, _ in WRONG])
def test_what_is_wrong_is_named_with_its_file_and_key(study, tmp_path, right, wrong, said):
    assert right in STUDY
    study.write_text(STUDY.replace(right, wrong, 1))
    with pytest.raises(UnstuckError) as error:
        run_study(study, out=tmp_path / "out")
    assert said.lower() in str(error.value).lower()
    assert str(study) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("factor", "values"),
    [
        ("init.order", ["layer", "neuron"]),
        ("init.streams", ["independent", "reseeded_per_layer"]),
        ("init.weights", ["he_normal", {"scheme": "uniform", "low": -1.0, "high": 1.0}]),
        ("init.bias.high", [0.5, 1.0]),
        ("data.points", [[0.0, 1.0], [0.0, 0.5, 1.0]]),
        ("data.order", ["fixed", "shuffled"]),
        ("network.layers.0.out", [4, 8]),
        (
            "network.layers",
            [[{"type": "Linear", "out": 2}], [{"type": "Linear", "out": 2}, {"type": "Sigmoid"}]],
        ),
        ("train.loss_scale", [1.0, 3.0]),
        ("train.batch_size", [0, 1]),
        ("study.epochs", [10, 20]),
    ],
)
def test_everything_can_be_a_factor(tmp_path, factor, values):
    plan = {**tables(), "factors": {factor: values}}
    plan["study"] = {**plan["study"], "seeds": 20, "epochs": 50}
    result = run_study(plan, out=tmp_path)
    assert [cell.factors[factor] for cell in result.cells] == values
    assert len(rows(result)) == 40
