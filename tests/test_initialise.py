"""Initialisation: many networks at once, the forms it may be written in, bad input."""

import math

import numpy as np
import pytest

from chains import DENSE, chain, scheme
from unstuck.errors import UnstuckError
from unstuck.nn.draw_order import STREAMS
from unstuck.nn.initialise import Initialisation, Override, ParameterSpec, Scheme, draw, plan
from unstuck.nn.schemes import DRAWS


# a scheme that makes neurons orthogonal together refuses to seed them alone: see the test of bad input
@pytest.mark.parametrize(
    ("name", "streams"),
    [(n, s) for n in DRAWS for s in STREAMS if not scheme(n).ties_units or s != "reseeded_per_neuron"],
)
def test_many_networks_at_once_equal_each_alone(name, streams):
    specs = chain((5, 3, 3, 3), (7, 5))
    init = Initialisation(
        weights=scheme(name), bias=Scheme("normal", std=1.0), order="neuron", streams=streams
    )
    seeds = [0, 5, 2**64 - 1, *range(600)]
    together = plan(specs, init).draw_many(seeds)
    for member in (0, 1, 2, 300, -1):
        alone = draw(specs, init, seeds[member])
        assert list(alone) == list(together) == [spec.name for spec in specs]
        for name_, array in alone.items():
            assert array.dtype == np.float64
            np.testing.assert_array_equal(together[name_][member], array)


def test_the_arrays_belong_to_the_caller():
    for name in DRAWS:
        first = draw(chain((4, 4, 3, 3)), Initialisation(weights=scheme(name)), 0)["0.weight"]
        kept = first.copy()
        first += 1
        np.testing.assert_array_equal(
            draw(chain((4, 4, 3, 3)), Initialisation(weights=scheme(name)), 0)["0.weight"], kept
        )


def test_all_forms_of_an_initialisation():
    glorot = Initialisation.of("glorot")
    assert glorot == Initialisation.of({"weights": "glorot_uniform"}) == Initialisation.of(Scheme("glorot"))
    assert Initialisation.of(glorot) is glorot
    assert (
        Initialisation.of(None) == Initialisation.of("default") == Initialisation.of({}) == Initialisation()
    )
    full = Initialisation.of(
        {
            "weights": {"scheme": "uniform", "low": -1, "high": 1},
            "bias": "zeros",
            "order": "neuron",
            "streams": "fixed",
            "layers": {0: "he", "fc": {"bias": {"scheme": "constant", "value": 1}}},
            "norm": {"weights": "ones", "bias": {"scheme": "uniform", "low": -1, "high": 1}},
        }
    )
    assert full == Initialisation(
        weights=Scheme("uniform", low=-1.0, high=1.0),
        bias=Scheme("zeros"),
        order="neuron",
        streams="fixed",
        layers={
            "0": Override(weights=Scheme("he_normal")),
            "fc": Override(bias=Scheme("constant", value=1.0)),
        },
        norm=Override(weights=Scheme("ones"), bias=Scheme("uniform", low=-1.0, high=1.0)),
    )


@pytest.mark.parametrize("name", DRAWS)
def test_biases_that_are_not_mentioned_are_zero_but_for_the_default(name):
    bias = draw(chain((4, 4, 3, 3)), Initialisation(weights=scheme(name)), 0)["0.bias"]
    assert bias.any() == (name == "default")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "xavier",
            r"init\.weights: unknown initialisation scheme 'xavier'; known: default, zeros, .*, glorot, ",
        ),
        (3, r"init: found 3, expected a scheme's name or a table"),
        ({"weight": "he"}, r"init: unknown key 'weight'; known: weights, bias, order, streams, layers"),
        (
            {"weights": {"scheme": "uniform", "low": 0}},
            r"init\.weights: scheme 'uniform' lacks 'high'; it takes: low, high, gain",
        ),
        (
            {"bias": {"scheme": "uniform", "low": "a", "high": 1}},
            r"init\.bias\.low: Expected `float`, got `str`",
        ),
        ({"bias": {"scheme": "he", "lo": 1}}, r"init\.bias: unknown key 'lo'; known: scheme, gain, low, "),
        (
            {"weights": {"scheme": "he", "std": 1}},
            r"init\.weights: scheme 'he_normal' has no 'std' \(found 1\.0\); it takes: gain",
        ),
        ({"weights": {"scheme": "uniform", "low": 2, "high": 1}}, r"low 2\.0 is above high 1\.0"),
        ({"weights": {"gain": math.nan}}, r"gain is nan, expected a finite number"),
        ({"weights": {"scheme": "normal", "std": -1}}, r"std is -1\.0, expected a number not below 0"),
        ({"weights": {"scheme": ["he"]}}, r"init\.weights\.scheme: Expected `str`, got `array`"),
        ({"order": "random"}, r"init\.order: Invalid enum value 'random'; known: layer, across, "),
        ({"streams": "one"}, r"init\.streams: Invalid enum value 'one'; known: independent, fixed, "),
        ({"layers": 3}, r"init\.layers: found 3, expected a table"),
        (
            {"layers": {"0": {"weigths": "he"}}},
            r"init\.layers\.0: unknown key 'weigths'; known: weights, bias",
        ),
        ({"norm": {"shift": "ones"}}, r"init\.norm: unknown key 'shift'; known: weights, bias"),
        ({"norm": "ones"}, r"init\.norm: Expected `object`, got `str`"),
        ({"norm": {"bias": "nope"}}, r"init\.norm\.bias: unknown initialisation scheme 'nope'"),
        ({"layers": {"0": "nope"}}, r"init\.layers\.0\.weights: unknown initialisation scheme 'nope'"),
        ({"layers": {"0": 3}}, r"init\.layers\.0: Expected `object`, got `int`"),
        ({"layers": {"7": "he"}}, r"init\.layers: no layer '7' with parameters; there are: '0', '1', '2'"),
        (
            {"bias": "orthogonal"},
            r"0\.bias: scheme 'orthogonal' needs the weight of a Linear or Conv2d, found shape \(4,\)",
        ),
        (
            {"weights": "orthogonal", "streams": "reseeded_per_neuron"},
            r"0\.weight: scheme 'orthogonal' .* expected streams",
        ),
    ],
)
def test_bad_input_is_refused_by_name(value, message):
    with pytest.raises(UnstuckError, match=message):
        draw(DENSE, Initialisation.of(value), 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheme(["he"]), r"unknown initialisation scheme \['he'\]"),
        (lambda: Scheme("uniform", low="a", high=1), r"low is 'a', expected a finite number"),
        (lambda: Scheme("constant", value=True), r"value is True, expected a finite number"),
        (lambda: Initialisation(order="x"), r"unknown order 'x'; known: layer, across"),
        (lambda: Initialisation(streams="x"), r"unknown streams 'x'; known: independent"),
        (lambda: ParameterSpec.weight("a", (0, 3)), r"a\.weight: found shape \(0, 3\), fan_in 3, fan_out 0"),
        (lambda: draw([*DENSE, DENSE[0]], Initialisation(), 0), r"parameters of one name among"),
        (lambda: draw(DENSE, Initialisation(), -1), r"seed: found -1"),
        (lambda: draw(DENSE, Initialisation.of("zeros"), 0.5), r"seed: found 0\.5"),
    ],
)
def test_bad_values_made_in_python_are_refused(make, message):
    with pytest.raises(UnstuckError, match=message):
        make()


def test_a_network_without_parameters_has_no_values():
    assert draw([], Initialisation(), 0) == {}
