"""Layer-sequential unit variance: what it is, on data, against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

import naive_network
import twins
from unstuck import nn
from unstuck.errors import UnstuckError

INIT = {"weights": "lsuv", "bias": {"scheme": "constant", "value": 0.3}}


def deep():
    """Dense layers after convolutions, with functions that shrink what passes."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.Sigmoid(),
        nn.Residual(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU()),
        nn.Flatten(),
        nn.Linear(96, 40),
        nn.Tanh(),
        nn.Linear(40, 3),
    )


def data():
    return 0.2 * twins.images((60, 1, 4, 4)) + 2.0


def weighted(net):
    return [name for name, layer in net.layers.items() if layer.type in {"Linear", "Conv2d"}]


def test_every_layer_has_unit_variance_and_keeps_its_directions():
    net, x = deep().init(3, INIT, np.float64, data=data()), data()
    plain = deep().init(3, INIT | {"weights": "orthogonal"}, np.float64)
    variances = [np.var(plain.activations(x)[name]) for name in weighted(net)]
    assert max(abs(variance - 1) for variance in variances) > 0.5
    for name in weighted(net):
        assert abs(np.var(net.activations(x)[name]) - 1) <= 0.1
        ratio = net.parameters[f"{name}.weight"] / plain.parameters[f"{name}.weight"]
        np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-9)
        assert (net.parameters[f"{name}.bias"] == 0.3).all()


def test_equals_the_loops_of_the_paper():
    x = data()
    params = dict(deep().init(3, INIT | {"weights": "orthogonal"}, np.float64).parameters)
    for name in weighted(deep()):
        for _ in range(10):
            variance = np.var(naive_network.forward(deep(), params, x)[name])
            if abs(variance - 1) < 0.1:
                break
            params[f"{name}.weight"] = params[f"{name}.weight"] / np.sqrt(variance)
    found = deep().init(3, INIT, np.float64, data=x).parameters
    for name, value in found.items():
        twins.close(value, params[name], 1e-12, name)


def test_a_gain_is_a_standard_deviation_and_layers_can_be_chosen():
    init = {"weights": "glorot", "layers": {"4": {"weights": {"scheme": "lsuv", "gain": 3.0}}}}
    net, x = deep().init(1, init, np.float64, data=data()), data()
    plain = deep().init(1, init["weights"], np.float64)
    assert np.std(net.activations(x)["4"]) == pytest.approx(3, rel=0.05)
    np.testing.assert_array_equal(net.parameters["0.weight"], plain.parameters["0.weight"])


def test_where_nothing_arrives_weights_stay_as_drawn():
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 3)).init(0, "lsuv", data=np.zeros((5, 4)))
    np.testing.assert_allclose(
        net.parameters["0.weight"] @ net.parameters["0.weight"].T, np.eye(3), atol=1e-6
    )


def test_trainings_scale_on_their_data_and_members_have_the_bits_they_have_alone():
    x = np.concatenate([data()] * 5)
    training = nn.Training(deep(), (x, np.arange(300) % 3), nn.CrossEntropyLoss(), nn.SGD(0.0), 32, 1, INIT)
    many = training.run(seeds=range(4), threads=2)
    np.testing.assert_array_equal(training.run(seeds=range(4), threads=1).parameters, many.parameters)
    for seed in (0, 3):
        alone = training.run(seed=seed).net
        np.testing.assert_array_equal(alone.flat, many.parameters[seed])
        np.testing.assert_array_equal(deep().init(seed, INIT, data=x).flat, alone.flat)
        assert abs(np.var(alone.activations(x)["6"]) - 1) < 0.15  # of all data, not of those looked at
    fitted = nn.fit(
        deep(), training.data, loss=training.loss, optimizer=nn.SGD(0.0), epochs=1, seed=3, init=INIT
    ).net
    np.testing.assert_array_equal(fitted.flat, many.parameters[3])
    assert replace(training, init="orthogonal").run(seed=0).net.flat[16] != many.parameters[0, 16]


def test_without_data_it_is_refused():
    with pytest.raises(UnstuckError, match=r"the scheme 'lsuv' looks at data, .*net\.init\(\.\.\., data=X\)"):
        deep().init(0, "lsuv")
    with pytest.raises(UnstuckError, match=r"0\.weight: scheme 'lsuv' makes a layer's neurons orthogonal"):
        deep().init(0, {"weights": "lsuv", "streams": "reseeded_per_neuron"}, data=data())
