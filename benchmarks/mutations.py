"""Small changes of a backward pass's source, each with the names that are true of it."""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mutant_programs import Fact, Program

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG, OPERAND = "activation-derivative-missing", "activation-derivative-wrong", "operand-forgotten"
AT_INPUT, AT_OUTPUT = "activation-derivative-at-input", "activation-derivative-at-output"
HELD, PATH, TURNED, TIME = "statistics-held-constant", "path-forgotten", "transposed", "time-not-carried"
MISTAKEN, SCALE, SHIFTED, OVER = "input-mistaken", "scale-forgotten", "shifted", "overwritten"
UPSTREAM, MASK, UNSCALED = "upstream-ignored", "dropout-mask-not-reused", "dropout-not-scaled"
PADDING, STRIDE, CHANNELS, FLIP = (
    "padding-ignored",
    "stride-ignored",
    "channels-swapped",
    "kernel-not-flipped",
)
NONE, SHAPE, ADDED, MIXED = "missing-gradient", "wrong-shape", "accumulated", "variance-mixed"
DIAGONAL, TWICE, UNDIVIDED = "softmax-diagonal-only", "softmax-twice", "pooling-not-divided"
TO_ALL, TO_FIRST, EARLY, STALE = "pooling-to-all", "pooling-to-first", "weights-updated-early", "stale-cache"
SLOPES = {MISSING, WRONG, AT_INPUT, AT_OUTPUT}
OTHERS = {MISTAKEN, SHIFTED, *SLOPES, STALE}
Make = Callable[[ast.AST], "ast.AST | list[ast.AST]"]


@dataclass(frozen=True)
class Mutation:
    """One change."""

    kind: str
    number: int
    """Of the node, in the tree's walk."""
    make: Make
    true: frozenset[str]
    """Names that are right."""
    may: frozenset[str]
    """Names that may be right, which the source alone does not tell."""

    def of(self, tree: ast.Module) -> tuple[ast.Module, str]:
        """The changed module, and the changed statement: before, and after."""
        made = copy.deepcopy(tree)
        nodes = list(ast.walk(made))
        parents = {id(child): node for node in nodes for child in ast.iter_child_nodes(node)}
        target = nodes[self.number]
        statement: ast.AST = target
        while not isinstance(statement, ast.stmt):
            statement = parents[id(statement)]
        before = ast.unparse(statement)
        new = self.make(target)
        _put(parents[id(target)], target, new)
        ast.fix_missing_locations(made)
        if statement is target:
            after = "; ".join(map(ast.unparse, new)) if isinstance(new, list) else ast.unparse(new)
        else:
            after = ast.unparse(statement)
        return made, f"{before}  ->  {after}"


def _put(parent: ast.AST, old: ast.AST, new: "ast.AST | list[ast.AST]") -> None:
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list) and any(item is old for item in value):
            at = next(k for k, item in enumerate(value) if item is old)
            value[at : at + 1] = new if isinstance(new, list) else [new]


class Finder:
    """All changes of a program's backward pass."""

    def __init__(self, program: Program) -> None:
        self.facts = program.facts
        self.nodes = list(ast.walk(program.tree))
        self.numbers = {id(node): number for number, node in enumerate(self.nodes)}
        self.parents = {id(child): node for node in self.nodes for child in ast.iter_child_nodes(node)}

    def fact(self, node: ast.AST) -> Fact:
        """What an expression was when the backward pass ran."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return Fact((), None)
        return self.facts.get(self.numbers[id(node)], Fact(None, None))

    def run(self) -> Iterator[Mutation]:
        """One after the other."""
        for number, node in enumerate(self.nodes):
            if isinstance(node, ast.stmt):
                yield from self._statement(number, node)
            elif number in self.facts:
                if not self._of_index(node):
                    yield from self._expression(number, node)
                yield from self._index(number, node)

    def _up(self, node: ast.AST) -> Iterator[ast.AST]:
        while (node := self.parents[id(node)]) and not isinstance(node, ast.stmt):
            yield node

    def _of_index(self, node: ast.AST) -> bool:
        """Whether it is part of an index, a shape or a number of turns."""
        calls = [up for up in self._up(node) if isinstance(up, ast.Call)]
        words = {
            "range",
            "zeros",
            "zeros_like",
            "empty",
            "arange",
            "reshape",
            "transpose",
            "pad",
            "sum",
            "mean",
        }
        below = {id(node), *(id(up) for up in self._up(node))}
        if any(isinstance(up, ast.Subscript) and id(up.slice) in below for up in self._up(node)):
            return True
        return any(
            _word(call) in words
            and any(id(a) in below for a in call.args[1:] or call.args)
            and not (_word(call) in {"sum", "mean"} and id(call.args[0]) in below)
            for call in calls
        )

    def _slope(self, node: ast.AST) -> bool:
        """Whether it is part of what looks like a derivative, or a mask."""
        top = node
        for up in self._up(node):
            fact = self.fact(up)
            if fact.carries or fact.shape is None:
                break
            top = up
        text = ast.unparse(top)
        return any(part in text for part in ("1 -", "1.0 -", ">", "<", "np.cosh", "slope", "mask", "act"))

    def _expression(  # noqa: PLR0912, PLR0915  (a list of changes)
        self, number: int, node: ast.AST
    ) -> Iterator[Mutation]:
        def make(kind: str, true: set[str], change: Make, may: set[str] = frozenset()) -> Mutation:  # type: ignore[assignment]
            return Mutation(kind, number, change, frozenset(true), frozenset(may))

        mine = self.fact(node)
        if isinstance(node, ast.BinOp):
            left, right = self.fact(node.left), self.fact(node.right)
            known = left.shape is not None and right.shape is not None
            slope = not mine.carries and self._slope(node)
            if isinstance(node.op, (ast.Mult, ast.Div)) and known:
                lost = (("left", right, left, node.left), ("right", left, right, node.right))
                for side, kept, gone, part in lost[isinstance(node.op, ast.Div) :]:
                    if isinstance(part, ast.BinOp) and isinstance(part.op, (ast.Mult, ast.Div)):
                        continue  # those are several factors
                    true, may = self._dropped(kept, gone, part, slope)
                    other = "right" if side == "left" else "left"
                    yield make("factor dropped", true, lambda n, o=other: getattr(n, o), may)
                if isinstance(node.op, ast.Div) and right.number:
                    true = {WRONG} if slope else {FACTOR, MEAN}
                    yield make("divided twice", true, lambda n: ast.BinOp(n, ast.Div(), n.right), {MIXED})
            if isinstance(node.op, (ast.Add, ast.Sub)) and known and (mine.shape or mine.carries):
                for side in ("left", "right"):
                    gone, kept = (node.right, left) if side == "right" else (node.left, right)
                    true = (
                        {WRONG, MISSING}
                        if slope
                        else {PATH, TIME, HELD} | ({UPSTREAM} if not kept.carries else set())
                    )
                    up = self.parents[id(node)]
                    if isinstance(up, ast.Assign) and ast.unparse(up.targets[0]) == ast.unparse(gone):
                        true |= {SUMMED, OVER}  # added up, but not by +=
                    may = {DIAGONAL, TWICE, OPERAND, FACTOR, MISTAKEN, NONE, WRONG, SUMMED}
                    yield make("summand dropped", true, lambda n, s=side: _signed(n, s), may)
                true = {WRONG} if slope else {SIGN}
                yield make("sign of a summand", true, _other_sign, {SIGN, WRONG, MISTAKEN})
            if isinstance(node.op, ast.Sub) and known and mine.shape:
                true = {WRONG, SIGN} if slope else {SIGN}
                yield make(
                    "difference turned", true, lambda n: ast.BinOp(n.right, ast.Sub(), n.left), {SIGN, WRONG}
                )
            if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
                true = {WRONG, MISTAKEN, OPERAND} if self._slope(node) else {MISTAKEN, OPERAND, WRONG}
                yield make("power dropped", true, lambda n: n.left, {HELD, FACTOR, SCALE})
            if isinstance(node.op, ast.MatMult) and left.shape == right.shape and left.shape is not None:
                swapped = {TURNED, MISTAKEN}
                yield make(
                    "product turned", swapped, lambda n: ast.BinOp(n.right, ast.MatMult(), n.left), {SHIFTED}
                )
        if (
            isinstance(node, ast.UnaryOp)
            and isinstance(node.op, ast.USub)
            and not isinstance(node.operand, ast.Constant)
        ):
            derived = self._slope(node) or "exp" in ast.unparse(self.parents[id(node)])
            yield make("minus dropped", {WRONG} if derived else {SIGN}, lambda n: n.operand, {SIGN, WRONG})
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and mine.shape is not None:
            turned = {ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.Lt, ast.LtE: ast.Gt}
            new = turned.get(type(node.ops[0]))
            if new is not None:
                yield make(
                    "comparison turned",
                    {WRONG},
                    lambda n: ast.Compare(n.left, [new()], n.comparators),
                    {MASK, MISSING, SUMMED, SHAPE},  # a test of shapes decides about sums
                )
        if mine.shape is not None and len(mine.shape) == 2 and mine.shape[0] == mine.shape[1] > 1:
            if isinstance(node, ast.Attribute) and node.attr == "T":
                yield make("transposition dropped", {TURNED}, lambda n: n.value, {MISTAKEN, SHIFTED})
            elif isinstance(self.parents[id(node)], (ast.BinOp, ast.Call, ast.Assign)):
                yield make(
                    "transposed",
                    {TURNED},
                    lambda n: ast.Attribute(n, "T", ast.Load()),
                    {MISTAKEN, SHIFTED, WRONG, SUMMED, OPERAND},
                )
        if isinstance(node, ast.Call):
            yield from self._call(number, node, mine)
        if isinstance(node, ast.Subscript) and "::-1" in ast.unparse(node.slice):
            yield make(
                "reversal dropped",
                {FLIP, SHIFTED, TIME, TURNED},
                lambda n: n.value,
                {CHANNELS, PADDING, MISTAKEN, NONE},
            )
        if isinstance(node, (ast.Name, ast.Subscript, ast.Attribute)) and mine.shape and not mine.number:
            yield from self._names(number, node, mine)

    def _dropped(self, kept: Fact, gone: Fact, part: ast.AST, slope: bool) -> tuple[set[str], set[str]]:
        may = {SCALE, OPERAND, MASK, UNSCALED, UNDIVIDED, DIAGONAL, MISTAKEN}
        if isinstance(part, ast.Constant) or (
            gone.number and not gone.carries and gone.value is not None and kept.shape
        ):
            return ({WRONG} if slope else {FACTOR, MEAN, UNDIVIDED}), may | {WRONG, SUMMED}
        if gone.carries:
            return {UPSTREAM}, {SCALE, OPERAND, MISTAKEN, SUMMED, NONE} if kept.carries else {MISSING, NONE}
        if slope or (not kept.carries and self._slope(part)):
            return {WRONG}, {MISSING, OPERAND, MISTAKEN, FACTOR, AT_INPUT, *may}
        if gone.mask:
            return {MISSING, MASK, UNSCALED, WRONG}, {TO_ALL, OPERAND}
        if self._slope(part):
            return {MISSING, WRONG}, {OPERAND, MASK, UNSCALED}
        return {OPERAND, SCALE}, {MISSING, WRONG, MASK, UNSCALED, DIAGONAL, HELD, MISTAKEN, TO_ALL, FACTOR}

    def _call(  # noqa: PLR0912  (a list of changes)
        self, number: int, node: ast.Call, mine: Fact
    ) -> Iterator[Mutation]:
        def make(kind: str, true: set[str], change: Make, may: set[str] = frozenset()) -> Mutation:  # type: ignore[assignment]
            return Mutation(kind, number, change, frozenset(true), frozenset(may))

        word = _word(node)
        axes = [k for k in node.keywords if k.arg == "axis"]
        if word in {"sum", "mean"} and mine.shape is not None:
            other = {"sum": "mean", "mean": "sum"}[word]
            true = {MEAN, FACTOR} if word == "sum" else {FACTOR, MEAN, HELD, MIXED, UNDIVIDED}
            yield make(
                f"{other} for {word}",
                true,
                lambda n: _called(n, other),
                {HELD, UNDIVIDED, WRONG, SUMMED, DIAGONAL},
            )
            whole = (
                node.func.value
                if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) != "np"
                else None
            )
            if axes and whole is not None:
                one = {"0": "0", "1": "(slice(None), 0)", "-1": "(..., 0)"}.get(ast.unparse(axes[0].value))
                if one is not None and not _keeps(node):
                    source = f"[{one.replace('slice(None)', ':').strip('()')}]"
                    yield make(
                        "first for sum",
                        {SUMMED, OVER},
                        lambda n: ast.parse(f"({ast.unparse(n.func.value)}){source}", mode="eval").body,
                        {NONE, HELD, FACTOR, UNDIVIDED},
                    )
                turned = {"0": 1, "1": 0, "-1": 0}.get(ast.unparse(axes[0].value))
                if turned is not None:
                    yield make(
                        "other axis",
                        {SUMMED, TURNED, SHAPE},
                        lambda n: _axis(n, turned),
                        {HELD, DIAGONAL, MIXED, WRONG, TWICE, UNDIVIDED},
                    )
            if _keeps(node):
                yield make(
                    "axis not kept",
                    {SUMMED, TURNED, SHAPE, HELD, WRONG, DIAGONAL},
                    _kept,
                    {TWICE, MIXED, MISTAKEN},
                )
        if word == "where" and len(node.args) == 3:
            for at in (1, 2):
                yield make(
                    "where dropped",
                    {MISSING, WRONG, MASK, TO_ALL},
                    lambda n, a=at: n.args[a],
                    {UNSCALED, OPERAND, NONE},
                )
        functions = {"tanh", "exp", "sqrt", "log", "sigmoid", "cosh", "square", "abs", "sign"}
        if word in functions and len(node.args) == 1:
            true = {WRONG, AT_INPUT, MISTAKEN, OPERAND} if not mine.carries else {OPERAND}
            yield make(
                "function dropped", true, lambda n: n.args[0], {FACTOR, MISSING, HELD, SCALE, AT_OUTPUT}
            )
        if word == "transpose" and mine.shape is not None and len(mine.shape) > 2:
            order = [ast.unparse(a) for a in node.args]
            if len(order) == len(mine.shape):
                for a in range(len(order)):
                    for b in range(a + 1, len(order)):
                        if mine.shape[a] == mine.shape[b] > 1:
                            yield make(
                                "axes exchanged",
                                {TURNED, CHANNELS, SHIFTED},
                                lambda n, a=a, b=b: _swapped(n, a, b),
                                {FLIP, MISTAKEN},
                            )
        if word == "einsum" and isinstance(node.args[0], ast.Constant):
            out = str(node.args[0].value).split("->")[-1]
            for a in range(len(out) - 1):
                if mine.shape is not None and mine.shape[a] == mine.shape[a + 1] > 1:
                    yield make(
                        "axes exchanged",
                        {TURNED, CHANNELS, SHIFTED},
                        lambda n, a=a: _lettered(n, a),
                        {FLIP, MISTAKEN},
                    )

    def _names(self, number: int, node: ast.AST, mine: Fact) -> Iterator[Mutation]:
        """Another array of its shape that the same function uses."""
        home = self._home(node)
        text = ast.unparse(node)
        if isinstance(node, ast.Attribute) and node.attr == "T":
            return
        others: dict[str, Fact] = {}
        for other in ast.walk(home):
            if isinstance(other, (ast.Name, ast.Subscript, ast.Attribute)) and id(other) in self.numbers:
                fact = self.fact(other)
                simple = isinstance(other, ast.Name) or isinstance(getattr(other, "value", None), ast.Name)
                if (
                    simple
                    and fact.shape == mine.shape
                    and fact.carries == mine.carries
                    and fact.tensor == mine.tensor
                ):
                    others.setdefault(ast.unparse(other), fact)
        for name, fact in others.items():
            if name == text or fact.value is None or mine.value is None or (fact.value == mine.value).all():
                continue
            if mine.carries:
                true, may = (
                    set(SLOPES) | {PATH, OPERAND, SCALE, MISTAKEN, TIME, HELD, SHIFTED, MASK, UNSCALED},
                    {FACTOR, DIAGONAL, TWICE, SIGN, NONE, UPSTREAM, TO_ALL, SUMMED},
                )
            else:
                true, may = set(OTHERS), {TURNED, FACTOR, TIME, TWICE, OPERAND, SCALE, HELD, CHANNELS, SIGN}
            if f"{text}.T" == name or text == f"{name}.T":
                true.add(TURNED)
            kind = (
                "another gradient" if mine.carries else "another weight" if mine.tensor else "another array"
            )
            source = ast.parse(name, mode="eval").body
            yield Mutation(
                kind, number, lambda _, s=source: copy.deepcopy(s), frozenset(true), frozenset(may)
            )

    def _home(self, node: ast.AST) -> ast.AST:
        while not isinstance(node, (ast.FunctionDef, ast.Lambda, ast.Module)):
            node = self.parents[id(node)]
        return node

    def _index(self, number: int, node: ast.AST) -> Iterator[Mutation]:
        """An index off by one, and bounds of a slice."""
        parent = self.parents[id(node)]
        if isinstance(parent, ast.Tuple):
            parent = self.parents[id(parent)]
        fact = self.fact(node)
        whole = fact.value is not None and fact.shape == () and fact.value.dtype.kind in "iu"
        home = parent.slice if isinstance(parent, ast.Subscript) else None
        if home is not None and whole and any(part is node for part in ast.walk(home)):
            true, may = (
                {SHIFTED, MISTAKEN},
                {TIME, CHANNELS, OVER, PADDING, STRIDE, SUMMED, PATH, NONE, TO_FIRST},
            )
            for by in (1, -1):
                op = ast.Add() if by > 0 else ast.Sub()
                yield Mutation(
                    "index off by one",
                    number,
                    lambda n, o=op: ast.BinOp(n, o, ast.Constant(1)),
                    frozenset(true),
                    frozenset(may),
                )
            if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
                yield Mutation("index off by one", number, lambda n: n.left, frozenset(true), frozenset(may))
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
                yield Mutation(
                    "stride dropped", number, lambda n: n.left, frozenset({STRIDE, SHIFTED}), frozenset(may)
                )

    def _statement(self, number: int, node: ast.stmt) -> Iterator[Mutation]:
        def make(kind: str, true: set[str], change: Make, may: set[str] = frozenset()) -> Mutation:  # type: ignore[assignment]
            return Mutation(kind, number, change, frozenset(true), frozenset(may))

        value = getattr(node, "value", None)
        if value is None or self.numbers[id(value)] not in self.facts:
            return
        if isinstance(node, ast.AugAssign):
            fact = self.fact(value)
            if isinstance(node.op, ast.Add):
                yield make(
                    "assigned",
                    {OVER, SUMMED, PATH, TIME},
                    lambda n: ast.Assign([n.target], n.value),
                    {NONE, HELD, SHIFTED},
                )
            if isinstance(node.op, (ast.Add, ast.Sub)):
                yield make(
                    "step left out", {PATH, NONE, TIME, HELD, SUMMED, OVER}, lambda _: ast.Pass(), {MISTAKEN}
                )
                new = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
                yield make("sign of a step", {SIGN}, lambda n: ast.AugAssign(n.target, new, n.value), {WRONG})
            elif isinstance(node.op, (ast.Mult, ast.Div)):
                true, may = self._dropped(Fact((2,), None, carries=True), fact, value, slope=False)
                yield make("step left out", true, lambda _: ast.Pass(), may)
        elif (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], (ast.Subscript, ast.Attribute))
            and ast.unparse(node.targets[0]) not in ast.unparse(node.value)
        ):
            yield make(
                "added up",
                {ADDED, SHAPE, OVER},
                lambda n: ast.AugAssign(n.targets[0], ast.Add(), n.value),
                {FACTOR},
            )
            if isinstance(node.value, ast.Constant):
                yield make("step left out", {MISSING, WRONG, MASK}, lambda _: ast.Pass(), {UNSCALED, TO_ALL})
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and self.fact(value).carries
        ):
            yield make(
                "sign of a step", {SIGN}, lambda n: ast.Assign(n.targets, ast.UnaryOp(ast.USub(), n.value))
            )


def _word(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _keeps(node: ast.Call) -> bool:
    return any(k.arg == "keepdims" for k in node.keywords)


def _signed(node: ast.BinOp, side: str) -> ast.expr:
    """One summand, with its sign."""
    if side == "right":
        return node.left
    return ast.UnaryOp(ast.USub(), node.right) if isinstance(node.op, ast.Sub) else node.right


def _other_sign(node: ast.BinOp) -> ast.expr:
    return ast.BinOp(node.left, ast.Add() if isinstance(node.op, ast.Sub) else ast.Sub(), node.right)


def _called(node: ast.Call, word: str) -> ast.Call:
    func = node.func
    new = (
        ast.Attribute(func.value, word, ast.Load())
        if isinstance(func, ast.Attribute)
        else ast.parse(f"np.{word}", mode="eval").body
    )
    return ast.Call(new, node.args, node.keywords)


def _axis(node: ast.Call, axis: int) -> ast.Call:
    return ast.Call(
        node.func,
        node.args,
        [ast.keyword("axis", ast.Constant(axis)) if k.arg == "axis" else k for k in node.keywords],
    )


def _kept(node: ast.Call) -> ast.Call:
    return ast.Call(node.func, node.args, [k for k in node.keywords if k.arg != "keepdims"])


def _swapped(node: ast.Call, a: int, b: int) -> ast.Call:
    args = list(node.args)
    args[a], args[b] = args[b], args[a]
    return ast.Call(node.func, args, node.keywords)


def _lettered(node: ast.Call, at: int) -> ast.Call:
    first, out = str(node.args[0].value).rsplit("->", 1)
    turned = out[:at] + out[at + 1] + out[at] + out[at + 2 :]
    return ast.Call(node.func, [ast.Constant(f"{first}->{turned}"), *node.args[1:]], node.keywords)
