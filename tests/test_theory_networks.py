"""Theory against networks of the engine at initialisation: signals, gradients, dead layers, isometry."""

import itertools
import math

import numpy as np
import pytest

from unstuck import nn
from unstuck.errors import UnstuckError
from unstuck.nn import theory
from unstuck.nn.initialise import Initialisation, plan


def deep(width, depth, activation):
    """Layers "fc1", "act1", ... of one width; the last has no activation."""
    layers = {}
    for layer in range(1, depth + 1):
        layers[f"fc{layer}"] = nn.Linear(width, width)
        layers[f"act{layer}"] = activation
    layers.popitem()
    return nn.Sequential(layers)


def gaussian(width, sw2, sb2=0.0):
    """The initialisation of the papers."""
    return {
        "weights": {"scheme": "normal", "std": math.sqrt(sw2 / width)},
        "bias": {"scheme": "normal", "std": math.sqrt(sb2)},
    }


def one_sample(width, q):
    return np.random.default_rng(0).normal(size=(1, width)) * math.sqrt(q)


def gradient_norms(net, x, seed=0):
    """Norm of the gradient with respect to every layer's z: of one sample it is that of the biases."""
    outputs = net.forward(x)
    target = outputs + np.random.default_rng(seed).normal(size=outputs.shape)
    grads = net.loss_and_grads(x, target, nn.MSELoss())[1]
    return np.array([np.linalg.norm(grad) for name, grad in grads.items() if name.endswith("bias")])


# mean field: T1 and T2, width 500, 40 layers


@pytest.mark.parametrize(
    ("activation", "sw2", "sb2"),
    [
        (nn.Tanh(), 1.5, 0.05),
        (nn.Tanh(), 2.5, 0.05),
        (nn.ReLU(), 2.0, 0.0),
        (nn.Sigmoid(), 1.0, 0.0),
        (nn.Sigmoid(), 16.0, 1.0),
    ],
    ids=["tanh-ordered", "tanh-chaotic", "relu", "logistic", "logistic-large"],
)
def test_lengths_and_gradients_of_40_layers(activation, sw2, sb2):
    width, depth = 500, 40
    net = deep(width, depth, activation).init(0, gaussian(width, sw2, sb2), np.float64)
    x = one_sample(width, 0.5)
    if activation != nn.ReLU():  # every length is a fixed point of ReLU's
        q = theory.length_fixed_point(activation, sw2, sb2)
        values = net.activations(x)
        found = [np.mean(values[f"fc{layer}"] ** 2) for layer in range(10, depth + 1)]
        assert np.mean(found) == pytest.approx(q, rel=0.05)
    norms = gradient_norms(net, x)
    factor = (norms[4] / norms[-6]) ** (2 / (depth - 10))  # away from both ends
    assert factor == pytest.approx(theory.chi1(activation, sw2, sb2), rel=0.05)


def test_a_critical_network_of_50_layers_keeps_its_signal_and_its_ordered_sibling_loses_it():
    width, depth, sb2 = 200, 50, 0.05
    point = theory.critical("Tanh", sb2)
    x = np.concatenate([one_sample(width, point.q), -one_sample(width, point.q)])
    kept = {}
    for sw2 in (point.sw2, 0.5 * point.sw2):
        spreads, ratios = [], []
        for seed in range(5):
            net = deep(width, depth, nn.Tanh()).init(seed, gaussian(width, sw2, sb2), np.float64)
            values = net.activations(x)
            # what still depends on the input: half the distance of the two samples, as a share
            z = values[f"fc{depth}"]
            spreads.append(np.std(z, axis=0).mean() / np.sqrt(np.mean(z**2)))
            norms = gradient_norms(net, x[:1], seed)
            ratios.append(math.log10(norms[0] / norms[-1]))
            if sw2 == point.sw2:
                rms = [np.sqrt(np.mean(values[f"fc{layer}"] ** 2)) for layer in (5, 20, 50)]
                assert rms == pytest.approx([math.sqrt(point.q)] * 3, rel=0.25)
        kept[sw2] = np.mean(spreads), np.mean(ratios)
    spread, ratio = kept[point.sw2]
    assert spread > 0.1
    assert abs(ratio) < 0.5
    spread, ratio = kept[0.5 * point.sw2]
    assert spread < 1e-3
    expected = (depth - 1) * math.log10(theory.gradient_factor("Tanh", 0.5 * point.sw2, sb2))
    assert ratio == pytest.approx(expected, abs=0.5)
    assert ratio < -3


def test_two_inputs_become_alike_as_the_correlation_map_says():
    width, sw2, sb2 = 500, 1.5, 0.05
    q = theory.length_fixed_point("Tanh", sw2, sb2)
    net = deep(width, 12, nn.Tanh()).init(1, gaussian(width, sw2, sb2), np.float64)
    values = net.activations(np.random.default_rng(1).normal(size=(2, width)) * math.sqrt(q))
    cosines = []
    for layer in range(3, 13):
        a, b = values[f"fc{layer}"]
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    for before, after in itertools.pairwise(cosines):
        error = (1 - before**2) / math.sqrt(width)
        assert after == pytest.approx(theory.correlation_map("Tanh", before, sw2, sb2), abs=3 * error)
    assert cosines[0] < 0.5
    assert cosines[-1] > 0.75


# predictions


def test_predictions_for_a_stack_of_layers():
    net = nn.Sequential(
        nn.Conv2d(3, 40, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(40, 60, (3, 2), stride=(2, 1), padding=(1, 0)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(60 * 4 * 7, 200),
        nn.GELU(),
        nn.Linear(200, 200),
        nn.Softplus(),
        nn.Linear(200, 100),
    )
    init = {
        "weights": "he",
        "bias": {"scheme": "normal", "std": 0.2},
        "layers": {"7": {"weights": "orthogonal"}},
    }
    x = np.random.default_rng(0).normal(size=(4, 3, 8, 8))
    expected = theory.predict(net, x, init)
    assert [item.layer for item in expected] == list(net.layers)
    seeds = range(6)
    squares, means, gradients = [], [], []
    for seed in seeds:
        net.init(seed, init, np.float64)
        values = net.activations(x)
        squares.append([np.mean(values[name] ** 2) for name in net.layers])
        means.append([np.mean(values[name]) for name in net.layers])
        gradients.append(gradient_norms(net, x[:1], seed)[-3:])
    found = np.sqrt(np.mean(squares, axis=0))
    np.testing.assert_allclose(found, [item.rms for item in expected], rtol=0.05)
    np.testing.assert_allclose(np.mean(means, axis=0), [item.mean for item in expected], atol=0.05)
    for item in expected:
        assert item.std == pytest.approx(math.sqrt(item.rms**2 - item.mean**2))
    by_layer = {item.layer: item.gradient for item in expected}
    norms = np.sqrt(np.mean(np.square(gradients), axis=0))
    np.testing.assert_allclose(norms / norms[-1], [by_layer[name] for name in ("5", "7", "9")], rtol=0.12)


def test_predicted_gradients_of_convolutions_are_those_of_single_outputs():
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1), nn.Tanh(), nn.Flatten())
    net = nn.Sequential({"body": net, "head": nn.Linear(8 * 36, 50)})
    x = np.random.default_rng(0).normal(size=(1, 8, 6, 6))
    expected = {item.layer: item.gradient for item in theory.predict(net, x, "lecun")}
    found = []
    for seed in range(40):
        net.init(seed, "lecun", np.float64)
        found.append(probe(net, x, seed))
    assert math.sqrt(np.mean(found)) == pytest.approx(expected["body.0"], rel=0.1)


def probe(net, x, seed):
    """Mean squared gradient of the network's 50 outputs at the first convolution's: |J|² / 50, from J v."""
    drawn = np.random.default_rng(seed)
    values = net.activations(x)
    v = drawn.normal(size=values["body.0"].shape)
    v /= np.linalg.norm(v)
    rest = nn.Sequential({name: layer for name, layer in net.layers.items() if name != "body.0"})
    rest.load({n: value for n, value in net.parameters.items() if not n.startswith("body.0.")}, np.float64)
    h = 1e-5
    ahead, behind = (rest.forward(values["body.0"] + sign * h * v) for sign in (1, -1))
    return np.sum(((ahead - behind) / (2 * h)) ** 2) * v.size / 50


def test_predictions_of_residual_blocks():
    width = 300
    blocks = [nn.Residual(nn.ReLU(), nn.Linear(width, width), nn.Dropout(0.5)) for _ in range(3)]
    net = nn.Sequential(nn.Linear(width, width), *blocks, nn.Linear(width, width))
    x = np.random.default_rng(0).normal(size=(1, width))
    expected = theory.predict(net, x, "he")
    # every block doubles the mean square
    assert [item.rms**2 for item in expected if item.type == "Residual"] == pytest.approx([4, 8, 16], rel=0.1)
    squares, norms = [], []
    plain = [nn.Residual(nn.ReLU(), nn.Linear(width, width)) for _ in range(3)]  # no masks in the gradient
    for seed in range(8):
        values = net.init(seed, "he", np.float64).activations(x)
        squares.append([np.mean(values[item.layer] ** 2) for item in expected])
        twin = nn.Sequential(nn.Linear(width, width), *plain, nn.Linear(width, width))
        norms.append(gradient_norms(twin.load(net.parameters, np.float64), x, seed) ** 2)
    np.testing.assert_allclose(np.sqrt(np.mean(squares, axis=0)), [item.rms for item in expected], rtol=0.1)
    found = np.sqrt(np.mean(norms, axis=0))
    weighted = [item.gradient for item in expected if item.type == "Linear"]
    np.testing.assert_allclose(found / found[-1], weighted, rtol=0.1)
    assert math.isnan(theory.predict(nn.Sequential(nn.Residual(nn.Tanh())), x)[-1].rms)


def test_predictions_end_where_theory_does():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.ReLU())
    expected = theory.predict(net, np.ones((2, 1, 8, 8)))
    assert expected[0].rms == pytest.approx(math.sqrt(9 / 27 + 1 / 27))  # PyTorch's default: variance 1/(3 n)
    assert all(math.isnan(item.rms) and math.isnan(item.std) for item in expected[1:])
    assert [math.isnan(item.gradient) for item in expected] == [True, True, True, True, False]
    ones = theory.predict(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), np.ones((1, 3)), "ones")
    assert math.isnan(ones[0].rms)
    with pytest.raises(UnstuckError, match="no layer 'fc'"):
        theory.predict(net, np.ones((2, 1, 8, 8)), {"weights": "he", "layers": {"fc": "zeros"}})


# born dead: AC2


def narrow(width, layers):
    """The hidden layers of a network of one input, L = `layers`."""
    parts = []
    for layer in range(layers - 1):
        parts += [nn.Linear(width if layer else 1, width), nn.ReLU()]
    return nn.Sequential(*parts)


def born_dead(net, draws):
    """Whether some layer is 0 for -1 and for 1, of each network drawn."""
    values = plan(net.specs, Initialisation.of("he")).draw_many(range(draws))
    a, dead = np.broadcast_to([[-1.0, 1.0]], (draws, 1, 2)), np.zeros(draws, bool)
    for name, value in values.items():
        if name.endswith("weight"):
            a = np.maximum(value @ a, 0)
            dead |= ~a.any(axis=(1, 2))
    return dead, values


@pytest.mark.parametrize(
    ("width", "layers", "share"),
    [
        *((2, 3, 0.157), (3, 3, 0.044), (4, 3, 0.011), (5, 3, 0.003), (10, 3, 0.0)),
        *((2, 5, 0.496), (3, 5, 0.214), (4, 5, 0.072), (5, 5, 0.025), (10, 5, 0.0)),
        *((2, 10, 0.878), (3, 10, 0.580), (4, 10, 0.302), (5, 10, 0.127), (8, 10, 0.009), (10, 10, 0.001)),
        *((2, 20, 0.993), (3, 20, 0.886), (5, 20, 0.360)),
    ],
)
def test_networks_born_dead(width, layers, share):
    net = narrow(width, layers)
    dead, values = born_dead(net, 6000)
    assert dead.mean() == pytest.approx(share, abs=0.02)
    assert dead.mean() <= theory.born_dead_bound(width, layers) + 0.01
    if layers == 3:
        assert dead.mean() == pytest.approx(theory.born_dead_three_layers(width), abs=0.02)
    x = np.array([[-1.0], [1.0]])
    for seed in range(20):  # the engine's forward pass says the same of the networks
        outputs = net.load({name: value[seed] for name, value in values.items()}, np.float64).activations(x)
        silent = any(not value.any() for name, value in outputs.items() if net.layers[name] == nn.ReLU())
        assert silent == dead[seed]


def test_figures_of_the_paper_on_born_dead_networks():
    # 10 layers: width 10 less than 1 %, 5 more than 10 %, 3 about 60 %
    shares = {width: born_dead(narrow(width, 10), 4000)[0].mean() for width in (10, 5, 3)}
    assert shares[10] < 0.01
    assert shares[5] > 0.1
    assert shares[3] == pytest.approx(0.6, abs=0.05)


# delta-orthogonal convolutions: AC5


def convolutions(depth, channels=16):
    layers = [nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(depth)]
    return nn.Sequential(*layers)


def test_50_delta_orthogonal_convolutions_keep_every_length():
    net, x = convolutions(50), np.random.default_rng(0).normal(size=(6, 16, 8, 8))
    sizes = np.linalg.norm(x.reshape(6, -1), axis=1)
    # zero padding is exact: the taps that reach over the edge are 0
    net.init(0, "delta_orthogonal", np.float64)
    ratios = np.linalg.norm(net.forward(x).reshape(6, -1), axis=1) / sizes
    np.testing.assert_allclose(ratios, 1, rtol=1e-6)
    net.init(0, "lecun", np.float64)
    ratios = np.linalg.norm(net.forward(x).reshape(6, -1), axis=1) / sizes
    assert ratios.max() < 0.2  # Gaussian kernels lose at the edges, and not the same in all directions


def test_50_delta_orthogonal_convolutions_on_a_circle():
    """Circular padding, which the engine has not, in float64 NumPy with the engine's draws."""
    x = np.random.default_rng(1).normal(size=(16, 8, 8))
    ratios = {}
    for scheme in ("delta_orthogonal", "lecun"):
        net = convolutions(50).init(0, scheme, np.float64)
        y = np.fft.fft2(x)
        for kernel in net.parameters.values():
            y = np.einsum("oiyx,iyx->oyx", np.fft.fft2(kernel, (8, 8)), y)
        ratios[scheme] = np.linalg.norm(np.fft.ifft2(y)) / np.linalg.norm(x)
    assert ratios["delta_orthogonal"] == pytest.approx(1, rel=1e-6)
    assert ratios["lecun"] != pytest.approx(1, rel=0.1)


def test_delta_orthogonal_tanh_convolutions_keep_their_signal():
    depth, point = 50, theory.critical_at("Tanh", 1 / 50)
    layers = []
    for _ in range(depth):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.Tanh()]
    net = nn.Sequential(*layers)
    x, spread = np.random.default_rng(0).normal(size=(1, 16, 8, 8)) * math.sqrt(point.q), {}
    for scheme in ("delta_orthogonal", "lecun"):
        init = {
            "weights": {"scheme": scheme, "gain": math.sqrt(point.sw2)},
            "bias": {"scheme": "normal", "std": math.sqrt(point.sb2)},
        }
        net.init(0, init, np.float64)
        values = net.activations(x)
        spread[scheme] = math.log10(np.mean(values[str(2 * depth - 2)] ** 2) / np.mean(values["2"] ** 2)) / 2
    assert abs(spread["delta_orthogonal"]) < 0.2
    assert spread["lecun"] < -0.4


# batch normalisation: AC4 with the engine's own layers


@pytest.mark.parametrize(
    ("activation", "batch", "known"),
    [
        (None, 6, 4 / 3),
        (None, 16, 14 / 13),
        (nn.ReLU(), 128, 1.47),
        (nn.Tanh(), 128, 1.19),
        (nn.Sigmoid(), 128, 1.046),
    ],
    ids=["none-6", "none-16", "relu-128", "tanh-128", "logistic-128"],
)
def test_batch_norm_makes_gradients_grow(activation, batch, known):
    """Squared gradients of the weights of 16 layers, from the 4th to the 13th."""
    width, depth, layers, logs = 400, 16, {}, []
    for layer in range(depth):
        layers |= {f"fc{layer}": nn.Linear(width, width, bias=False), f"norm{layer}": nn.BatchNorm1d(width)}
        if activation is not None:
            layers[f"act{layer}"] = activation
    net = nn.Sequential(layers)
    for seed in range(3):
        drawn = np.random.default_rng(seed)
        x, target = drawn.normal(size=(2, batch, width))
        grads = net.init(seed, "lecun").loss_and_grads(x, 1e3 * target, nn.MSELoss())[1]
        squares = [np.sum(grads[f"fc{layer}.weight"].astype(np.float64) ** 2) for layer in (3, depth - 4)]
        logs.append(math.log(squares[0] / squares[1]) / (depth - 7))
    growth = math.exp(np.mean(logs))
    assert growth == pytest.approx(known, rel=0.03)
    assert growth == pytest.approx(theory.batch_norm_growth(activation or "Identity", batch), rel=0.03)


def test_predictions_behind_a_batch_norm():
    layers = {
        "fc1": nn.Linear(300, 300),
        "norm": nn.BatchNorm1d(300),
        "act": nn.ReLU(),
        "fc2": nn.Linear(300, 300),
    }
    net, x = nn.Sequential(layers), np.random.default_rng(0).normal(size=(200, 300))
    scale = {"norm": {"weights": {"scheme": "constant", "value": 3.0}}}
    expected = {item.layer: item for item in theory.predict(net, x, {"weights": "he", **scale})}
    net = nn.Sequential(layers | {"norm": nn.BatchNorm1d(300, track_running_stats=False)})
    values = net.init(0, {"weights": "he", **scale}).activations(x)
    for name in layers:
        assert np.sqrt(np.mean(values[name] ** 2)) == pytest.approx(expected[name].rms, rel=0.05)
    assert [math.isnan(item.gradient) for item in expected.values()] == [True, False, False, False]
