import numpy as np
import pytest

from unstuck import nn
from unstuck.nn.initialise import draw
from unstuck.trace.draws import draw_rows, unit_values

SHAPES = {"a": (8, 1), "b": (2, 8), "c": (16, 3, 3, 3)}


def drawn(streams, order="layer", scheme=None):
    net = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 5))
    law = scheme or {"scheme": "uniform", "low": -1.0, "high": 1.0}
    init = nn.Initialisation.of({"weights": law, "bias": law, "order": order, "streams": streams})
    values = draw(net.specs, init, 3)
    return {name: (values[f"{name}.weight"], values[f"{name}.bias"]) for name in "024"}


def groups(found):
    return [row["same_draws"] for row in found.values()]


def test_independent_draws_are_alone():
    for order in ("layer", "across", "neuron", "bias_first"):
        assert groups(draw_rows(drawn("independent", order))) == [None, None, None]


@pytest.mark.parametrize("order", ["layer", "across", "neuron"])
def test_a_stream_seeded_again_for_each_layer_is_seen(order):
    assert groups(draw_rows(drawn("reseeded_per_layer", order))) == [1.0, 1.0, 1.0]


def test_draws_that_were_scaled_are_seen():
    assert groups(draw_rows(drawn("reseeded_per_layer", scheme="he_uniform"))) == [1.0, 1.0, 1.0]


def test_two_groups_have_two_numbers():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 5)), rng.normal(size=(6, 5))
    pairs = {"a": (a, None), "b": (b, None), "c": (a * 2, None), "d": (-b, None), "e": (a + 1, None)}
    assert groups(draw_rows(pairs)) == [1.0, 2.0, 1.0, 2.0, None]


@pytest.mark.parametrize(
    "weight",
    [
        np.zeros((4, 4)), np.full((4, 4), 0.3), np.eye(4), np.sign(np.arange(16) - 7.5).reshape(4, 4),
        np.full((4, 4), np.nan),
    ],
    ids=["zero", "constant", "identity", "signs", "nan"],
)  # fmt: skip
def test_what_is_no_draw_is_alone(weight):
    assert groups(draw_rows({"a": (weight, None), "b": (weight.copy(), None)})) == [None, None]


def test_vectors_and_tiny_tensors_are_left_out():
    found = draw_rows({"norm": (np.ones(4), np.ones(4)), "one": (np.array([[0.3]]), np.array([0.1]))})
    assert found == {"one": {"same_draws": None, "unit_values": 2.0}}


def test_values_of_a_unit():
    assert unit_values(np.full((3, 3), 0.5)) == 1
    assert unit_values(np.eye(3)) == 2
    assert unit_values(np.random.default_rng(0).normal(size=100)) == 64
    assert unit_values(np.array([np.inf, 1.0])) is None


def test_pytorch_tells_the_same():
    torch = pytest.importorskip("torch")
    from unstuck.sources.torch.record import record

    layers = []
    for before, after in ((3, 8), (8, 12), (12, 5)):
        torch.manual_seed(0)
        layers.append(torch.nn.Linear(before, after))
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    start = {
        name: (p.detach().numpy().copy(), None) for name, p in model.named_parameters() if "weight" in name
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with record(model, optimizer) as run:
        model(torch.ones(4, 3)).square().mean().backward()
        optimizer.step()
    expected = draw_rows({name.removesuffix(".weight"): pair for name, pair in start.items()})
    for layer, row in expected.items():
        for quantity, value in row.items():
            assert run.recording.first(quantity, layer) == value == (1.0 if "same" in quantity else value)
