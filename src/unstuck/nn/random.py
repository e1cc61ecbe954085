"""Random numbers that depend on nothing but seed, stream and position.

The generator is Philox4x32-10 (a counter-based generator: a keyed bijection of a 128-bit counter). A value is
f(seed, stream, substream, position): not the number of values asked for, nor their order, nor the place of a
network in an ensemble, nor the number of threads enters. Each position owns one block of four 32-bit words.

All arithmetic behind a value is on integers, or is a sum, product, quotient or square root in binary64, which
IEEE 754 rounds in one way only. So the same seed gives the same bits on every machine and for arrays of any
length, which the logarithm and cosine of a vectorised maths library do not promise.

References:
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw (2011), Parallel random numbers: as easy as 1, 2, 3.
    G. E. P. Box, M. E. Muller (1958), A note on the generation of random normal deviates.
"""

import math
import operator
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unstuck.errors import UnstuckError

# The streams of one seed. Values of different streams are independent.
INIT: Final = 0
SHUFFLE: Final = 1
DROPOUT: Final = 2
DATA: Final = 3
GROWTH: Final = 4

Words: TypeAlias = NDArray[np.uint64]  # 32-bit words, each in a 64-bit integer: room for their products
Block: TypeAlias = tuple[Words, Words, Words, Words]
Floats: TypeAlias = NDArray[np.float64]
Seeds: TypeAlias = SupportsIndex | Sequence[int] | NDArray[np.integer]

_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL: Final = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_ROUNDS: Final = 10
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)
_CHUNK: Final = 8192  # positions worked on at a time, so that the intermediate arrays stay in the cache


def philox4x32(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Philox4x32-10: ten rounds of two 32×32-bit products that mix a counter under a key.

    Args:
        counter: (n, 4), the blocks to compute.
        key: (n, 2), or (2,) for one key for all.

    Returns:
        (n, 4), four random words a block.

    Example:
        >>> [f"{word:08x}" for word in philox4x32(np.zeros((1, 4), np.uint32), np.zeros(2, np.uint32))[0]]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c, k = np.atleast_2d(counter).astype(np.uint64), np.atleast_2d(key).astype(np.uint64)
    block = _philox((c[:, 0], c[:, 1], c[:, 2], c[:, 3]), (k[:, 0], k[:, 1]))
    return np.stack(block, axis=-1).astype(np.uint32)


def seed_array(seeds: Seeds) -> Words:
    """Check one seed or many.

    Args:
        seeds: whole numbers from 0 to 2**64 - 1.

    Returns:
        The seeds as uint64, a scalar array for a single one.

    Raises:
        UnstuckError: a seed is no whole number, or out of range.

    Example:
        >>> seed_array(range(3))
        array([0, 1, 2], dtype=uint64)
    """
    if isinstance(seeds, range):
        seeds = np.array(seeds) if seeds.stop < 2**63 else list(seeds)
    if isinstance(seeds, np.ndarray):
        if seeds.dtype.kind in "iu" and (seeds.size == 0 or seeds.min() >= 0):
            return seeds.astype(np.uint64)
        return np.array([_seed(seed) for seed in seeds.ravel().tolist()], np.uint64).reshape(seeds.shape)
    if isinstance(seeds, Sequence) and not isinstance(seeds, str | bytes):
        return np.array([_seed(seed) for seed in seeds], dtype=np.uint64)
    return np.array(_seed(seeds), dtype=np.uint64)


def words(seed: Seeds, stream: int, positions: ArrayLike, substream: int = 0) -> NDArray[np.uint32]:
    """The random words of some positions: Philox at counter (position, stream, substream) under key (seed).

    Args:
        seed: one seed, or an array of seeds that is broadcast against `positions`.
        stream: what the numbers are for: INIT, SHUFFLE, DROPOUT, DATA.
        positions: non-negative integers, of any shape.
        substream: a further coordinate, such as the epoch.

    Returns:
        The broadcast shape and a last axis of 4: one block of words a position.

    Raises:
        UnstuckError: a seed, stream or position is out of range.
    """
    shape, chunks = _chunks(seed, stream, positions, substream)
    out = np.empty((math.prod(shape), 4), np.uint32)
    for part, block in chunks:
        out[part] = np.stack(block, axis=-1)
    return out.reshape(*shape, 4)


def uniform(seed: Seeds, stream: int, positions: ArrayLike, substream: int = 0) -> Floats:
    """Uniform numbers in [0, 1): 53 bits from a block's first two words, times 2⁻⁵³.

    Args:
        seed: one seed, or an array of seeds that is broadcast against `positions`.
        stream: what the numbers are for: INIT, SHUFFLE, DROPOUT, DATA.
        positions: non-negative integers, of any shape.
        substream: a further coordinate, such as the epoch.

    Returns:
        The broadcast shape of seeds and positions.

    Raises:
        UnstuckError: a seed, stream or position is out of range.

    Example:
        >>> bool(uniform(7, INIT, [3])[0] == uniform(7, INIT, range(10))[3])
        True
    """
    shape, chunks = _chunks(seed, stream, positions, substream)
    out = np.empty(math.prod(shape))
    for part, (w0, w1, _, _) in chunks:
        out[part] = _bits53(w0, w1).astype(np.float64) * 2.0**-53
    return out.reshape(shape)


def normal(seed: Seeds, stream: int, positions: ArrayLike, substream: int = 0) -> Floats:
    """Standard normal numbers by Box and Muller: z = √(−2 ln u)·cos 2πv, u in (0, 1] and v in [0, 1).

    u takes a block's first two words and v the other two. As u is at least 2⁻⁵³, |z| stays below 8.6.

    Args:
        seed: one seed, or an array of seeds that is broadcast against `positions`.
        stream: what the numbers are for: INIT, SHUFFLE, DROPOUT, DATA.
        positions: non-negative integers, of any shape.
        substream: a further coordinate, such as the epoch.

    Returns:
        The broadcast shape of seeds and positions.

    Raises:
        UnstuckError: a seed, stream or position is out of range.
    """
    shape, chunks = _chunks(seed, stream, positions, substream)
    out = np.empty(math.prod(shape))
    for part, (w0, w1, w2, w3) in chunks:
        u = (_bits53(w0, w1) + np.uint64(1)).astype(np.float64) * 2.0**-53
        v = _bits53(w2, w3).astype(np.float64) * 2.0**-53
        out[part] = np.sqrt(-2.0 * _log(u)) * _cos_turns(v)
    return out.reshape(shape)


def keyed(
    seed: SupportsIndex, layer: str, units: ArrayLike, inputs: ArrayLike, shape: Sequence[int] = ()
) -> Floats:
    """Uniform numbers in [-1, 1) for single connections: f(seed, layer, unit, input), and of nothing else.

    A network that grows draws a weight when its unit appears. As neither the order of the draws nor the
    number of units or inputs enters, drawing late gives the numbers that drawing all at once would have
    given.

    Args:
        seed: a whole number from 0 to 2**64 - 1.
        layer: the tensor's name; its CRC-32 is the substream.
        units: numbers of the units, (U,), below 2**32.
        inputs: numbers of their inputs, (I,), below 2**32.
        shape: axes behind the input, such as a kernel's height and width: inputs are then counted through
            them.

    Returns:
        (U, I, *shape).

    Raises:
        UnstuckError: a number out of range.

    Example:
        >>> one = keyed(7, "fc.weight", [3], range(5))
        >>> bool((one == keyed(7, "fc.weight", range(8), range(9))[3, :5]).all())
        True
    """
    within = math.prod(shape)
    taps = _positions(inputs)[:, None] * np.uint64(within) + np.arange(within, dtype=np.uint64)
    places = (_positions(units)[:, None] << _HALF) + taps.ravel()
    if taps.size and int(taps.max()) > int(_LOW):
        raise UnstuckError(f"inputs: found number {int(taps.max())}, expected less than 2**32")
    drawn = 2.0 * uniform(seed, GROWTH, places, zlib.crc32(layer.encode())) - 1.0
    return drawn.reshape(len(places), -1, *shape)


def _philox(counter: Block, key: tuple[Words, Words]) -> Block:
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW
        c2, c3 = (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def _chunks(
    seed: Seeds, stream: int, positions: ArrayLike, substream: int
) -> tuple[tuple[int, ...], Iterator[tuple[slice, Block]]]:
    """Return the shape of the values asked for, and their blocks, some thousands at a time, row-major."""
    keys, places = np.broadcast_arrays(seed_array(seed), _positions(positions))
    shape = keys.shape
    keys, places = keys.ravel(), places.ravel()
    c2, c3 = _word("stream", stream), _word("substream", substream)

    def blocks() -> Iterator[tuple[slice, Block]]:
        for start in range(0, places.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            key, place = keys[part], places[part]
            yield part, _philox((place & _LOW, place >> _HALF, c2, c3), (key & _LOW, key >> _HALF))

    return shape, blocks()


def _bits53(high: Words, low: Words) -> Words:
    return (high >> np.uint64(5)) << np.uint64(26) | low >> np.uint64(6)


# ln((1 + s)/(1 - s)) = 2s(1 + s²/3 + s⁴/5 + ...); |s| < .1716 here, where the first one left out is < 1e-18
_ATANH: Final = tuple(1.0 / (2 * k + 1) for k in range(11, -1, -1))
# Taylor series for |t| <= π/4; the first term left out is below 1e-17
_COS: Final = tuple((-1) ** k / math.factorial(2 * k) for k in range(9, -1, -1))
_SIN: Final = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1))


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


def _log(x: Floats) -> Floats:
    """Natural logarithm of positive numbers, from operations that round alike everywhere."""
    mantissa, exponent = np.frexp(x)
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, 2.0 * mantissa, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    return (exponent - small) * math.log(2.0) + 2.0 * s * _polynomial(_ATANH, s * s)


def _cos_turns(turns: Floats) -> Floats:
    """Cosine of 2πv for v in [0, 1): the nearest quarter turn comes off exactly, a short series is left."""
    quarter = np.floor(4.0 * turns + 0.5)
    t = (turns - 0.25 * quarter) * (2.0 * math.pi)
    square = t * t
    odd = (quarter == 1.0) | (quarter == 3.0)
    size = np.where(odd, t * _polynomial(_SIN, square), _polynomial(_COS, square))
    return np.where((quarter == 1.0) | (quarter == 2.0), -size, size)


def _seed(seed: object) -> int:
    if isinstance(seed, SupportsIndex) and not isinstance(seed, bool) and 0 <= operator.index(seed) < 2**64:
        return operator.index(seed)
    raise UnstuckError(f"seed: found {seed!r}, expected a whole number from 0 to 2**64 - 1")


def _word(name: str, value: int) -> Words:
    if not 0 <= value < 2**32:
        raise UnstuckError(f"{name}: found {value!r}, expected a whole number from 0 to 2**32 - 1")
    return np.array([value], dtype=np.uint64)


def _positions(positions: ArrayLike) -> Words:
    array = np.asarray(positions)
    if array.size == 0:
        return array.astype(np.uint64)
    if array.dtype.kind not in "iu":
        raise UnstuckError(f"positions: found {array.dtype}, expected integers")
    if array.dtype.kind == "i" and array.min() < 0:
        raise UnstuckError(f"positions: found {array.min()}, expected non-negative integers")
    return array.astype(np.uint64)
