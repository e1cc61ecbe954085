"""The memory: its budget, its balance, and that it is a uniform sample however the stream is cut."""

import numpy as np
import pytest

from unstuck.grow.memory import Memory, shares


def stream(counts, seed=0):
    units = np.concatenate([np.full(count, unit) for unit, count in enumerate(counts)])
    units = np.random.default_rng(seed).permutation(units)
    firsts = np.unique(units, return_index=True)[1]
    rank = np.argsort(np.argsort(firsts))  # classes are numbered as they come
    return np.arange(len(units), dtype=np.int32)[:, None], rank[units]


def test_shares_are_even_and_what_a_small_class_leaves_goes_to_the_others():
    assert shares(np.array([100, 100, 100]), 9).tolist() == [3, 3, 3]
    assert shares(np.array([100, 100, 100]), 11).tolist() == [4, 4, 3]
    assert shares(np.array([1, 100, 100]), 9).tolist() == [1, 4, 4]
    assert shares(np.array([2, 1]), 9).tolist() == [2, 1]
    assert shares(np.array([5, 5, 5]), 2).tolist() == [1, 1, 0]
    assert shares(np.zeros(0, np.int64), 5).tolist() == []


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_the_same_samples_are_kept_however_the_stream_is_cut(piece):
    x, units = stream([40, 300, 5, 90])
    memory = Memory(50, 3)
    for start in range(0, len(x), piece):
        memory.add(x[start : start + piece], units[start : start + piece])
        assert len(memory) == min(50, start + piece, len(x)) or len(memory) >= 45
    counts = np.bincount(memory.units)
    assert counts.sum() == len(memory) <= 50
    assert min(counts) == 5
    assert max(counts) - sorted(counts)[1] <= 1
    whole = Memory(50, 3)
    whole.add(x, units)
    mine, all_at_once = set(memory.samples[:, 0].tolist()), set(whole.samples[:, 0].tolist())
    assert len(mine & all_at_once) >= 48  # a place that opened late stays empty rather than biased
    assert (units[memory.samples[:, 0]] == memory.units).all()


def test_every_sample_of_a_class_is_as_likely():
    hits = np.zeros(60)
    for seed in range(600):
        memory = Memory(12, seed)
        for start in range(0, 60, 5):
            x = np.arange(start, start + 5)[:, None]
            memory.add(x, (np.arange(5) + start >= 30).astype(np.int64))
        hits[memory.samples[:, 0]] += 1
    expected = 600 * 6 / 30
    chi2 = ((hits - expected) ** 2 / expected).sum()
    assert chi2 < 106  # 60 cells, p about 1e-4


def test_bytes_stay_bytes():
    memory = Memory(10, 0)
    memory.add(np.zeros((30, 28, 28), np.uint8), np.zeros(30, np.int64))
    assert memory.samples.dtype == np.uint8
    assert memory.bytes == 10 * 28 * 28


def test_without_a_budget_nothing_is_kept():
    memory = Memory(0, 0)
    memory.add(np.zeros((3, 2)), np.zeros(3, np.int64))
    assert len(memory) == 0
    assert memory.samples is None
