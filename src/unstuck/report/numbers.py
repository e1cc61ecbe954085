"""Numbers as a reader wants them: two or three digits, no more than was measured."""

import math

NOTHING = "–"
"""What stands where there is no number."""


def short(value: float | None, digits: int = 3) -> str:
    """A number with a few significant digits.

    Args:
        value: None is undefined.
        digits: significant digits.

    Returns:
        Text of at most seven characters, for three digits.

    Example:
        >>> [short(x) for x in (0.45039, 0, 1.38e-7, 123456, None, float("inf"))]
        ['0.45', '0', '1.4e-7', '1.2e5', '–', 'inf']
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e4:
        text = f"{value:.{digits}g}"
        return text if "e" not in text else f"{value:.0f}"
    mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def scientific(value: float | None) -> str:
    """A small number with its power of ten, to be compared with others below it.

    Args:
        value: None is undefined.

    Example:
        >>> [scientific(x) for x in (0.00196, 1.6e-7, 0, 0.35, None)]
        ['2.0e-3', '1.6e-7', '0', '3.5e-1', '–']
    """
    if value is None or not math.isfinite(value) or value == 0:
        return short(value)
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def percent(share: float | None) -> str:
    """A share of 1 in percent, with two digits at most.

    Args:
        share: None is undefined.

    Returns:
        Text of at most nine characters for shares of a usual size; a tiny share is not written as 0.

    Example:
        >>> [percent(x) for x in (1.0, 0.853, 0.0532, 0.0045, 7e-5, 1e-9, 0, -0.002, None)]
        ['100 %', '85 %', '5.3 %', '0.45 %', '0.007 %', '<0.001 %', '0 %', '-0.2 %', '–']
    """
    if share is None or not math.isfinite(share):
        return NOTHING
    value = 100 * share
    size = abs(value)
    if size == 0:
        return "0 %"
    if size < 1e-3:
        return "<0.001 %"
    if size < 9.95:
        digits = 2 if size >= 0.1 else 1
        return f"{float(f'{value:.{digits}g}'):g} %"
    return f"{value:.0f} %"


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there are several.

    Example:
        >>> count(1, "seed"), count(12, "seed")
        ('1 seed', '12 seeds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clean(text: str) -> str:
    r"""Text from a user's program without characters that would steer a terminal or break a line.

    Example:
        >>> clean("fc\x1b[31m1")
        'fc\ufffd[31m1'
    """
    return "".join(char if char.isprintable() else " " if char in "\t\n" else "\ufffd" for char in text)


def fit(name: str, width: int) -> str:
    """A name cleaned and cut to a width; its end tells more than its beginning.

    Example:
        >>> fit("features.block1.conv2", 12)
        '…lock1.conv2'
    """
    text = clean(name)
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"
