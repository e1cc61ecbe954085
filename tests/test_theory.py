"""Formulas of the theory against integrals, closed forms, drawn numbers and the figures of the papers.

The figures are listed with their sources in docs/theory.md. What needs a network is in
`test_theory_networks.py`, what needs a training in `test_theory_training.py`.
"""

import doctest
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from unstuck import nn
from unstuck.errors import ShapeError, UnstuckError
from unstuck.nn import theory
from unstuck.nn.schemes import ParameterSpec, Scheme
from unstuck.nn.theory.gauss import mean, mean_of_pair

ACTIVATIONS = [
    nn.Sigmoid(),
    nn.Tanh(),
    nn.ReLU(),
    nn.LeakyReLU(0.1),
    nn.ELU(0.7),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Softplus(2.0),
]
EVERY = pytest.mark.parametrize("layer", ACTIVATIONS, ids=repr)
PAGE = Path(__file__).parent.parent / "docs" / "theory.md"
BOTH = Scheme("uniform", low=-1.0, high=1.0)


# the functions


@EVERY
def test_functions_are_the_engines(layer):
    z = np.linspace(-8, 8, 41)[:, np.newaxis]
    net = nn.Sequential(nn.Linear(1, 1, bias=False), layer).load({"0.weight": [[1.0]]}, np.float64)
    np.testing.assert_allclose(theory.function(layer).value(z), net.forward(z), rtol=0, atol=1e-9)


@EVERY
def test_slopes_are_the_functions(layer):
    phi, h = theory.function(layer), 1e-6
    z = np.linspace(-6, 6, 40)  # 0 is not among them
    found = (phi.value(z + h) - phi.value(z - h)) / (2 * h)
    np.testing.assert_allclose(phi.slope(z), found, rtol=0, atol=1e-8)


def test_functions_have_the_engines_names():
    for layer in ACTIVATIONS:
        assert theory.function(layer.type).name == layer.type
    with pytest.raises(UnstuckError, match="no activation 'Swish', expected one of Sigmoid, Tanh"):
        theory.function("Swish")
    with pytest.raises(UnstuckError, match="no activation Flatten"):
        theory.function(nn.Flatten())


# means over normal numbers


@EVERY
@pytest.mark.parametrize("scale", [0.1, 1.0, 9.0])
def test_means_are_the_integrals(layer, scale):
    phi = theory.function(layer)
    for f in (phi.value, phi.slope):
        parts = [
            quad(lambda z, f=f: float(f(np.array(scale * z))) ** 2 * np.exp(-z * z / 2), *ends, epsabs=1e-13)[
                0
            ]
            for ends in ((-11, 0), (0, 11))
        ]
        expected = sum(parts) / math.sqrt(2 * math.pi)
        assert mean(lambda z, f=f: f(z) ** 2, scale) == pytest.approx(expected, rel=1e-9)


@EVERY
def test_means_of_pairs_are_those_of_drawn_pairs(layer):
    phi, c, n = theory.function(layer), 0.6, 400_000
    u, v = np.random.default_rng(0).normal(size=(2, n))
    for f in (phi.value, phi.slope):
        products = f(1.3 * u) * f(1.3 * (c * u + math.sqrt(1 - c * c) * v))
        error = products.std() / math.sqrt(n)
        assert abs(mean_of_pair(f, c, 1.3) - products.mean()) < 3.5 * error


def test_gauss_hermite_agrees_where_functions_are_smooth():
    nodes, weights = np.polynomial.hermite_e.hermegauss(201)
    weights /= weights.sum()
    for name in ("Sigmoid", "Tanh", "Softplus"):
        f = theory.function(name).value
        assert mean(lambda z, f=f: f(z) ** 2, 1.5) == pytest.approx(weights @ f(1.5 * nodes) ** 2, rel=1e-9)
        u, v = nodes[:, np.newaxis], nodes
        expected = weights @ (f(u) * f(0.4 * u + math.sqrt(1 - 0.16) * v)) @ weights
        assert mean_of_pair(f, 0.4) == pytest.approx(expected, rel=1e-9)


# mean field: AC3 and the tables


@pytest.mark.parametrize(
    ("name", "sw2", "sb2", "q", "chi"),
    [
        ("Tanh", 1.5, 0.05, 0.4180, 0.9386),
        ("Tanh", 2.5, 0.05, 1.0640, 1.1335),
        ("Sigmoid", 1, 0, 0.2647, 0.0557),
    ],
)
def test_lengths_and_gradient_factors(name, sw2, sb2, q, chi):
    assert theory.length_fixed_point(name, sw2, sb2) == pytest.approx(q, abs=6e-5)
    assert theory.chi1(name, sw2, sb2) == pytest.approx(chi, abs=6e-5)
    assert theory.length_map(name, q, sw2, sb2) == pytest.approx(q, abs=1e-4)


def test_chi1_of_a_large_logistic_network():
    assert theory.chi1("Sigmoid", 16, 1) == pytest.approx(0.3705, abs=6e-5)


@pytest.mark.parametrize("sb2", [0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0])
def test_critical_tanh(sb2):
    known = {0.0: 1.0, 0.01: 1.424, 0.05: 1.7610, 0.1: 1.986, 0.25: 2.402, 0.5: 2.843, 1.0: 3.443}
    point = theory.critical("Tanh", sb2)
    assert point.sw2 == pytest.approx(known[sb2], rel=1e-3)
    assert theory.chi1("Tanh", point.sw2, sb2) == pytest.approx(1, abs=1e-6)
    assert theory.phase("Tanh", point.sw2, sb2) == "critical"
    assert theory.phase("Tanh", 0.98 * point.sw2, sb2) == "ordered"
    assert theory.phase("Tanh", 1.02 * point.sw2, sb2) == "chaotic"
    if sb2:
        assert theory.critical_at("Tanh", point.q) == pytest.approx(point, rel=1e-6)


@pytest.mark.parametrize(
    ("q", "sw2", "sb2"), [(1 / 16, 1.11538, 2.37e-4), (0.5, 1.68798, 0.038041), (1.0, 2.15330, 0.150965)]
)
def test_critical_tanh_at_a_length(q, sw2, sb2):
    assert theory.critical_at("Tanh", q) == pytest.approx((sw2, sb2, q), rel=1e-3)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "Tanh", "ELU"])
def test_critical_without_biases_is_one_over_the_mean_squared_slope_at_0(name):
    expected = {"ReLU": 2.0, "LeakyReLU": 2 / (1 + 0.01**2), "Tanh": 1.0, "ELU": 1.0}[name]
    assert theory.critical(name).sw2 == pytest.approx(expected, rel=1e-6)


def test_critical_logistic():
    point = theory.critical("Sigmoid")
    assert point.sw2 == pytest.approx(102.6, rel=0.01)
    assert theory.length_fixed_point("Sigmoid", point.sw2, start=9.0) == pytest.approx(point.q, rel=1e-6)


@pytest.mark.parametrize(("name", "sb2"), [("ReLU", 0.1), ("Softplus", 0.0), ("GELU", 0.0), ("SiLU", 0.0)])
def test_without_a_critical_point(name, sb2):
    with pytest.raises(UnstuckError, match=f"{name} has no critical point with sb2"):
        theory.critical(name, sb2)


@pytest.mark.parametrize(
    ("sw2", "scale"),
    [(1, 3.63), (1.25, 6.80), (1.5, 15.8), (1.7, 74.9), (1.8, 126), (2, 25.2), (2.5, 11.8), (4, 6.98)],
)
def test_depth_scales_of_tanh(sw2, scale):
    found = theory.depth_scale("Tanh", sw2, 0.05)
    assert found == pytest.approx(scale, rel=3e-3)
    ordered = sw2 < 1.761
    assert (theory.correlation_fixed_point("Tanh", sw2, 0.05) == 1) == ordered
    # in the ordered phase gradients and correlations forget alike
    assert (theory.gradient_depth_scale("Tanh", sw2, 0.05) == pytest.approx(found, rel=1e-6)) == ordered


def test_the_correlation_map_tends_to_its_fixed_point():
    c = 0.0
    for _ in range(200):
        c = theory.correlation_map("Tanh", c, 2.5, 0.05)
    assert c == pytest.approx(theory.correlation_fixed_point("Tanh", 2.5, 0.05), abs=1e-6)
    assert theory.correlation_map("Tanh", 1.0, 2.5, 0.05) == pytest.approx(1, abs=1e-12)


def test_relus_correlation_map_is_the_arc_cosine():
    for c in (-1.0, -0.4, 0.0, 0.7, 0.999, 1.0):
        expected = theory.correlation_map("ReLU", c, 2.0)
        assert float(theory.relu_correlation_map(c)) == pytest.approx(expected, abs=1e-10)
    path, c = {}, 0.0
    for layer in range(1, 101):
        path[layer] = c = float(theory.relu_correlation_map(c))
    known = {1: 0.3183, 2: 0.4937, 5: 0.7359, 10: 0.8715, 20: 0.9484, 50: 0.9879, 100: 0.9964}
    assert {layer: path[layer] for layer in known} == pytest.approx(known, abs=6e-5)


def test_relu_keeps_loses_or_explodes():
    assert theory.length_fixed_point("ReLU", 2.0, start=3.0) == 3.0
    assert theory.length_fixed_point("ReLU", 1.0) == 0.0
    assert theory.length_fixed_point("ReLU", 1.0, 0.5) == pytest.approx(1.0)
    assert theory.length_fixed_point("ReLU", 2.0, 0.1) == math.inf
    assert theory.chi1("ReLU", 2.0) == pytest.approx(1, abs=1e-9)
    assert theory.chi1("ReLU", 1.0) == pytest.approx(0.5)
    assert theory.depth_scale("ReLU", 2.0) == math.inf
    assert theory.depth_scale("ReLU", 1.0, 0.5) == pytest.approx(1 / math.log(2))


def test_gradient_factors_of_logistic_layers():
    factors = [theory.gradient_factor("Sigmoid", sw2) for sw2 in (1, 2, 16)]
    assert factors == pytest.approx([0.236, 0.318, 0.632], abs=6e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.length_map("Tanh", -1.0, 1.0), "q is a variance and must be at least 0, found -1.0"),
        (lambda: theory.chi1("Tanh", -1.0), "sw2 is a variance"),
        (lambda: theory.critical("Tanh", -1.0), "sb2 is a variance"),
        (lambda: theory.critical_at("Tanh", 0.0), "q is a variance and must be above 0"),
        (lambda: theory.critical_at("ReLU", math.nan), "q must be a finite number"),
        (lambda: theory.critical_at("Sigmoid", 0.1), "Sigmoid has no critical point with q = 0.1"),
        (lambda: theory.correlation_map("Tanh", 1.1, 1.0), "c must be a correlation between -1 and 1"),
        (lambda: theory.batch_norm_growth("ReLU", 3), "batch must be at least 4 samples, found 3"),
        (lambda: theory.batch_norm_growth("ReLU", 8, 0.0), "gamma must not be 0"),
        (lambda: theory.unit_on_interval("orthogonal"), "weight: scheme 'orthogonal' is no law"),
        (lambda: theory.unit_on_interval("zeros"), "weight: scheme 'zeros' is no law"),
        (lambda: theory.unit_on_interval("he", low=1.0), "low 1.0 must be below high 1.0"),
        (lambda: theory.born_dead_bound(0, 3), "width must be a whole number"),
    ],
)
def test_refuses_what_cannot_be(call, words):
    with pytest.raises(UnstuckError, match=words):
        call()


# dead units: AC1


@pytest.mark.parametrize(
    ("weight", "bias", "dead", "kink"),
    [
        (BOTH, BOTH, 3 / 8, 1 / 4),
        (BOTH, "zeros", 1 / 2, 0),
        (Scheme("uniform", low=0.0, high=1.0), Scheme("uniform", low=0.0, high=1.0), 0, 0),
        ("default", "default", 3 / 8, 1 / 4),
        (Scheme("normal", std=1.0), Scheme("normal", std=1.0), 3 / 8, 1 / 4),
    ],
)
def test_units_on_0_to_1(weight, bias, dead, kink):
    odds = theory.unit_on_interval(weight, bias)
    assert odds == pytest.approx((dead, 1 - dead - kink, kink), abs=1e-4)
    n = 20_000
    net = nn.Sequential(nn.Linear(1, n), nn.ReLU()).init(0, {"weights": weight, "bias": bias})
    outputs = net.forward(np.linspace(0, 1, 2)[:, np.newaxis])
    signs = net.activations(np.linspace(0, 1, 2)[:, np.newaxis])["0"] > 0
    for share, found in ((dead, ~outputs.any(axis=0)), (kink, (signs[0] != signs[1]) & (bias != "zeros"))):
        assert abs(found.mean() - share) <= 3 * math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("interval", [(-1.0, 1.0), (-2.0, -0.5), (0.5, 3.0), (-0.3, 0.0)])
def test_units_on_other_intervals(interval):
    weight, bias = Scheme("uniform", low=-0.5, high=2.0), Scheme("normal", mean=0.2, std=0.7)
    odds, n = theory.unit_on_interval(weight, bias, *interval), 100_000
    drawn = np.random.default_rng(0)
    w, b = drawn.uniform(-0.5, 2.0, n), drawn.normal(0.2, 0.7, n)
    z = w * np.array(interval)[:, np.newaxis] + b
    found = ((z <= 0).all(axis=0).mean(), (z > 0).all(axis=0).mean())
    assert odds[:2] == pytest.approx(found, abs=3 * 0.5 / math.sqrt(n))
    assert sum(odds) == pytest.approx(1)


def test_born_dead_bounds():
    known = {2: 0.925, 3: 0.699, 4: 0.441, 5: 0.249, 8: 0.035, 10: 0.009}
    for width, bound in known.items():
        assert theory.born_dead_bound(width, 10) == pytest.approx(bound, abs=6e-4)
        assert theory.born_dead_three_layers(width) < theory.born_dead_bound(width, 3)
    assert [theory.born_dead_three_layers(n) for n in (2, 3)] == pytest.approx([0.15625, 0.04297], abs=1e-5)


# batch normalisation: AC4


@pytest.mark.parametrize("batch", [4, 5, 6, 16, 100])
def test_batch_norm_without_activation(batch):
    assert theory.batch_norm_growth("Identity", batch) == pytest.approx((batch - 2) / (batch - 3), rel=1e-9)


@pytest.mark.parametrize(
    ("layer", "growths"),
    [
        (nn.ReLU(), (1.788, 1.513, 1.471, 1.451)),
        (nn.Tanh(), (1.365, 1.218, 1.191, 1.190)),
        (nn.Sigmoid(), (1.204, 1.069, 1.046, 1.046)),
        (nn.LeakyReLU(0.1), (1.629, 1.391, 1.354, 1.340)),
    ],
    ids=repr,
)
def test_batch_norm_explodes_gradients(layer, growths):
    found = [theory.batch_norm_growth(layer, batch) for batch in (8, 32, 128, 512)]
    assert found == pytest.approx(growths, rel=0.03)


def test_batch_norm_of_large_batches():
    for name in ("ReLU", "Tanh", "Sigmoid", "GELU"):
        limit = theory.batch_norm_growth(name, math.inf)
        assert theory.batch_norm_growth(name, 50_000) == pytest.approx(limit, rel=1e-4)
    assert theory.batch_norm_growth("ReLU", math.inf) == pytest.approx(math.pi / (math.pi - 1), rel=1e-9)


def test_a_small_gamma_tames_batch_norm():
    found = [theory.batch_norm_growth("Tanh", 128, gamma) for gamma in (0.1, 0.3, 1, 3)]
    assert found == pytest.approx([1.012, 1.019, 1.191, 2.127], rel=0.03)
    assert theory.batch_norm_growth("Tanh", 128, -3) == pytest.approx(found[-1])


# isometry


def test_singular_values_of_a_convolution_are_those_of_its_matrix():
    kernel, (h, w) = np.random.default_rng(0).normal(size=(3, 2, 3, 3)), (4, 5)
    matrix = np.zeros((3, h, w, 2, h, w))
    for y in range(h):
        for x in range(w):
            for i in range(3):
                for j in range(3):
                    matrix[:, y, x, :, (y + i - 1) % h, (x + j - 1) % w] += kernel[:, :, i, j]
    expected = np.linalg.svd(matrix.reshape(3 * h * w, -1), compute_uv=False)
    np.testing.assert_allclose(theory.singular_values(kernel, (h, w)), expected, rtol=1e-9)


def test_delta_orthogonal_kernels_are_isometries():
    spec = ParameterSpec.weight("0", (8, 8, 3, 3))
    normal = np.random.default_rng(0).normal(size=(1, *spec.shape))
    values = theory.singular_values(Scheme("delta_orthogonal").fill(spec, normal)[0], (6, 6))
    np.testing.assert_allclose(values, 1, rtol=1e-12)
    assert theory.isometry(values) == pytest.approx((0, 0), abs=1e-12)
    gaussian = theory.isometry(theory.singular_values(Scheme("lecun_normal").fill(spec, normal)[0], (6, 6)))
    assert gaussian.var_log > 0.1


def test_singular_values_need_a_weight():
    with pytest.raises(ShapeError, match=r"got shape \(2, 2, 3, 3\) for an image of \(2, 5\)"):
        theory.singular_values(np.zeros((2, 2, 3, 3)), (2, 5))
    assert theory.isometry(np.zeros((2, 2))) == (-math.inf, math.inf)


# laws of weights


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3, 3)], ids=str)
@pytest.mark.parametrize(
    "scheme",
    [
        *("default", "zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal"),
        *("lecun_uniform", "lecun_normal", "orthogonal", "delta_orthogonal"),
        Scheme("uniform", low=-0.5, high=2.0, gain=3.0),
        Scheme("normal", mean=0.3, std=0.2, gain=-2.0),
        Scheme("constant", value=0.7),
    ],
    ids=str,
)
def test_moments_of_schemes(scheme, shape):
    scheme, spec = Scheme(scheme) if isinstance(scheme, str) else scheme, ParameterSpec.weight("0", shape)
    drawn = np.random.default_rng(0)
    base = {"uniform": drawn.random, "normal": drawn.normal, "nothing": drawn.random}[scheme.draws](
        size=(3000, *shape)
    )
    values = scheme.fill(spec, base)
    average, std = scheme.moments(spec)
    error = 4 * std / math.sqrt(values.size) + 1e-12
    assert values.mean() == pytest.approx(average, abs=error)
    assert values.std() == pytest.approx(std, rel=0.02, abs=1e-12)


def test_schemes_that_are_no_law():
    for scheme in ("dirac", "identity", "lsuv"):
        assert Scheme(scheme).moments(ParameterSpec.weight("0", (2, 2))) is None


# how it is reached


def test_it_is_there_without_an_import_of_its_own():
    program = """
import sys
import unstuck
assert not any(name.startswith("unstuck.nn") for name in sys.modules)
print(unstuck.nn.theory.phase("Tanh", 1.5), sorted({"onnx", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "chaotic []\n"


# the page


def test_the_examples_of_the_page_run():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 10
    assert found.failed == 0


def test_the_page_names_every_function():
    text = PAGE.read_text(encoding="utf-8")
    functions = {name for name in theory.__all__ if name[0].islower()} - {"function"}
    assert {name for name in functions if f"`{name}`" not in text} == set()


def test_every_row_of_the_page_names_its_tests():
    tests = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_theory*.py")
    )
    names = "\n".join(line for line in tests.splitlines() if line.startswith("def test_"))
    rows = [
        line.split("|")[-2].strip(" `")
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.count("|") > 5
    ]
    words = [word for row in rows[2:] for word in row.split(" or ")]
    assert len(words) > 15
    assert [word for word in words if word not in names] == []
