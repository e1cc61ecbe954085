"""Programs as source text, and what the parts of their backward pass are worth when it runs."""

import ast
import copy
import functools
import linecache
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from unstuck.gradcheck.tree import leaves

TESTS = Path(__file__).resolve().parent.parent / "tests"
LARGEST = 20_000
"""Values with more entries are known by their shape alone."""
SKIPPED = (ast.Call, ast.BinOp, ast.UnaryOp, ast.Attribute, ast.Subscript, ast.Name, ast.Compare, ast.IfExp)
Array = np.ndarray[Any, Any]
Builder = Callable[[str, np.random.Generator], tuple[Any, Any, Any, Any]]


@dataclass
class Fact:
    """The first value that a part of the backward pass had."""

    shape: tuple[int, ...] | None
    """None: it is no array and no number."""
    value: Array | None
    carries: bool = False
    """Whether it changes with dy."""
    tensor: bool = False
    """Whether it is a parameter."""

    @property
    def number(self) -> bool:
        """Whether it is a single number."""
        return self.shape is not None and int(np.prod(self.shape)) == 1

    @property
    def mask(self) -> bool:
        """Whether it has zeros and one other value."""
        values = np.unique(self.value) if self.value is not None else np.zeros(0)
        return self.shape not in {None, ()} and values.size == 2 and not values[0]


@dataclass
class Program:
    """One program of the tests without its slips."""

    module: str
    builder: str
    tree: ast.Module
    facts: dict[int, Fact]
    """What the backward pass alone computes, by the number of the node in the tree's walk."""

    def built(self, tree: ast.Module | None = None, name: str = "") -> tuple[Any, Any, Any, Any]:
        """Forward, backward, params and x, of this tree or of another one."""
        return built(tree or self.tree, self.builder, name or self.module)


class _WithoutSlips(ast.NodeTransformer):
    """Takes branches for a slip away."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if isinstance(node.left, ast.Name) and node.left.id == "slip" and len(node.ops) == 1:
            text = ast.unparse(node.comparators[0])
            held = ast.literal_eval(text) if _is_literal(text) else None
            if held is not None:
                same = held == "" if isinstance(held, str) else "" in held
                return ast.Constant(same == isinstance(node.ops[0], (ast.Eq, ast.In)))
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        test = _truth(node.test)
        return node if test is None else (node.body if test else node.orelse or ast.Pass())

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        test = _truth(node.test)
        return node if test is None else (node.body if test else node.orelse)


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except ValueError:
        return False
    return True


def _truth(test: ast.expr) -> bool | None:
    """Whether a test is always true or always false."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if isinstance(test, ast.BoolOp):
        parts = [_truth(part) for part in test.values]
        decisive = isinstance(test.op, ast.Or)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive
    return None


class _Watched(ast.NodeTransformer):
    """Wraps every expression so that its value is seen."""

    def __init__(self, numbers: dict[int, int]) -> None:
        self.numbers = numbers

    def visit(self, node: ast.AST) -> Any:
        number = self.numbers[id(node)]
        held = isinstance(node, SKIPPED) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        if isinstance(node, ast.JoinedStr):
            return node
        self.generic_visit(node)
        if not held:
            return node
        return ast.Call(ast.Name("__seen__", ast.Load()), [ast.Constant(number), node], [])


def built(tree: ast.Module, builder: str, name: str, **names: Any) -> tuple[Any, Any, Any, Any]:
    """Run a module and one of its builders."""
    text = ast.unparse(tree)
    file = f"<{name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = types.ModuleType(name)
    vars(module).update(names)
    exec(compile(text, file, "exec"), vars(module))  # noqa: S102  (the tests' own programs)
    return cast("Builder", getattr(module, builder))("", np.random.default_rng(0))


@functools.cache
def without_slips(module: str) -> ast.Module:
    """A module of the tests, as if it had no slips; its walk has the order that numbers are given in."""
    tree = _WithoutSlips().visit(ast.parse((TESTS / f"{module}.py").read_text()))
    return ast.parse(ast.unparse(ast.fix_missing_locations(tree)))


def program(module: str, builder: str) -> Program:
    """Read a program and watch its backward pass, with dy and with twice of it."""
    tree = without_slips(module)
    watched = copy.deepcopy(tree)
    numbers = {id(node): number for number, node in enumerate(ast.walk(watched))}
    watched = ast.fix_missing_locations(_Watched(numbers).visit(watched))
    seen: dict[str, dict[int, Fact]] = {}
    phase = ["building"]

    def note(number: int, value: Any) -> Any:
        if number not in (found := seen.setdefault(phase[0], {})):
            found[number] = _fact(value)
        return value

    forward, backward, params, x = built(watched, builder, f"watched {module}", __seen__=note)
    for times in (1.0, 2.0):
        phase[0] = "forward"
        y, cache = forward(params, x)
        phase[0] = f"backward {times}"
        dy = times * (
            np.random.default_rng(1).normal(size=np.shape(y)) if np.size(y) > 1 else np.ones(np.shape(y))
        )
        backward(params, cache, dy)
    once, twice = seen["backward 1.0"], seen["backward 2.0"]
    tensors = [np.asarray(part) for part in leaves(params).values()]
    facts = {number: fact for number, fact in once.items() if number not in seen["forward"]}
    for number, fact in facts.items():
        other = twice.get(number)
        if fact.value is not None and other is not None and other.value is not None:
            fact.carries = not np.array_equal(fact.value, other.value)
            alike = (t for t in tensors if t.shape == fact.shape)
            fact.tensor = any(np.array_equal(t, fact.value) for t in alike)
    return Program(module, builder, tree, facts)


def _fact(value: Any) -> Fact:
    if isinstance(value, (np.ndarray, int, float, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind in "fiub":
            return Fact(array.shape, array.copy() if array.size <= LARGEST else None)
    return Fact(None, None)
