"""A log of arrays: read as the recording that `Recording.step` makes, and refused where it is malformed."""

import numpy as np
import pytest

from unstuck import Recording
from unstuck.errors import RecordingError
from unstuck.trace.csvform import load_any


def written(name, array):
    array = np.asarray(array)
    sizes = " ".join(map(str, array.shape))
    return f"{name} {array.ndim} {sizes} {' '.join(repr(float(v)) for v in array.reshape(-1))}"


def test_a_log_gives_the_rows_of_step(tmp_path):
    rng = np.random.default_rng(0)
    run, lines, weights = (
        Recording(),
        ["unstuck-arrays 1", "# a comment", "loss MSELoss"],
        rng.normal(size=(3, 2)),
    )
    run.meta.loss = "MSELoss"
    for step in range(5):
        gradient, act, x = rng.normal(size=(3, 2)), rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
        run.step(
            loss=step + 0.5,
            lr=0.1,
            params={"w": weights},
            grads={"w": gradient},
            activations={"a": act},
            inputs=x,
        )
        lines += [
            "step",
            f"loss {step + 0.5}",
            "lr 0.1",
            written("param w", weights),
            written("grad w", gradient),
        ]
        lines += [written("activation a", act), written("inputs", x)]
        weights = weights - 0.1 * gradient
    run.close({"w": weights})
    lines += ["end", written("param w", weights)]
    path = tmp_path / "run.log"
    path.write_text("\n".join(lines), encoding="utf-8")
    read = load_any(path)
    assert read.structure == run.structure
    assert read.meta.complete
    assert read.steps == run.steps == 5
    for rows, expected in zip(read.rows(), run.rows(), strict=True):
        assert (rows.layer, rows.quantity) == (expected.layer, expected.quantity)
        np.testing.assert_allclose(rows.values, expected.values)


def test_operations_give_the_structure(tmp_path):
    path = tmp_path / "run.log"
    lines = [
        "unstuck-arrays 1",
        "op fc Linear",
        "op act Sigmoid",
        "step",
        written("param fc.weight", np.ones((2, 3))),
    ]
    path.write_text("\n".join([*lines, written("activation act", np.ones((4, 2)))]), encoding="utf-8")
    read = load_any(path)
    assert [(node.name, node.type, node.inputs) for node in read.structure.nodes] == [
        ("fc", "Linear", ("input",)),
        ("act", "Sigmoid", ("fc",)),
    ]
    assert not read.meta.complete  # no line `end`: it was cut off


BAD = {
    "unstuck-arrays 1x\nstep": "line 1: found 'unstuck-arrays 1x'",
    "unstuck-arrays 1\nstep\nparam w 1 2 1.0": "line 3: found 1 numbers, expected 2 for the shape (2,)",
    "unstuck-arrays 1\nstep\nparam w 1 1 zero": "line 3: found 'zero', expected a number",
    "unstuck-arrays 1\nstep\nparam w x": "line 3: found 'x', expected `DIMENSIONS",
    "unstuck-arrays 1\nparam w 1 1 0.0": "line 2: param: expected a line `step` before it",
    "unstuck-arrays 1\nstep\nweight w 1 1 0.0": "line 3: found 'weight', expected one of name",
    "unstuck-arrays 1\nstep\nparam w 1 1 0\nparam w 1 1 0": "line 4: param w: is there twice",
    "unstuck-arrays 1\ntask guessing\nstep": "task: found 'guessing'",
    "unstuck-arrays 1\n": "found no step",
    "unstuck-arrays 1\nstep\nparam w 1 1 0\nstep\nparam w 1 2 0 0\nstep": "w",
}


@pytest.mark.parametrize("text", BAD)
def test_a_malformed_log_is_refused(tmp_path, text):
    path = tmp_path / "run.log"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError) as caught:
        load_any(path)
    assert BAD[text] in str(caught.value)
    assert str(path) in str(caught.value)
