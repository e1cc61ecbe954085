"""The sweep of study.toml, as `unstuck study` and as one would write it with the best peer of W1 (JAX).

    python benchmarks/study_sweep.py [--seeds 100] [--rounds 3] [--workers 2]

Each turn is a whole program from its start to the numbers by cell: 200 cells of so many networks 1-8-2, 2000
epochs of four points, in as many processes as `--workers`. The peer draws its own weights, so that both are
compared by the mean loss of each learning rate and activation, which must agree within four standard errors.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("study.toml")
KINDS = ("ReLU", "Sigmoid")
POINTS = np.array([0.0, 0.3, 0.6, 1.0], np.float32)
TARGETS = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
ORDERS = 5
CHUNK = 128


def peer(part: int, parts: int, seeds: int) -> None:
    """One process of the peer: its share of the members; prints (kind, lr, members, mean, variance)."""
    import jax
    import jax.numpy as jnp

    study = tomllib.loads(FILE.read_text(encoding="utf-8"))
    rates, epochs = study["factors"]["train.optimizer.lr"], study["study"]["epochs"]
    members = seeds * ORDERS // parts
    rng = np.random.default_rng(part)

    def train(kind: str, state: Any, lr: Any) -> Any:
        def hidden(z: Any) -> tuple[Any, Any]:
            h = jnp.maximum(z, 0) if kind == "ReLU" else jax.nn.sigmoid(z)
            return h, (z > 0).astype(z.dtype) if kind == "ReLU" else h - h * h

        def forward(params: Any, x: Any) -> Any:
            w1, b1, w2, b2 = params
            h, slope = hidden(w1 * x + b1)
            return h, slope, jax.nn.sigmoid((w2 * h).sum(1) + b2)

        def epoch(params: Any, step: Any) -> Any:
            for x, t in zip(POINTS, TARGETS, strict=True):
                w1, b1, w2, b2 = params
                h, slope, y = forward(params, x)
                d2 = (y - t[:, None]) * (y - y * y) * step
                d1 = (w2 * d2[:, None]).sum(0) * slope
                params = (w1 - d1 * x, b1 - d1, w2 - d2[:, None] * h, b2 - d2)
            return params

        def chunk(inputs: Any) -> Any:
            own, step = inputs
            end = jax.lax.fori_loop(0, epochs, lambda _, now: epoch(now, step), own)
            errors = [
                ((forward(end, x)[2] - t[:, None]) ** 2).mean(0) for x, t in zip(POINTS, TARGETS, strict=True)
            ]
            return sum(errors) / len(POINTS)

        return jax.lax.map(chunk, (state, lr))

    count = -(-members * len(rates) // CHUNK)
    lr = np.repeat(np.asarray(rates, np.float32), members)
    lr = np.pad(lr, (0, count * CHUNK - lr.size), mode="edge").reshape(count, CHUNK)
    shapes = ((8,), (8,), (2, 8), (2,))
    for kind in KINDS:
        state = tuple(rng.uniform(-1, 1, (count, *shape, CHUNK)).astype(np.float32) for shape in shapes)
        run = jax.jit(lambda state, lr, kind=kind: train(kind, state, lr))
        loss = np.asarray(run(state, lr), np.float64).ravel()[: members * len(rates)]
        for rate, own in zip(rates, loss.reshape(len(rates), members), strict=True):
            print(json.dumps([kind, rate, members, own.mean(), own.var()]))


def ours(seeds: int, workers: int) -> dict[tuple[str, float], list[tuple[int, float, float]]]:
    """The study's command; its rows are read by DuckDB."""
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.toml"
        text = FILE.read_text(encoding="utf-8").replace("seeds = 1000", f"seeds = {seeds}")
        path.write_text(text, encoding="utf-8")
        unstuck = [sys.executable, "-m", "unstuck", "study", str(path), "--out", folder]
        subprocess.run([*unstuck, "--workers", str(workers)], check=True, capture_output=True)
        rows = duckdb.sql(
            'SELECT "network.layers.1.type", "train.optimizer.lr", count(*), avg(loss), var_pop(loss) '
            "FROM read_parquet(?) GROUP BY ALL",
            params=[f"{folder}/big/shards/*.parquet"],
        ).fetchall()
    return {(kind, rate): [(n, mean, variance)] for kind, rate, n, mean, variance in rows}


def theirs(seeds: int, workers: int) -> dict[tuple[str, float], list[tuple[int, float, float]]]:
    """The peer's processes, one thread each."""
    # JAX has no switch for its threads; a process that may use one processor starts one
    processors = sorted(os.sched_getaffinity(0))

    def process(part: int) -> str:
        mine = {processors[part % len(processors)]}
        command = [sys.executable, __file__, "--part", str(part), "--workers", str(workers)]
        return subprocess.run(
            [*command, "--seeds", str(seeds)],
            check=True,
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, mine),
        ).stdout

    found: dict[tuple[str, float], list[tuple[int, float, float]]] = {}
    with ThreadPoolExecutor(workers) as pool:
        for line in "".join(pool.map(process, range(workers))).splitlines():
            kind, rate, *rest = json.loads(line)
            found.setdefault((kind, rate), []).append(tuple(rest))
    return found


def summary(parts: list[tuple[int, float, float]]) -> tuple[float, float]:
    """Mean loss of a cell and its standard error squared."""
    total = sum(n for n, _, _ in parts)
    mean = sum(n * one for n, one, _ in parts) / total
    square = sum(n * (variance + one**2) for n, one, variance in parts) / total
    return mean, (square - mean**2) / total


def main() -> None:
    """Both take turns; a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--part", type=int, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part is not None:
        peer(given.part, given.workers, given.seeds)
        return
    programs = {"unstuck study": ours, "JAX by hand": theirs}
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    losses: dict[str, dict[tuple[str, float], tuple[float, float]]] = {}
    for _ in range(given.rounds):
        for name, program in programs.items():
            wall, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            found = program(given.seeds, given.workers)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            turns[name].append((time.perf_counter() - wall, cpu))
            losses[name] = {cell: summary(parts) for cell, parts in found.items()}
    one, other = losses.values()
    far = max(abs(one[cell][0] - other[cell][0]) / (one[cell][1] + other[cell][1]) ** 0.5 for cell in one)
    if far > 4:
        raise SystemExit(f"mean losses differ by {far:.1f} standard errors: not the same sweep")
    updates = 200 * given.seeds * 2000 * 4
    print(f"{updates:.1e} updates, {given.workers} processes; mean losses within {far:.1f} standard errors\n")
    print("| program | wall s | CPU s | updates / wall s | ours is |\n|---|---|---|---|---|")
    first = statistics.median(wall for wall, _ in turns["unstuck study"])
    for name, taken in turns.items():
        wall, cpu = (statistics.median(turn[clock] for turn in taken) for clock in (0, 1))
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {updates / wall:.2e} | {wall / first:.2f} × |")


if __name__ == "__main__":
    main()
