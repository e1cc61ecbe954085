import json
import math
import os
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.errors import RecordingError
from unstuck.trace import storage
from unstuck.trace.csvform import load_any, read_csv
from unstuck.trace.meta import Meta
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.recording import Recording
from unstuck.trace.structure import Location, Node, Structure

STRUCTURE = Structure(
    nodes=(
        Node(
            "conv",
            "Conv2d",
            ("input",),
            (2, 3, 3),
            {"weight": (2, 1, 3, 3)},
            {"padding": 1},
            location=Location("a.py", 3),
        ),
        Node("act", "ReLU", ("conv",), (2, 3, 3)),
    ),
    loss="MSELoss",
    input_shape=(1, 3, 3),
)
META = Meta(
    kind="engine", name="x", loss="MSELoss", optimizer="SGD", optimizer_options={"lr": 0.5}, n_classes=2
)


def rows(recording):
    """Comparable rows: NaN as text, so that it equals itself; -0.0 apart from 0.0."""
    return [
        (part.quantity, part.layer, int(step), None if null else repr(float(value)))
        for part in recording.rows()
        for step, value, null in zip(part.steps, part.values, part.null, strict=True)
    ]


def sample(scale=1.0):
    recording = Recording(STRUCTURE, META)
    for step in range(5):
        recording.add_row(step, "", {"loss": scale / (1 + step), "lr": 0.5})
        recording.add_row(step, "conv", {"weight_norm": scale, "update_ratio": None, "grad_norm": math.nan})
    recording.add(4, "conv", "drift", -math.inf)
    return recording


@pytest.fixture
def folder(tmp_path):
    sample().save(tmp_path / "run")
    return tmp_path / "run"


ROW = st.tuples(
    st.integers(0, 2**40),
    st.sampled_from(["", "conv", "conv.bias", "b'; DROP", "Schicht-ä\n€", "0"]),
    st.sampled_from(sorted(QUANTITIES)),
    st.none() | st.floats(),
)


@given(st.lists(ROW, max_size=40))
@settings(max_examples=25, deadline=None)
def test_a_loaded_recording_has_the_same_rows(added):
    recording = Recording(STRUCTURE, META)
    for row in added:
        recording.add(*row)
    with tempfile.TemporaryDirectory() as parent:
        recording.save(parent)
        loaded = Recording.load(parent)
    assert rows(loaded) == rows(recording)
    assert loaded.structure == recording.structure
    assert loaded.meta == recording.meta
    assert loaded.steps == recording.steps
    for quantity in QUANTITIES:
        assert loaded.layers(quantity) == recording.layers(quantity)


def test_several_parts_make_one_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "ROWS_PER_PART", 7)
    sample().save(tmp_path)
    assert len(list((tmp_path / "trace").iterdir())) == 3
    assert rows(Recording.load(tmp_path)) == rows(sample())


def test_a_growing_recording_is_stored_part_by_part(folder):
    recording, appender = Recording(), storage.Appender(folder)
    for step in range(6):
        recording.add(step, "fc", "grad_norm", None if step == 3 else math.nan if step == 4 else float(step))
        if step == 2:
            recording.structure = Structure(nodes=(Node(name="fc", type="Linear", inputs=("input",)),))
            recording.add(0, "", "loss", 1.0)  # a row of an earlier step that came late
        appender.append(recording.stored())
        stored = Recording.load(folder)
        assert stored.steps == step + 1
        assert stored.structure == recording.structure
        assert str([list(map(str, rows)) for rows in stored.rows()]) == str(
            [list(map(str, rows)) for rows in recording.rows()]
        )
    assert len(list((folder / "trace").iterdir())) == 6
    appender.append(recording.stored())
    assert len(list((folder / "trace").iterdir())) == 6  # nothing new, no part


@pytest.mark.parametrize("name", ["run[1]*?", "it's", "läufe"])
def test_any_folder_name_will_do(tmp_path, name):
    sample().save(tmp_path / name / "deep")
    assert rows(Recording.load(tmp_path / name / "deep")) == rows(sample())


def test_saving_again_replaces_all_and_leaves_nothing_behind(folder):
    other = sample(2.0)
    other.structure = Structure(nodes=STRUCTURE.nodes[:1])
    other.save(folder)
    assert rows(Recording.load(folder)) == rows(other)
    assert Recording.load(folder).structure == other.structure
    assert sorted(path.name for path in folder.iterdir()) == ["meta.json", "structure.json", "trace"]
    assert len(list((folder / "trace").iterdir())) == 1


def test_a_save_that_is_cut_off_anywhere_leaves_the_old_or_the_new_recording(tmp_path, monkeypatch):
    new = sample(2.0)
    new.structure = Structure(nodes=STRUCTURE.nodes[:1])
    whole = {True: (rows(sample()), STRUCTURE), False: (rows(new), new.structure)}
    seen = set()
    replace, unlink = Path.replace, Path.unlink
    for allowed in range(20):
        left = [allowed]

        def stop(call, left=left):
            def counted(*args, **kwargs):
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                return call(*args, **kwargs)

            return counted

        target = tmp_path / str(allowed)
        sample().save(target)
        monkeypatch.setattr(Path, "replace", stop(replace))
        monkeypatch.setattr(Path, "unlink", stop(unlink))
        try:
            new.save(target)
            finished = True
        except KeyboardInterrupt:
            finished = False
        monkeypatch.undo()
        loaded = Recording.load(target)
        old = loaded.series("loss").values[0] == 1.0
        assert (rows(loaded), loaded.structure) == whole[old]
        seen.add(old)
        if finished:
            break
    assert finished
    assert seen == {True, False}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordingError, match="file"):
        sample().save(tmp_path / "file")


@pytest.mark.parametrize("name", ["meta.json", "structure.json", "trace/part-00000.parquet"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(RecordingError, match=Path(name).name + ": not found"):
        Recording.load(folder)


@pytest.mark.parametrize("name", ["meta.json", "structure.json", "trace/part-00000.parquet"])
def test_a_truncated_file_is_named(folder, name):
    whole = (folder / name).read_bytes()
    for length in {0, 1, 4, len(whole) // 3, len(whole) // 2, len(whole) - 8, len(whole) - 2}:
        (folder / name).write_bytes(whole[:length])
        with pytest.raises(RecordingError, match=Path(name).name):
            Recording.load(folder)


@pytest.mark.parametrize("name", ["meta.json", "structure.json", "trace/part-00000.parquet"])
def test_a_file_of_something_else_is_named(folder, name):
    (folder / name).write_bytes(os.urandom(200))
    with pytest.raises(RecordingError, match=Path(name).name):
        Recording.load(folder)


def test_what_is_no_recording_is_said_to_be_none(tmp_path):
    with pytest.raises(RecordingError, match=r"meta\.json: not found; expected a recording"):
        Recording.load(tmp_path)
    with pytest.raises(RecordingError, match="nowhere: not found"):
        Recording.load(tmp_path / "nowhere")
    with pytest.raises(RecordingError, match="nowhere: not found"):
        load_any(tmp_path / "nowhere")
    (tmp_path / "a").write_text("")
    with pytest.raises(RecordingError, match="is a file"):
        Recording.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2.*schema 1"),
        ({"schema": "one"}, "schema"),
        ({"kind": "oven"}, "kind"),
        ({"colour": "red"}, "colour"),
        ({"parts": ["../part-00000.parquet"]}, r"'\.\./part-00000\.parquet'"),
        ({"structure": "/etc/passwd"}, "'/etc/passwd'"),
        ({"rows": 3}, "26 rows.*3"),
    ],
)
def test_a_wrong_meta_is_named(folder, change, message):
    meta = json.loads((folder / "meta.json").read_text()) | change
    (folder / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(RecordingError, match=message):
        Recording.load(folder)


def foreign(folder, select):
    """A recording as another program would write it: the least that the format asks for."""
    (folder / "trace").mkdir()
    (folder / "meta.json").write_text('{"schema": 1}')
    (folder / "structure.json").write_text("{}")
    duckdb.sql(f"COPY ({select}) TO '{folder}/trace/part-00000.parquet' (FORMAT parquet)")


def test_other_programs_can_write_it(tmp_path):
    foreign(
        tmp_path,
        "SELECT * FROM (VALUES (1::BIGINT, 'fc', 'drift', 0.5::DOUBLE), (0, 'fc', 'drift', NULL)) "
        "t(step, layer, quantity, value)",
    )
    loaded = Recording.load(tmp_path)
    assert loaded.steps == 2
    assert loaded.is_null("drift", "fc", 0)
    assert loaded.at("drift", "fc", 1) == 0.5


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("SELECT 0::BIGINT AS step, '' AS layer, 'lose' AS quantity, 1::DOUBLE AS value", "row 0.*'lose'"),
        ("SELECT -1::BIGINT AS step, '' AS layer, 'loss' AS quantity, 1::DOUBLE AS value", "row 0.*negative"),
        ("SELECT NULL::BIGINT AS step, '' AS layer, 'loss' AS quantity, 1::DOUBLE AS value", "row 0 lacks"),
        ("SELECT 0::BIGINT AS step, '' AS layer, 'loss' AS quantity", "'value' is missing, expected DOUBLE"),
        (
            "SELECT 0.5 AS step, '' AS layer, 'loss' AS quantity, 1::DOUBLE AS value",
            "'step' is of type DECIMAL.*BIGINT",
        ),
    ],
)
def test_wrong_rows_are_named(tmp_path, select, message):
    foreign(tmp_path, select)
    with pytest.raises(RecordingError, match=r"part-00000\.parquet.*" + message):
        Recording.load(tmp_path)


CSV = """step,layer,quantity,value
0,,loss,2.5
0,fc,weight_norm,1e-3
0,fc.bias,grad_norm,
1,,loss,nan
1,act,dead,inf
"""


def test_csv_is_read(tmp_path):
    (tmp_path / "run.csv").write_text(CSV, encoding="utf-8-sig")
    recording = load_any(tmp_path / "run.csv")
    assert recording.first("loss") == 2.5
    assert math.isnan(recording.last("loss"))
    assert recording.is_null("grad_norm", "fc.bias")
    assert recording.first("dead", "act") == math.inf
    assert recording.steps == 2
    assert recording.meta.kind == "arrays"
    assert [(node.name, node.inputs) for node in recording.structure.nodes] == [
        ("fc", ("input",)),
        ("act", ("fc",)),
    ]
    assert [node.name for node in recording.structure.layers] == ["fc"]


def test_a_folder_and_a_csv_are_told_apart(folder):
    assert rows(load_any(folder)) == rows(sample())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty.*header"),
        ("time,layer,quantity,value\n", "line 1.*time.*header"),
        (CSV + "2,,lose,1\n", "line 7.*'lose'"),
        (CSV + "2,,loss\n", "line 7: 3 fields"),
        (CSV + "\n2,,loss,much\n", "line 8.*'much'"),
        (CSV + "2,,loss,1_000\n", "line 7.*'1_000'"),
        (CSV + "-2,,loss,1\n", "line 7.*'-2'"),
        (CSV + "2.5,,loss,1\n", "line 7.*'2.5'"),
        (CSV + "99999999999999999999,,loss,1\n", "line 7.*whole number"),
        (CSV + '2,"fc,loss,1\n', "line 7"),
    ],
)
def test_wrong_csv_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / "run.csv").write_text(text)
    with pytest.raises(RecordingError, match=r"run\.csv.*" + message):
        read_csv(tmp_path / "run.csv")


def test_a_binary_file_is_no_csv(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(100) - 50)
    with pytest.raises(RecordingError, match=r"x\.npy"):
        read_csv(tmp_path / "x.npy")
