"""A million samples, one pass, bounded memory: our rate beside a plain PyTorch loop's on the same stream.

The stream is made as it goes: 14x14 images of 100 classes, noisy copies of random patterns, a new class
every 1/100 of the stream at first, later all of them mixed. Both learn each chunk once, in batches of 32,
with 32 samples from a memory of 2000 beside each batch; the PyTorch loop has the same network from the
start, with all 100 outputs.

    python benchmarks/grow_stream.py                     a million samples
    python benchmarks/grow_stream.py --samples 50000     less
    python benchmarks/grow_stream.py --kill 10           also: killed ten times on the way, the same final
    network
"""

import argparse
import hashlib
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np
from numpy.typing import NDArray

from unstuck import CNNClassifier

CLASSES, CHUNK, MEMORY, BATCH, RATE, SIDE = 100, 2000, 2000, 32, 1e-3, 14
Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def chunk(number: int, chunks: int) -> Arrays:
    """The samples of one chunk: they depend on its number alone."""
    patterns = np.random.default_rng(0).integers(0, 256, (CLASSES, 7, 7)).repeat(2, 1).repeat(2, 2)
    rng = np.random.default_rng([1, number])
    met = min(CLASSES, 2 + 2 * CLASSES * number // chunks)
    y = rng.integers(max(0, met - 10) if met < CLASSES else 0, met, CHUNK)
    noisy = patterns[y] + rng.normal(0, 60, (CHUNK, SIDE, SIDE))
    return np.clip(noisy, 0, 255).astype(np.uint8), y


def stream(chunks: int, first: int = 0) -> Iterator[tuple[int, Arrays]]:
    """Chunks from one on."""
    for number in range(first, chunks):
        yield number, chunk(number, chunks)


def ours(chunks: int, folder: Path, every: int = 10) -> CNNClassifier:
    """Learn the stream from the newest checkpoint on."""
    clf = CNNClassifier(memory=MEMORY, epochs=1, batch_size=BATCH, learning_rate=RATE, random_state=0)
    found = sorted(folder.glob("at-*"))
    first = int(found[-1].name.removeprefix("at-")) if found else 0
    if found:
        clf = CNNClassifier.load(found[-1])
    for number, (x, y) in stream(chunks, first):
        clf.partial_fit(x, y)
        if (number + 1) % every == 0 or number + 1 == chunks:
            clf.save(folder / f"at-{number + 1:08d}")
            for old in sorted(folder.glob("at-*"))[:-1]:
                old.unlink()
    return clf


def torchs(chunks: int) -> float:
    """The same network and memory in a plain loop; its accuracy on a fresh chunk."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 9, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    )
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    rng = np.random.default_rng(2)
    kept, labels, seen = np.zeros((MEMORY, SIDE, SIDE), np.uint8), np.zeros(MEMORY, np.int64), 0
    for _, (x, y) in stream(chunks):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            part = order[start : start + BATCH]
            images, targets = x[part], y[part]
            if seen:
                old = rng.integers(0, min(seen, MEMORY), BATCH)
                images, targets = np.concatenate([images, kept[old]]), np.concatenate([targets, labels[old]])
            optimizer.zero_grad()
            scores = model(torch.from_numpy(images[:, None].astype(np.float32) / 255))
            nn.functional.cross_entropy(scores, torch.from_numpy(targets)).backward()
            optimizer.step()
        for one, label in zip(x, y, strict=True):  # a reservoir
            place = seen if seen < MEMORY else int(rng.integers(0, seen + 1))
            if place < MEMORY:
                kept[place], labels[place] = one, label
            seen += 1
    x, y = chunk(chunks, chunks)
    with torch.no_grad():
        guesses = model(torch.from_numpy(x[:, None].astype(np.float32) / 255)).argmax(1).numpy()
    return float((guesses == y).mean())


def _ours(chunks: int, folder: str, answer: Any) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    clf = ours(chunks, Path(folder))
    x, y = chunk(chunks, chunks)
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    answer.put((seconds, busy, clf.score(x, y), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def _torchs(chunks: int, answer: Any) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    right = torchs(chunks)
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    answer.put((seconds, busy, right, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measured(target: Any, *arguments: Any) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, accuracy and peak memory (MB) of a program in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    answer = fresh.Queue()
    process = fresh.Process(target=target, args=(*arguments, answer))
    process.start()
    told = answer.get()
    process.join()
    return told


def killed(chunks: int, folder: str, kills: int, seconds: float) -> int:
    """Run it, kill it at random moments, and let it end; how often it was killed."""
    fresh, pause, done = multiprocessing.get_context("spawn"), np.random.default_rng(3), 0
    while True:
        process = fresh.Process(target=ours, args=(chunks, Path(folder)))
        process.start()
        wait = 4 + pause.uniform(0.3, 1.2) * seconds / (kills + 1) if done < kills else None
        process.join(wait)
        if process.exitcode is not None:
            return done
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        done += 1


def digest(folder: str) -> str:
    """Of the newest checkpoint."""
    return hashlib.sha256(max(Path(folder).glob("at-*")).read_bytes()).hexdigest()[:16]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--kill", type=int, default=0, help="kill it so often on the way, in a second run")
    parser.add_argument("--torch", type=int, default=100_000, help="samples that the PyTorch loop learns")
    chosen = parser.parse_args()
    chunks = max(1, chosen.samples // CHUNK)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        print("| program | samples | samples / s | samples / CPU s | accuracy | peak memory, MB |")
        print("|---|---|---|---|---|---|")
        told = measured(_ours, chunks, one)
        _print("ours, grows", chunks, told)
        fewer = max(1, min(chosen.torch, chosen.samples) // CHUNK)
        if chosen.torch:
            _print("PyTorch, one thread", fewer, measured(_torchs, fewer))
        if chosen.kill:
            times = killed(chunks, other, chosen.kill, told[0])
            same = digest(one) == digest(other)
            print(
                f"\nkilled {times} times: {'the same' if same else 'ANOTHER'} final network ({digest(other)})"
            )
            return 0 if same else 1
    return 0


def _print(name: str, chunks: int, told: tuple[float, float, float, float]) -> None:
    seconds, busy, right, memory = told
    count = chunks * CHUNK
    print(
        f"| {name} | {count} | {count / seconds:.0f} | {count / busy:.0f} | {right:.1%} | {memory:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
