"""What holds for the repository as a whole: its README, its imports, its shape."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

import unstuck
from unstuck.trace.csvform import load_any
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.storage import _StoredMeta
from unstuck.trace.structure import Structure

ROOT = Path(__file__).parent.parent
RECORDING = ROOT / "docs" / "recording.md"
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CODE = sorted(
    path for folder in ("src", "tests", "scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
NAMES_ONLY = [path for path in SOURCES if path.name == "__init__.py" and path.parent.name != "unstuck"]
HEAVY = {"numba", "llvmlite", "scipy", "sklearn", "duckdb", "torch", "keras", "tensorflow", "jax"}
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "__import__"}


def script(name):
    """A script of the repository as a module."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def relative(path):
    return path.relative_to(ROOT).as_posix()


def beyond_names(source):
    """Lines of a module that are neither its docstring, an import nor `__all__`."""
    body = ast.parse(source).body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return [
        node.lineno
        for node in body
        if not isinstance(node, ast.Import | ast.ImportFrom)
        and not (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    ]


def executes_data(source):
    """Lines of a module that can run what they read: pickles, eval, exec, NumPy's object arrays."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules, called, pickles = {name.name for name in names}, "", False
            case ast.ImportFrom(module=str(module)):
                modules, called, pickles = {module}, "", False
            case ast.Call(func=function, keywords=keywords):
                modules, called = set(), ast.unparse(function).removeprefix("builtins.")
                pickles = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in keywords)
            case _:
                continue
        if (
            pickles
            or called in UNSAFE_CALLS
            or {module.partition(".")[0] for module in modules} & UNSAFE_MODULES
        ):
            lines.append(node.lineno)
    return lines


def test_the_readme_has_the_two_commands():
    commands = script("readme").commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert commands["case"].endswith("unstuck case weights-barely-move")
    assert "-m pytest" in commands["tests"]


@pytest.mark.parametrize("blocks", [[], ["a"], ["a", "b\nc"], ["a", ""], ["a", "b", "c"]])
def test_commands_that_cannot_be_copied_as_one_line_are_refused(blocks):
    text = "\n".join(f"```sh\n{block}\n```" for block in blocks)
    with pytest.raises(ValueError, match=r"README\.md"):
        script("readme").commands(text)


def test_ci_runs_the_commands_of_the_readme():
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "scripts/readme.py case" in run
    assert "scripts/readme.py tests" in run


def test_the_example_of_the_readme_names_the_cause(tmp_path):
    example = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    result = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "INI001 zero-weights" in result.stdout


def test_the_tree_of_the_readme_names_every_module():
    tree = script("tree")
    block = tree.BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert block, "README.md has no tree"
    assert tree.problems(tree.parse(block[0]), ROOT) == [], "run: python scripts/tree.py --write"


def test_the_tree_is_completed_from_the_files(tmp_path):
    package = tmp_path / "src" / "unstuck"
    (package / "nn").mkdir(parents=True)
    (package / "nn" / "__init__.py").write_text('"""The engine."""\n')
    (package / "nn" / "loss.py").write_text('"""Losses.\n\nAnd more.\n"""\n')
    (package / "kept.py").write_text('"""Not this."""\n')
    (package / "bare.py").write_text("")
    tree = script("tree")
    entries = tree.parse("src/unstuck/\n  gone.py  was here\n  kept.py  what I wrote\n")
    assert tree.problems(entries, tmp_path) == [
        "missing: src/unstuck/bare.py",
        "missing: src/unstuck/nn/loss.py",
        "no such file: src/unstuck/gone.py",
    ]
    text = tree.render(tree.completed(entries, tmp_path))
    assert [line.split(maxsplit=1) for line in text.splitlines()] == [
        ["src/unstuck/"],
        ["kept.py", "what I wrote"],
        ["bare.py"],
        ["nn/", "The engine"],
        ["loss.py", "Losses"],
    ]
    assert tree.problems(tree.parse(text), tmp_path) == ["no description: src/unstuck/bare.py"]


def test_a_tree_that_is_indented_wrongly_is_refused():
    with pytest.raises(ValueError, match=r"deep\.py"):
        script("tree").parse("src/unstuck/\n    deep.py  too far right\n")


def test_the_recording_format_lists_every_quantity():
    docs = script("docs")
    table = docs.TABLE.search(RECORDING.read_text(encoding="utf-8"))
    assert table, "docs/recording.md has no table of quantities"
    assert table[0] == docs.quantities(QUANTITIES.values()), "run: python scripts/docs.py --quantities"


def test_the_examples_of_the_recording_format_are_read(tmp_path):
    blocks = re.findall(
        r"^```text\n(.*?)^```$", RECORDING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    structure = next(block for block in blocks if block.startswith('{"nodes"'))
    assert [node.units for node in msgspec.json.decode(structure, type=Structure).layers] == [4]
    file = tmp_path / "recording.csv"
    file.write_text(next(block for block in blocks if block.startswith("step,layer")), encoding="utf-8")
    assert load_any(file).last("weight_norm", "conv1") == 1.73


def test_the_recording_format_lists_every_key_of_meta_json():
    section = RECORDING.read_text(encoding="utf-8").split("## meta.json")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(_StoredMeta.__struct_fields__)


def test_rule_pages_are_copied_and_listed_by_title(tmp_path):
    docs = script("docs")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "dead.md").write_text("# ACT001 dead\n")
    (tmp_path / "pages" / "a.md").write_text("# INI001 zero\n")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "renamed.md").write_text("# an old page\n")
    docs.copy_rules(tmp_path / "pages", tmp_path / "rules")
    assert sorted(path.name for path in (tmp_path / "rules").iterdir()) == ["a.md", "dead.md", "index.md"]
    index = (tmp_path / "rules" / "index.md").read_text().splitlines()
    assert index[-2:] == ["* [ACT001 dead](dead.md)", "* [INI001 zero](a.md)"]
    (tmp_path / "pages" / "bad.md").write_text("no title\n")
    with pytest.raises(ValueError, match=r"bad\.md"):
        docs.copy_rules(tmp_path / "pages", tmp_path / "rules")


def test_importing_unstuck_loads_nothing_heavy():
    code = "import json, sys, unstuck; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stdout))
    assert "unstuck" in loaded
    assert loaded & HEAVY == set()


def test_the_version_is_the_packages():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert unstuck.__version__ == project["version"]


def test_the_changelog_knows_the_version():
    assert f"## [{unstuck.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CODE, ids=relative)
def test_no_file_is_longer_than_500_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", NAMES_ONLY, ids=relative)
def test_a_public_module_holds_names_only(path):
    assert beyond_names(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_nothing_that_is_read_is_executed(path):
    assert executes_data(path.read_text(encoding="utf-8")) == []


def test_more_than_names_is_seen():
    source = '"""Names."""\nfrom a import b\n__all__ = ["b"]\nc = 1\ndef d(): ...\nif b: import e\n'
    assert beyond_names(source) == [4, 5, 6]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import os, shelve",
        "eval('1')",
        "builtins.exec(text)",
        "np.load(file, allow_pickle=True)",
        "def f():\n    import pickle as p",
    ],
)
def test_code_that_executes_data_is_seen(source):
    assert executes_data(source)


@pytest.mark.parametrize("source", ["model.eval()", "re.compile('a')", "np.load(file, allow_pickle=False)"])
def test_code_that_only_looks_like_it_is_let_pass(source):
    assert not executes_data(source)
