"""The change to make, as a diff of the user's own lines, where the text shows clearly where it belongs."""

import ast
import difflib
import re
from collections.abc import Collection
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
    optimizer = _optimizer(tree, made)
    match treatment.kind, treatment.value:
        case "lr", _:
            text = _rate(text, made, treatment.factor)
        case "zero_grad", _:
            text = _before(text, tree, "backward", f"{optimizer}.zero_grad()")
        case "clip", "":
            held = _held(text, made)
            call = f"torch.nn.utils.clip_grad_norm_({held}, {treatment.factor:g})"
            text = _before(text, tree, "step", call, owner=optimizer) if held else text
        case "clip", "off":
            text = _without(text, tree, ("clip_grad_norm_", "clip_grad_value_"))
        case "optimizer", "no_decay" if len(made) == 1:
            text = _argument(text, made, "weight_decay", "0")
        case "schedule", "constant":
            text = _without(text, tree, ("step",), owners=_schedulers(tree))
        case "dropout", share:
            text = _argument(text, _calls(tree, _DROPPING), "p", share, above=float(share))
        case "loss", "mean":
            text = _argument(text, _calls(tree, _LOSSES), "reduction", '"mean"', only="sum")
        case "activation", new if treatment.target is None:
            text = re.sub(r"\bnn\.(ReLU|Sigmoid|Tanh|ELU|GELU|SiLU)\(\)", f"nn.{new}()", text)
        case _:
            pass
    return text


def _is_optimizer(function: ast.expr) -> bool:
    return _name(function) in {
        "SGD",
        "Adam",
        "AdamW",
        "RMSprop",
        "Adagrad",
        "Adadelta",
        "NAdam",
        "RAdam",
        "Adamax",
    }


_DROPPING = frozenset({"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"})
_LOSSES = frozenset(
    {
        *("CrossEntropyLoss", "NLLLoss", "MSELoss", "L1Loss", "BCELoss", "BCEWithLogitsLoss"),
        *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "binary_cross_entropy"),
    }
)


def _calls(tree: ast.Module, names: Collection[str]) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in names]


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _argument(
    text: str, calls: list[ast.Call], name: str, new: str, *, above: float | None = None, only: str = ""
) -> str:
    """Give an argument of some calls another value, where they have it; the first one may have no name.

    Args:
        text: of the file.
        calls: in it.
        name: of the argument.
        new: its value, as it is written.
        above: only numbers above this are changed, and the first argument counts without its name.
        only: only this text is changed.
    """
    given: list[ast.expr] = []
    for call in calls:
        given += [one.value for one in call.keywords if one.arg == name]
        given += call.args[:1] if above is not None else []
    if above is not None:
        numbers = [one for one in given if isinstance(one, ast.Constant) and isinstance(one.value, float)]
        given = [one for one in numbers if isinstance(one.value, float) and one.value > above]
    if only:
        given = [one for one in given if isinstance(one, ast.Constant) and one.value == only]
    for one in sorted(given, key=lambda one: (one.lineno, one.col_offset), reverse=True):
        text = _replaced(text, one, new)
    return text


def _schedulers(tree: ast.Module) -> frozenset[str]:
    """What is made of `lr_scheduler.ANYTHING(...)`, by its names."""
    return frozenset(
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and "lr_scheduler" in ast.unparse(node.value.func)
    )


def _without(
    text: str, tree: ast.Module, methods: Collection[str], owners: Collection[str] | None = None
) -> str:
    """Leave out the only statement that calls one of some functions; nothing where it is not alone."""
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and _name(node.value.func) in methods
        and (owners is None or ast.unparse(getattr(node.value.func, "value", node.value.func)) in owners)
    ]
    bodies = [getattr(node, "body", None) for node in ast.walk(tree)]
    alone = any(isinstance(body, list) and len(body) == 1 and body[0] in found for body in bodies)
    if len(found) != 1 or alone or found[0].end_lineno is None:
        return text
    lines = text.splitlines(keepends=True)
    first, last = found[0].lineno - 1, found[0].end_lineno
    own = "".join(lines[first:last]).strip()
    if own != (ast.get_source_segment(text, found[0]) or ""):  # something else stands in its lines
        return text
    return "".join(lines[:first] + lines[last:])


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
