"""Orders of draws and ways to seed, against plain loops over their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains import CNN, DENSE, SAME_LAW, chain, everything
from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.draw_order import ORDERS, STREAMS, draw_positions
from unstuck.nn.initialise import FIXED_SEED, Initialisation, ParameterSpec, draw


def naive_order(specs, order):
    """Entries (parameter name, index) in the order drawn, by plain loops over the definition."""
    layers = list(dict.fromkeys(spec.layer for spec in specs))
    shapes = {spec.layer: spec.shape for spec in specs if spec.kind == "weight"}
    biased = {spec.layer for spec in specs if spec.kind == "bias"}
    drawn = []

    def weights(layer, unit):
        return [(f"{layer}.weight", (unit, *rest)) for rest in np.ndindex(*shapes[layer][1:])]

    def bias(layer, unit):
        return [(f"{layer}.bias", (unit,))] if layer in biased else []

    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        units = range(shapes[layer][0])
        all_weights = [entry for unit in units for entry in weights(layer, unit)]
        all_biases = [entry for unit in units for entry in bias(layer, unit)]
        if order == "layer":
            drawn += all_weights + all_biases
        elif order == "bias_first":
            drawn += all_biases + all_weights
        elif order == "across":
            for rest in np.ndindex(*shapes[layer][1:]):
                drawn += [(f"{layer}.weight", (unit, *rest)) for unit in units]
            drawn += all_biases
        else:
            for unit in units:
                drawn += weights(layer, unit) + bias(layer, unit)
                if order == "neuron_out" and following is not None:
                    width = shapes[following][1] // len(units)
                    drawn += [
                        entry
                        for target in range(shapes[following][0])
                        for entry in weights(following, target)
                        if entry[1][1] // width == unit
                    ]
    return list(dict.fromkeys(drawn))  # a weight that has been drawn is not drawn again


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "specs",
    [DENSE, CNN, chain((1, 1)), [spec for spec in CNN if spec.name not in {"0.bias", "2.bias"}]],
    ids=["dense", "cnn", "one", "biasless"],
)
def test_positions_are_ranks_in_the_order_of_its_definition(specs, order):
    positions = draw_positions(specs, [True] * len(specs), order, "independent")
    found = {spec.name: place.reshape(spec.shape) for spec, place in zip(specs, positions, strict=True)}
    for rank, (name, index) in enumerate(naive_order(specs, order)):
        assert found[name][index] == rank, (name, index)
    assert sum(place.size for place in positions) == len(naive_order(specs, order))


@pytest.mark.parametrize(
    (
        "order",
        "expected",
    ),  # a 1-2-1 network: hidden weights a b, hidden biases c d, output weights e f, bias g
    [
        ("layer", "abcdefg"),
        ("across", "abcdefg"),
        ("neuron", "acbdefg"),
        ("lazy", "acbdefg"),
        ("neuron_out", "acebdfg"),
        ("bias_first", "cdabgef"),
    ],
)
def test_orders_written_out(order, expected):
    specs = chain((2, 1), (1, 2))
    positions = np.concatenate(draw_positions(specs, [True] * 4, order, "independent"))
    assert "".join(np.array(list("abcdefg"))[np.argsort(positions)]) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_deals_out_the_same_numbers_where_all_have_one_law(order):
    values = everything(draw(CNN, Initialisation.of({**SAME_LAW, "order": order}), 3))
    expected = everything(draw(CNN, Initialisation.of(SAME_LAW), 3))
    np.testing.assert_array_equal(np.sort(values), np.sort(expected))
    assert (values == expected).all() == (order == "layer")


def test_what_is_not_drawn_takes_no_position():
    init = {"weights": SAME_LAW["weights"], "layers": {"0": "zeros", "1": {"bias": "ones"}}}
    values = draw(DENSE, Initialisation.of(init), 5)
    numbers = -1 + 2 * random.uniform(5, random.INIT, np.arange(30))
    np.testing.assert_array_equal(values["1.weight"], numbers[:20].reshape(5, 4))
    np.testing.assert_array_equal(values["2.weight"], numbers[20:].reshape(2, 5))
    assert not values["0.weight"].any()
    assert not values["0.bias"].any()
    assert (values["1.bias"] == 1).all()


# in the order neuron_out a hidden neuron draws its outgoing weights: there the next width does enter
@pytest.mark.parametrize("order", [order for order in ORDERS if order != "neuron_out"])
def test_more_layers_do_not_change_the_numbers_before_them(order):
    short, long = chain((4, 3), (5, 4)), chain((4, 3), (5, 4), (9, 5))
    init = Initialisation.of({"weights": "glorot", "bias": SAME_LAW["bias"], "order": order})
    few, many = draw(short, init, 1), draw(long, init, 1)
    for name, array in few.items():
        np.testing.assert_array_equal(array, many[name])


def test_a_scale_per_channel_stands_outside_the_chain():
    norm = [ParameterSpec.weight("n", (4,)), ParameterSpec.bias("n", (4,))]
    dense = chain((4, 3), (2, 4))
    specs = [*dense[:2], *norm, *dense[2:]]
    init = Initialisation.of(
        {**SAME_LAW, "layers": {"n": {"weights": "ones", "bias": "zeros"}}, "order": "neuron_out"}
    )
    values = draw(specs, init, 2)
    plain = draw(dense, Initialisation.of({**SAME_LAW, "order": "neuron_out"}), 2)
    for name, array in plain.items():
        np.testing.assert_array_equal(values[name], array)
    assert (values["n.weight"] == 1).all()


def test_neuron_out_refuses_layers_that_are_no_chain():
    with pytest.raises(UnstuckError, match=r"a chain of layers: '1' has 9 inputs, .* the 4 units of '0'"):
        draw(chain((4, 3), (2, 9)), Initialisation.of({**SAME_LAW, "order": "neuron_out"}), 0)


@pytest.mark.parametrize("order", ORDERS)
def test_reseeding_per_neuron_makes_neurons_equal(order):
    init = Initialisation.of({**SAME_LAW, "order": order, "streams": "reseeded_per_neuron"})
    for name, values in draw(DENSE, init, 3).items():
        # outgoing weights are drawn by the hidden neurons: theirs are equal
        outgoing = order == "neuron_out" and name in {"1.weight", "2.weight"}
        array = values.T if outgoing else values
        np.testing.assert_array_equal(array, np.broadcast_to(array[:1], array.shape))
    independent = draw(DENSE, Initialisation.of({**SAME_LAW, "order": order}), 3)["0.weight"]
    assert len(np.unique(independent)) == independent.size


def test_reseeding_per_neuron_gives_each_the_numbers_of_a_first_neuron():
    init = Initialisation.of({**SAME_LAW, "streams": "reseeded_per_neuron"})
    values = draw(DENSE, init, 3)
    numbers = -1 + 2 * random.uniform(3, random.INIT, np.arange(6))
    for layer, inputs in (("0", 3), ("1", 4), ("2", 5)):
        np.testing.assert_array_equal(values[f"{layer}.weight"][1], numbers[:inputs])
        assert values[f"{layer}.bias"][1] == numbers[inputs]


@pytest.mark.parametrize("order", ["layer", "neuron", "across", "bias_first"])
def test_reseeding_per_layer_makes_a_layer_the_prefix_of_another(order):
    specs = chain((5, 4), (3, 5))
    positions = draw_positions(specs, [True] * 4, order, "reseeded_per_layer")
    first, second = np.sort(np.concatenate(positions[:2])), np.sort(np.concatenate(positions[2:]))
    np.testing.assert_array_equal(first, np.arange(25))
    np.testing.assert_array_equal(second, np.arange(18))
    if order == "layer":
        values = draw(specs, Initialisation.of({**SAME_LAW, "streams": "reseeded_per_layer"}), 3)
        np.testing.assert_array_equal(values["1.weight"].ravel(), values["0.weight"].ravel()[:15])


def test_a_fixed_stream_ignores_the_seed():
    fixed = Initialisation.of({**SAME_LAW, "streams": "fixed"})
    values = everything(draw(DENSE, fixed, 3))
    np.testing.assert_array_equal(values, everything(draw(DENSE, fixed, 4)))
    np.testing.assert_array_equal(values, everything(draw(DENSE, Initialisation.of(SAME_LAW), FIXED_SEED)))
    assert (values != everything(draw(DENSE, Initialisation.of(SAME_LAW), 3))).all()


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=5),
    st.sampled_from([name for name in ORDERS if name != "neuron_out"]),
    st.sampled_from(STREAMS),
    st.integers(0, 2**64 - 1),
)
def test_any_dense_chain_is_filled_with_numbers_of_its_own_positions(widths, order, streams, seed):
    specs = chain(*zip(widths[1:], widths, strict=False))
    init = Initialisation.of({**SAME_LAW, "order": order, "streams": streams})
    values = draw(specs, init, seed)
    places = draw_positions(specs, [True] * len(specs), order, streams)
    key = FIXED_SEED if streams == "fixed" else seed
    for spec, place in zip(specs, places, strict=True):
        expected = -1 + 2 * random.uniform(key, random.INIT, place)
        np.testing.assert_array_equal(values[spec.name].ravel(), expected)
