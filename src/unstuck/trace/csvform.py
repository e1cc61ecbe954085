"""A recording as plain text, for programs that write neither Parquet nor JSON.

The first line is `step,layer,quantity,value`; an empty value is null; an empty layer is the network as a
whole. Layers follow each other in the order in which they first appear.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from unstuck.errors import RecordingError
from unstuck.trace.arraylog import is_log, read_log
from unstuck.trace.grouping import BIAS
from unstuck.trace.meta import Meta
from unstuck.trace.quantities import QUANTITIES
from unstuck.trace.recording import Recording
from unstuck.trace.structure import INPUT, Node, Structure

HEADER = ["step", "layer", "quantity", "value"]
LARGEST_STEP = 2**62


def load_any(path: str | os.PathLike[str]) -> Recording:
    """Reads a recording from its folder, from a CSV file, or from a log of arrays.

    Raises:
        RecordingError: naming the file, what was found and what was expected.
    """
    place = Path(path)
    if place.is_dir():
        return Recording.load(place)
    if not place.exists():
        raise RecordingError(f"{place}: not found; expected a recording's folder or a CSV file")
    if is_log(place):
        return read_log(place)
    return read_csv(place)


def read_csv(path: str | os.PathLike[str]) -> Recording:
    """Reads `step,layer,quantity,value` lines; the structure is the chain of layers in order of appearance.

    Raises:
        RecordingError: naming the file and the line.
    """
    place = Path(path)
    recording = Recording(meta=Meta(kind="arrays", name=place.name, complete=True))
    weights: dict[str, bool] = {}
    try:
        with place.open(encoding="utf-8-sig", newline="") as file:
            for step, layer, quantity, value in _rows(place, csv.reader(file, strict=True)):
                recording.add(step, layer, quantity, value)
                if layer:
                    weights[layer] = weights.get(layer, False) or QUANTITIES[quantity].of == "weights"
    except OSError as error:
        raise RecordingError(f"{place}: cannot be read ({error})") from None
    except UnicodeDecodeError:
        raise RecordingError(
            f"{place}: not UTF-8 text; expected a CSV file with the header {HEADER}"
        ) from None
    recording.structure = _chain(weights)
    return recording


def _rows(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, str, str, float | None]]:
    """Parsed lines; the first must be the header. Empty lines are skipped."""
    line = 0
    try:
        for line, fields in enumerate(reader, start=1):
            if line == 1:
                if [field.strip() for field in fields] != HEADER:
                    raise RecordingError(
                        f"{path}, line 1: found {','.join(fields)[:80]!r}, "
                        f"expected the header {','.join(HEADER)!r}"
                    )
            elif fields:
                yield _row(f"{path}, line {line}", fields)
    except csv.Error as error:
        raise RecordingError(f"{path}, line {line + 1}: not CSV ({error})") from None
    if line == 0:
        raise RecordingError(f"{path}: empty, expected the header {','.join(HEADER)!r}")


def _row(where: str, fields: list[str]) -> tuple[int, str, str, float | None]:
    if len(fields) != len(HEADER):
        raise RecordingError(f"{where}: {len(fields)} fields, expected {len(HEADER)} ({','.join(HEADER)})")
    step_text, layer, quantity, value_text = (field.strip() for field in fields)
    if not (step_text.isascii() and step_text.isdigit()) or int(step_text) > LARGEST_STEP:
        raise RecordingError(f"{where}: step {step_text!r}, expected a whole number from 0")
    if quantity not in QUANTITIES:
        raise RecordingError(f"{where}: unknown quantity {quantity!r}")
    if not value_text:
        return int(step_text), layer, quantity, None
    try:
        # Python's own digit grouping (1_000) is no number elsewhere
        value = float(value_text.replace("_", "?"))
    except ValueError:
        raise RecordingError(
            f"{where}: value {value_text!r}, expected a number, or nothing for null"
        ) from None
    return int(step_text), layer, quantity, value


def _chain(weights: dict[str, bool]) -> Structure:
    """Layers one after another; a layer with weight measurements has weights of unknown shape."""
    nodes: list[Node] = []
    for layer, has_weights in weights.items():
        if layer.endswith(BIAS) and layer.removesuffix(BIAS) in weights:
            continue
        before = nodes[-1].name if nodes else INPUT
        own: dict[str, tuple[int, ...]] = {"weight": ()} if has_weights else {}
        nodes.append(
            Node(name=layer, type="Layer" if has_weights else "Output", inputs=(before,), parameters=own)
        )
    return Structure(nodes=tuple(nodes))
