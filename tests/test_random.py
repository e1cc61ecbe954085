"""The counter-based generator: published vectors, a naive twin, laws, independence of everything else."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unstuck.errors import UnstuckError
from unstuck.nn import random
from unstuck.nn.random import DATA, DROPOUT, INIT, SHUFFLE

MANY = 400_000


def naive_philox(counter, key):
    """Ten rounds on Python's own integers, as the paper's figure draws them."""
    x, k = list(counter), list(key)
    for _ in range(10):
        left, right = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
        x = [(right >> 32) ^ x[1] ^ k[0], right % 2**32, (left >> 32) ^ x[3] ^ k[1], left % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return x


def hexadecimal(text):
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_known_answers_of_random123(counter, key, expected):
    block = random.philox4x32(hexadecimal(counter)[np.newaxis], hexadecimal(key))
    assert block.dtype == np.uint32
    np.testing.assert_array_equal(block, hexadecimal(expected)[np.newaxis])


word = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(st.tuples(word, word, word, word), st.tuples(word, word)), min_size=1, max_size=5))
def test_philox_equals_its_naive_twin(cases):
    counters = np.array([counter for counter, _ in cases], np.uint32)
    keys = np.array([key for _, key in cases], np.uint32)
    expected = np.array([naive_philox(*case) for case in cases], np.uint32)
    np.testing.assert_array_equal(random.philox4x32(counters, keys), expected)
    np.testing.assert_array_equal(random.philox4x32(counters[:1], keys[0]), expected[:1])


@given(st.integers(0, 2**64 - 1), word, st.integers(0, 2**63 - 1), word)
def test_words_are_philox_of_position_stream_substream_under_the_seed(seed, stream, position, substream):
    counter = (position % 2**32, position >> 32, stream, substream)
    expected = naive_philox(counter, (seed % 2**32, seed >> 32))
    assert random.words(seed, stream, np.array([position]), substream).tolist() == [expected]


@pytest.mark.parametrize("kind", [random.uniform, random.normal, random.words])
def test_a_value_does_not_depend_on_what_else_is_asked_for(kind):
    places = np.random.default_rng(0).permutation(20_000)  # more than a chunk, in any order
    together = kind(5, DATA, places)
    for one in (0, 1, 8191, 8192, 19_999):
        np.testing.assert_array_equal(kind(5, DATA, places[one]), together[one])
    np.testing.assert_array_equal(kind(5, DATA, np.sort(places))[places], together)
    np.testing.assert_array_equal(
        kind(5, DATA, places.reshape(100, 200)), together.reshape(100, 200, *together.shape[1:])
    )


@pytest.mark.parametrize("kind", [random.uniform, random.normal, random.words])
def test_many_seeds_at_once_equal_each_alone(kind):
    seeds = [0, 7, 2**32, 2**64 - 1, *range(3000, 6000)]
    together = kind(random.seed_array(seeds)[:, np.newaxis], INIT, np.arange(7))
    for row in (0, 1, 2, 3, 1234, -1):
        np.testing.assert_array_equal(together[row], kind(seeds[row], INIT, np.arange(7)))


def test_uniform_and_normal_by_their_formulas():
    w = random.words(11, DROPOUT, np.arange(MANY), 3).astype(object)
    u, v = ((w[:, i] >> 5) * 2**26 + (w[:, i + 1] >> 6) for i in (0, 2))
    u, v = u.astype(float) / 2**53, v.astype(float) / 2**53
    np.testing.assert_array_equal(random.uniform(11, DROPOUT, np.arange(MANY), 3), u)
    z = np.sqrt(-2 * np.log(u + 2.0**-53)) * np.cos(2 * np.pi * v)
    np.testing.assert_allclose(random.normal(11, DROPOUT, np.arange(MANY), 3), z, rtol=1e-13, atol=1e-14)


def test_logarithm_and_cosine_are_good_to_the_last_digits():
    edge = np.array([2.0**-53, 2.0**-52, 0.5 - 2.0**-53, 0.5, math.sqrt(0.5), 0.75, 1 - 2.0**-53, 1.0])
    x = np.concatenate([edge, 1.0 - random.uniform(0, DATA, np.arange(10_000))])
    np.testing.assert_allclose(random._log(x), [math.log(value) for value in x], rtol=5e-16)
    turns = np.concatenate([np.arange(64) / 64, 1.0 - edge[:4], random.uniform(1, DATA, np.arange(10_000))])
    turns = turns[turns < 1.0]
    exact = [math.cos(2 * math.pi * value) for value in turns]
    np.testing.assert_allclose(random._cos_turns(turns), exact, rtol=0, atol=1e-15)
    assert random._cos_turns(np.array([0.0, 0.25, 0.5, 0.75])).tolist() == [1.0, 0.0, -1.0, 0.0]


def test_normal_is_finite_at_the_ends_of_its_uniforms(monkeypatch):
    low, high = np.zeros(1, np.uint64), np.full(1, 2**32 - 1, np.uint64)
    for block in itertools.product((low, high), repeat=4):
        monkeypatch.setattr(random, "_philox", lambda *_, block=block: block)
        z = random.normal(0, INIT, [0])
        assert np.isfinite(z).all()
        assert abs(z[0]) < 8.6
        assert 0.0 <= random.uniform(0, INIT, [0])[0] < 1.0


def test_uniform_has_its_law():
    u = random.uniform(1, INIT, np.arange(MANY))
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(u * 0.99, "uniform").pvalue < 1e-9  # the same test sees an interval 1 % too short
    cells = np.bincount((u * 4096).astype(int), minlength=4096)
    assert 1e-3 < stats.chisquare(cells).pvalue < 1 - 1e-3


def test_normal_has_its_law():
    z = random.normal(1, INIT, np.arange(MANY))
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert stats.kstest(z * 1.02, "norm").pvalue < 1e-6  # the same test sees a spread 2 % too wide
    assert abs(z.mean()) < 4 / math.sqrt(MANY)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / MANY)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / MANY)


@pytest.mark.parametrize("kind", [random.uniform, random.normal])
def test_neighbours_in_every_coordinate_are_uncorrelated(kind):
    here = np.arange(MANY)
    base = kind(9, INIT, here)
    others = {
        "position": kind(9, INIT, here + 1),
        "seed": kind(10, INIT, here),
        "seed, high word": kind(9 + 2**32, INIT, here),
        "stream": kind(9, SHUFFLE, here),
        "substream": kind(9, INIT, here, 1),
    }
    for name, other in others.items():
        assert abs(np.corrcoef(base, other)[0, 1]) < 4.5 / math.sqrt(MANY), name


def test_first_values_of_consecutive_seeds_have_the_law_too():
    u = random.uniform(random.seed_array(range(MANY)), INIT, 0)
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 4.5 / math.sqrt(MANY)


@pytest.mark.parametrize(
    "bad", [-1, 2**64, 1.0, "1", None, True, np.float64(2), [3, -1], np.array([0.5]), range(-1, 2)]
)
def test_a_bad_seed_is_refused(bad):
    with pytest.raises(UnstuckError, match=r"seed: found .*, expected a whole number from 0 to 2\*\*64 - 1"):
        random.uniform(bad, INIT, [0, 1])


@pytest.mark.parametrize(
    "seeds",
    [
        [0, 2**64 - 1],
        np.array([3, 4]),
        np.array([3, 4], np.uint8),
        range(5),
        range(2**64 - 2, 2**64),
        range(4, -1, -1),
        [],
    ],
)
def test_seeds_in_any_form_keep_their_values(seeds):
    array = random.seed_array(seeds)
    assert array.dtype == np.uint64
    assert array.tolist() == list(seeds)


def test_bad_positions_and_streams_are_refused():
    with pytest.raises(UnstuckError, match="positions: found -1"):
        random.uniform(0, INIT, [2, -1])
    with pytest.raises(UnstuckError, match="positions: found float64, expected integers"):
        random.uniform(0, INIT, [0.5])
    with pytest.raises(UnstuckError, match=r"stream: found -1"):
        random.uniform(0, -1, [0])
    with pytest.raises(UnstuckError, match=r"substream: found 4294967296"):
        random.uniform(0, INIT, [0], 2**32)


def test_no_positions_give_no_values():
    assert random.uniform(0, INIT, []).shape == (0,)
    assert random.normal(random.seed_array([1, 2])[:, np.newaxis], INIT, np.empty(0, int)).shape == (2, 0)
    assert random.words(0, INIT, np.empty((3, 0), int)).shape == (3, 0, 4)


def test_the_bits_of_normal_numbers_are_the_same_on_every_machine():
    # written down once: a recorded seed must mean the same network for good
    bits = [z.hex() for z in random.normal(0, INIT, np.arange(3)).tolist()]
    assert bits == ["-0x1.f1bcd1a2003c6p-4", "-0x1.4f5b550f3ae82p-4", "0x1.c6c3bef2bb90dp+0"]
