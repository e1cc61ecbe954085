"""The change to make, as a diff of the user's own lines, where the text shows clearly where it belongs."""

import ast
import difflib
import re
from pathlib import Path

from unstuck.diagnose.remedies import Treatment
from unstuck.prove.torch.catalogue import parts


def change(file: Path, name: str, treatment: str) -> str:
    r"""The change that a treatment means for a file.

    Args:
        file: the script.
        name: what it is called in the diff.
        treatment: its id.

    Returns:
        A unified diff; empty where the text does not show clearly what would have to change.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.py"
        >>> _ = file.write_text("opt = torch.optim.SGD(model.parameters(), lr=0.5)\n")
        >>> print(change(file, "train.py", "lr*0.1").splitlines()[-1])
        +opt = torch.optim.SGD(model.parameters(), lr=0.05)
    """
    try:
        before = file.read_text(encoding="utf-8")
        after = before
        for part in parts(treatment):
            after = _changed(after, part)
    except (OSError, UnicodeDecodeError, SyntaxError):
        return ""
    if after == before:
        return ""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return "".join(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=1))


def _changed(text: str, treatment: Treatment) -> str:
    """The text with one treatment; the same text where it is not clear how."""
    tree = ast.parse(text)
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_optimizer(node.func)]
    match treatment.kind:
        case "lr":
            return _rate(text, made, treatment.factor)
        case "zero_grad":
            return _before(text, tree, "backward", f"{_optimizer(tree, made)}.zero_grad()")
        case "clip":
            held = _held(text, made)
            call = f"torch.nn.utils.clip_grad_norm_({held}, {treatment.factor:g})"
            return _before(text, tree, "step", call, owner=_optimizer(tree, made)) if held else text
        case "activation" if treatment.target is None:
            return re.sub(r"\bnn\.(ReLU|Sigmoid|Tanh|ELU|GELU|SiLU)\(\)", f"nn.{treatment.value}()", text)
        case _:
            return text


def _is_optimizer(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax"}


def _rate(text: str, made: list[ast.Call], factor: float) -> str:
    """`lr=0.5` becomes `lr=0.05`, and `lr=config.lr` becomes `lr=0.1 * config.lr`."""
    if len(made) != 1:
        return text
    given = next((one.value for one in made[0].keywords if one.arg == "lr"), None)
    if given is None:
        return text
    if isinstance(given, ast.Constant) and isinstance(given.value, (int, float)):
        new = f"{given.value * factor:.6g}"
    else:
        simple = isinstance(given, (ast.Name, ast.Attribute, ast.Subscript, ast.Call))
        said = ast.get_source_segment(text, given)
        new = f"{factor:g} * {said if simple else f'({said})'}"
    return _replaced(text, given, new)


def _replaced(text: str, node: ast.expr, new: str) -> str:
    if node.end_lineno != node.lineno or node.end_col_offset is None:
        return text
    lines = text.splitlines(keepends=True)
    line = lines[node.lineno - 1].encode()
    lines[node.lineno - 1] = (line[: node.col_offset] + new.encode() + line[node.end_col_offset :]).decode()
    return "".join(lines)


def _optimizer(tree: ast.Module, made: list[ast.Call]) -> str:
    """What the only optimiser is called."""
    names = [
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and node.value in made and len(node.targets) == 1
    ]
    return names[0] if len(names) == len(made) == 1 else ""


def _held(text: str, made: list[ast.Call]) -> str:
    first = made[0].args[0] if len(made) == 1 and made[0].args else None
    found = ast.get_source_segment(text, first) if isinstance(first, ast.Call) else None
    return found or ""


def _before(text: str, tree: ast.Module, method: str, line: str, owner: str = "") -> str:
    """Put a line before the only statement that calls a method; nothing where there are none or several."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == method
        and (not owner or ast.unparse(node.value.func.value) == owner)
    ]
    if len(found) != 1 or line.startswith("."):
        return text
    lines = text.splitlines(keepends=True)
    at = found[0].lineno - 1
    if lines[at][: found[0].col_offset].strip():  # not alone on its line
        return text
    lines.insert(at, f"{lines[at][: found[0].col_offset]}{line}\n")
    return "".join(lines)
