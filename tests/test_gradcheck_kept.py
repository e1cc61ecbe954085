"""Networks that keep a part of what backward needs in themselves, and a part in their cache."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import unstuck
from unstuck.gradcheck.kept import places


class Dense:
    """Keeps its input in an attribute, and what else it needs in a dict or a tuple."""

    def __init__(self, name: str, slip: str) -> None:
        self.name, self.slip, self.saved, self.pair = name, slip, {}, (0.0, 0.0)

    def __call__(self, params: Any, x: Any) -> Any:
        self.x = x
        a = np.tanh(x @ params[self.name])
        self.saved["a"] = a
        self.pair = (x, a)
        return a

    def back(self, params: Any, dy: Any, grads: Any) -> Any:
        x, a = (self.x, self.saved["a"]) if self.slip != "tuple" else self.pair
        dz = dy * (1 - a**2)
        grads[self.name] = x.T @ dz
        return dz @ params[self.name].T


def network(kind: str) -> tuple[Callable[..., Any], Callable[..., Any], Any, Any]:
    """Two layers and a mean square, whose difference alone is in the cache, or all of it and a stale use."""
    rng = np.random.default_rng(3)
    layers = [Dense("one", kind), Dense("two", kind)]
    wanted = rng.normal(size=(5, 2))
    params = {"one": rng.normal(size=(3, 4)), "two": rng.normal(size=(4, 2))}

    def forward(params: Any, x: Any) -> Any:
        h = layers[0](params, x)
        y = layers[1](params, h)
        cache = {"input": x, "off": y - wanted}
        if kind == "all in the cache":
            cache |= {"h": h, "y": y}
        return ((y - wanted) ** 2).sum(), cache

    def backward(params: Any, cache: Any, dy: Any) -> Any:
        grads: dict[str, Any] = {}
        d = 2 * cache["off"] * dy
        if kind == "all in the cache":
            d = d * (1 - cache["y"] ** 2)
            grads["two"] = layers[1].x.T @ d  # what the last forward pass left
            d = (d @ params["two"].T) * (1 - cache["h"] ** 2)
            grads["one"] = cache["input"].T @ d
            return d @ params["one"].T, grads
        d = layers[1].back(params, d, grads)
        return layers[0].back(params, d, grads), grads

    return forward, backward, params, rng.normal(size=(5, 3))


@pytest.mark.parametrize("kind", ["attribute and dict", "tuple"])
def test_a_network_that_keeps_a_part_of_its_cache_in_itself_is_right(kind: str) -> None:
    report = unstuck.check_gradients(*network(kind))
    assert report.ok, str(report)
    assert any("call them in pairs" in note for note in report.notes)


def test_what_is_in_the_cache_and_not_taken_from_it_is_stale() -> None:
    report = unstuck.check_gradients(*network("all in the cache"))
    assert [mistake.kind for mistake in report.mistakes] == ["stale-cache"]


def test_what_is_kept_can_be_put_back() -> None:
    class Layer:
        pair: Any = None

    layer, kept = Layer(), {"list": [np.zeros(2), 0.5], "more": ("word", np.zeros(3))}
    layer.pair = (np.zeros(1), np.zeros(2))

    def uses() -> Any:
        return layer, kept

    found = places([uses])
    assert len(found) == 5
    for place in found.values():
        place.put(place.value + 1)
    assert [part.tolist() for part in layer.pair] == [[1.0], [1.0, 1.0]]
    assert kept["list"][0].tolist() == [1.0, 1.0]
    assert kept["list"][1] == 1.5
    assert kept["more"][1].tolist() == [1.0, 1.0, 1.0]
