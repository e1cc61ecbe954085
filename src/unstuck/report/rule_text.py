"""The rules in the terminal: one explained by its page, or all in a list."""

import re
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.text import Text

from unstuck.diagnose import rules
from unstuck.diagnose.registry import Rule, chosen, find
from unstuck.report.numbers import count
from unstuck.report.terminal import SEVERITY_STYLE

_MATHS = re.compile(r"\$([^$\n]+)\$")
_SYMBOLS = {
    r"\lVert": "‖",
    r"\rVert": "‖",
    r"\lambda": "λ",
    r"\varphi": "φ",
    r"\sigma": "σ",
    r"\theta": "θ",
    r"\alpha": "α",
    r"\eta": "η",
    r"\chi": "χ",
    r"\cdot": "·",
    r"\times": "×",
    r"\approx": "≈",
    r"\sqrt": "√",
    r"\infty": "∞",
    r"\Delta": "Δ",
    r"\max": "max",
    r"\min": "min",
    r"\sum": "Σ",
    r"\log": "log",
    r"\exp": "exp",
    r"\ln": "ln",
    r"\le": "≤",
    r"\ge": "≥",
    r"\ne": "≠",
    r"\in": "∈",
    r"\to": "→",
    r"\,": " ",
    r"\ ": " ",
}
_COMMAND = re.compile("|".join(re.escape(name) for name in sorted(_SYMBOLS, key=len, reverse=True)))
_EXPONENT = re.compile(r"\^(?:\{([-+]?\d+|T)\}|(\d|T))")
_SUPERSCRIPTS = str.maketrans("0123456789+-T", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀ")


_REGISTERED = rules.__all__  # importing the families fills the registry


def known_rules() -> list[Rule]:
    """All rules in the order of their codes."""
    return chosen()


def known_rule(key: str) -> Rule:
    """The rule with this code or name.

    Raises:
        UnstuckError: there is none; the message names those that are close.
    """
    return find(key)


def readable_maths(markdown: str) -> str:
    r"""Markdown whose formulas can be read without a typesetter.

    Example:
        >>> print(readable_maths(r"at $10^{-4}$ of $\lVert W_0 \rVert$, $s_L \le \sqrt{q^*}$"))
        at 10⁻⁴ of ‖ W_0 ‖, s_L ≤ √(q^*)
    """
    return _MATHS.sub(lambda match: _formula(match[1]), markdown)


def _formula(source: str) -> str:
    text = _COMMAND.sub(lambda match: _SYMBOLS[match[0]], source)
    text = _EXPONENT.sub(lambda match: (match[1] or match[2]).translate(_SUPERSCRIPTS), text)
    text = re.sub(r"√\s*\{([^{}]*)\}", r"√(\1)", text)
    return re.sub(r"([_^])\{([^{}]*)\}", r"\1(\2)", text)


def rule_text(rule: Rule) -> RenderableType:
    """A rule's page to print with rich."""
    return Markdown(readable_maths(rule.page), code_theme="ansi_dark", hyperlinks=False)


def rules_text(all_rules: Iterable[Rule]) -> RenderableType:
    """All rules: code, name, severity and whether it is preview, and what each sees in a line below."""
    parts: list[RenderableType] = []
    known = list(all_rules)
    width = max((len(rule.name) for rule in known), default=0)
    for rule in known:
        parts += [
            Text.assemble(
                (f"{rule.code}  ", "bold"),
                (f"{rule.name:<{width}}  ", "bold"),
                (f"{rule.severity:<7}  ", SEVERITY_STYLE[rule.severity]),
                ("preview" if rule.preview else "", "dim"),
            ),
            Padding(Text(rule.summary, style="dim"), (0, 0, 0, 8)),
        ]
    parts += [Text(), Text(f"{count(len(known), 'rule')}. One explained: unstuck rule NAME")]
    return Group(*parts)


def rule_dict(rule: Rule) -> dict[str, Any]:
    """What is known of a rule, without its page."""
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": rule.severity,
        "preview": rule.preview,
        "from_step_0": rule.from_step_0,
        "summary": rule.summary,
        "needs": list(rule.needs),
        "explains": dict(rule.explains),
        "url": f"docs/rules/{rule.name}",
    }
