"""Wrong and right in three lines, with the activation that the user's network has."""

import re
from dataclasses import dataclass

from unstuck.gradcheck.mistakes import KINDS, Mistake


@dataclass(frozen=True)
class _Formula:
    """An activation as code: of z, its derivative by z, and that as a formula of a where there is one."""

    value: str
    slope: str
    of_output: str = ""


_LEAKY = "leaky ReLU"
_FORMULAS: dict[str, _Formula] = {
    "sigmoid": _Formula("sigmoid(z)", "sigmoid(z) * (1 - sigmoid(z))", "a * (1 - a)"),
    "tanh": _Formula("tanh(z)", "(1 - tanh(z) ** 2)", "(1 - a ** 2)"),
    "ReLU": _Formula("maximum(z, 0)", "(z > 0)", "(a > 0)"),
    "ReLU6": _Formula("clip(z, 0, 6)", "((z > 0) & (z < 6))"),
    "ELU": _Formula("where(z > 0, z, exp(z) - 1)", "where(z > 0, 1, exp(z))", "where(a > 0, 1, a + 1)"),
    "softplus": _Formula("log(1 + exp(z))", "sigmoid(z)", "(1 - exp(-a))"),
    "GELU": _Formula("z * Phi(z)   # Phi: the normal distribution", "(Phi(z) + z * phi(z))"),
    "GELU (tanh)": _Formula(
        "0.5 * z * (1 + t)   # t = tanh(c * (z + 0.044715 * z ** 3)), c = sqrt(2 / pi)",
        "(0.5 * (1 + t) + 0.5 * z * (1 - t ** 2) * c * (1 + 0.134145 * z ** 2))",
    ),
    "SiLU": _Formula("z * sigmoid(z)", "(sigmoid(z) + z * sigmoid(z) * (1 - sigmoid(z)))"),
    "PReLU": _Formula("where(z > 0, z, slope * z)", "where(z > 0, 1, slope)"),
    "square": _Formula("z ** 2", "2 * z"),
    "exp": _Formula("exp(z)", "exp(z)", "a"),
    "sin": _Formula("sin(z)", "cos(z)"),
    "softsign": _Formula("z / (1 + abs(z))", "1 / (1 + abs(z)) ** 2", "(1 - abs(a)) ** 2"),
}


def example(mistake: Mistake) -> tuple[str, str]:
    """Code with the mistake, and without it.

    Args:
        mistake: its explanation says which activation it is about, if it is about one.

    Returns:
        Up to three lines each; both empty where nothing is known.

    Example:
        >>> wrong, right = example(
        ...     Mistake("W", "activation-derivative-missing", "the derivative of tanh is missing")
        ... )
        >>> print(right)
        a = tanh(z)
        dz = da * (1 - a ** 2)
    """
    kind = KINDS[mistake.kind]
    if not mistake.kind.startswith("activation-"):
        return kind.wrong, kind.right
    names = _named(mistake.explanation)
    if not names:
        return kind.wrong, kind.right
    formula = _formula(names[-1])
    value = f"a = {formula.value}\n"
    right = f"{value}dz = da * {formula.of_output or formula.slope}"
    if mistake.kind == "activation-derivative-missing":
        return f"{value}dz = da", right
    if mistake.kind == "activation-derivative-at-output":
        return f"{value}dz = da * {_renamed(formula.slope, 'z', 'a')}", f"{value}dz = da * {formula.slope}"
    if mistake.kind == "activation-derivative-at-input":
        return f"{value}dz = da * {_renamed(formula.of_output or formula.slope, 'a', 'z')}", right
    return f"{value}dz = {_wrong(mistake.explanation, names, formula)}", right


def _wrong(text: str, names: list[str], formula: _Formula) -> str:
    """What is written for the derivative where another thing stands for it."""
    slope = formula.of_output or formula.slope
    if len(names) > 1:
        other = _formula(names[0])
        return f"da * {other.of_output or other.slope}"
    said = {
        "twice": f"da * {slope} * {slope}",
        "inverted": "da * (z < 0)",
        "with the output": "da * a",
        "with the input": "da * z",
        "is forgotten": "da * (z > 0)",
        "is one": "da * where(z > 0, 1, 1)",
        "made from the gradient": "da * (da > 0)",
    }
    return next((code for part, code in said.items() if part in text), "da * f(z)   # not its derivative")


def _named(text: str) -> list[str]:
    """Activations in a text, in its order; two where one stands for the other."""
    names = sorted([*_FORMULAS, *_leaky_in(text)], key=len, reverse=True)
    found = re.findall(rf"(?<![\w-])({'|'.join(re.escape(name) for name in names)})(?!\w)", text)
    return found[:2] if " stands for " in text else found[:1]


def _leaky_in(text: str) -> list[str]:
    at = text.find(f"{_LEAKY} (")
    return [text[at : text.index(")", at) + 1]] if at >= 0 else []


def _formula(name: str) -> _Formula:
    if name.startswith(_LEAKY):
        alpha = name[len(_LEAKY) + 2 : -1]
        return _Formula(
            f"where(z > 0, z, {alpha} * z)", f"where(z > 0, 1, {alpha})", f"where(a > 0, 1, {alpha})"
        )
    return _FORMULAS[name]


def _renamed(code: str, old: str, new: str) -> str:
    """The same formula of another array."""
    return re.sub(rf"\b{old}\b", new, code)
