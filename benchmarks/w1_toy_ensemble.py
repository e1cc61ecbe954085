"""W1: R independent 1-8-2 networks, sigmoid, squared error, online on four points; updates a second.

    python benchmarks/w1_toy_ensemble.py [--sizes 1,100,10000,100000] [--threads 1] [--quick] [--only jax]
    python benchmarks/w1_toy_ensemble.py --growth        cost and memory from 1 to 100,000 members

All start from the same weights, each network with a learning rate of its own, and must have the same loss
after a few epochs. A turn is some epochs of all networks. `--growth` needs no peers.
"""

import argparse
import itertools
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import harness
import numpy as np

from unstuck import nn
from unstuck.nn.members.design import Design, design_of
from unstuck.nn.members.trainer import train_members
from unstuck.nn.population import Members

HIDDEN = 8
POINTS = np.array([[-1.0], [-1 / 3], [1 / 3], [1.0]], np.float32)
LABELS = np.array([1, 0, 0, 1])
TARGETS = np.eye(2, dtype=np.float32)[LABELS]
LOOKED_AT = 64
"""Members whose loss is compared."""
FLOPS = 2 * (8 + 16 + 16 + 34) + 3 * 10 + 10 * 20
"""Of one update: products forward, back and in the update; slopes; a sigmoid counted as twenty."""

Weights = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""w1 (R, 8), b1 (R, 8), w2 (R, 2, 8), b2 (R, 2), learning rates (R,)."""


def training(epochs: int = 1) -> nn.Training:
    """What the members have in common."""
    net = nn.Sequential(nn.Linear(1, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, 2), nn.Sigmoid())
    common: dict[str, Any] = {"batch_size": 1, "epochs": epochs, "shuffle": False}
    init = {"weights": {"scheme": "normal", "std": 1.0}, "bias": {"scheme": "normal", "std": 1.0}}
    return nn.Training(net, (POINTS, LABELS), nn.MSELoss(), nn.SGD(0.5), **common, init=init)


def rates(members: int) -> np.ndarray:
    """A learning rate for each, from 0.1 to 4."""
    return np.geomspace(0.1, 4.0, members)


def start(members: int) -> tuple[np.ndarray, Weights]:
    """The weights of all networks: as rows of ours, and by layer."""
    common = training()
    rows = Members(common, np.arange(members, dtype=np.uint64), {}).draw(0, members)
    views = common.layout.views(rows)
    lr = rates(members).astype(np.float32)
    weights = (views["0.weight"][:, :, 0], views["0.bias"], views["2.weight"], views["2.bias"], lr)
    return rows, tuple(np.array(value) for value in weights)  # pyright: ignore[reportReturnType]


def loss_of(w1: Any, b1: Any, w2: Any, b2: Any) -> float:
    """Mean squared error of the first members, in float64."""
    w1, b1, w2, b2 = (np.asarray(value, np.float64)[:LOOKED_AT] for value in (w1, b1, w2, b2))
    total = 0.0
    for x, t in zip(POINTS[:, 0], TARGETS, strict=True):
        h = 1 / (1 + np.exp(-(w1 * x + b1)))
        y = 1 / (1 + np.exp(-(np.einsum("rkj,rj->rk", w2, h) + b2)))
        total += float(np.mean((y - t) ** 2))
    return total / len(POINTS)


def ours(members: int, threads: int) -> harness.Program:
    """Lanes of members."""
    rows, weights = start(members)
    numbers = np.stack([rates(members), np.zeros(members), np.zeros(members)], axis=1)
    seeds = np.arange(members, dtype=np.uint64)
    cuts = np.linspace(0, members, min(threads, members) + 1).astype(int)
    pool = ThreadPoolExecutor(threads)
    del weights

    def run(epochs: int) -> None:
        common = training(epochs)
        design = design_of(common)
        assert isinstance(design, Design)  # noqa: S101  what lanes of members are for

        def part(first: int, last: int) -> None:
            for i in range(first, last, 4096):
                some = slice(i, min(i + 4096, last))
                signal = np.zeros(2, np.int64)
                train_members(common, design, rows[some], numbers[some], seeds[some], epochs, signal)

        if threads == 1:
            part(0, members)
        else:
            list(pool.map(part, cuts[:-1], cuts[1:]))

    def loss() -> float:
        views = training().layout.views(rows)
        return loss_of(views["0.weight"][:, :, 0], views["0.bias"], views["2.weight"], views["2.bias"])

    return harness.Program("ours", run, loss, 4 * members)


def numpy_chunks(members: int, threads: int) -> harness.Program | None:
    """NumPy, members last, in chunks that stay in the cache."""
    if threads > 1:
        return None
    _, (w1, b1, w2, b2, lr) = start(members)
    chunks = [
        [
            np.ascontiguousarray(value)
            for value in (w1[i].T, b1[i].T, w2[i].transpose(1, 2, 0), b2[i].T, lr[i])
        ]
        for i in (slice(first, first + 512) for first in range(0, members, 512))
    ]

    def run(epochs: int) -> None:
        for (p1, q1, p2, q2, step), _ in itertools.product(chunks, range(epochs)):
            for x, t in zip(POINTS[:, 0], TARGETS, strict=True):
                h = 1 / (1 + np.exp(-(p1 * x + q1)))
                y = 1 / (1 + np.exp(-((p2 * h).sum(1) + q2)))
                d2 = (y - t[:, None]) * (y - y * y) * step
                d1 = (p2 * d2[:, None]).sum(0) * (h - h * h)
                for values, change in ((p1, d1 * x), (q1, d1), (p2, d2[:, None] * h), (q2, d2)):
                    np.subtract(values, change, out=values)

    def loss() -> float:
        p1, q1, p2, q2, _ = chunks[0]
        return loss_of(p1.T, q1.T, p2.transpose(2, 0, 1), q2.T)

    return harness.Program("", run, loss, 4 * members)


def jax_chunks(members: int, threads: int) -> harness.Program | None:
    """JAX at its best: our layout, gradient by hand, chunks of 128 that run all epochs in the cache."""
    import jax
    import jax.numpy as jnp

    if threads > 1:
        return None
    size = min(128, members)
    count = -(-members // size)
    _, weights = start(members)

    def cut(value: np.ndarray) -> Any:
        padded = np.concatenate([value, value[: count * size - members]])
        return jnp.array(np.moveaxis(padded.reshape(count, size, *value.shape[1:]), 1, -1))

    *state, lr = (cut(value) for value in weights)

    def epoch(params: Any, step: Any) -> Any:
        w1, b1, w2, b2 = params
        for x, t in zip(POINTS[:, 0], TARGETS, strict=True):
            h = jax.nn.sigmoid(w1 * x + b1)
            y = jax.nn.sigmoid((w2 * h).sum(1) + b2)
            d2 = (y - t[:, None]) * (y - y * y) * step
            d1 = (w2 * d2[:, None]).sum(0) * (h - h * h)
            w1, b1, w2, b2 = w1 - d1 * x, b1 - d1, w2 - d2[:, None] * h, b2 - d2
        return w1, b1, w2, b2

    @jax.jit
    def train(params: Any, epochs: int) -> Any:
        def chunk(inputs: Any) -> Any:
            own, step = inputs
            return jax.lax.fori_loop(0, epochs, lambda _, now: epoch(now, step), own)

        return jax.lax.map(chunk, (params, lr))

    return _jax(train, tuple(state), members, lambda value: np.moveaxis(np.asarray(value)[0], -1, 0))


def jax_vmap(members: int, threads: int) -> harness.Program | None:
    """JAX as one would write it: vmap of grad, jit over all epochs."""
    import jax
    import jax.numpy as jnp

    if threads > 1:
        return None
    _, weights = start(members)
    *state, lr = (jnp.array(value) for value in weights)

    def loss(params: Any, x: Any, t: Any) -> Any:
        w1, b1, w2, b2 = params
        return ((jax.nn.sigmoid((w2 * jax.nn.sigmoid(w1 * x + b1)).sum(-1) + b2) - t) ** 2).mean()

    def epoch(params: Any, step: Any) -> Any:
        for x, t in zip(POINTS[:, 0], TARGETS, strict=True):
            gradients = jax.grad(loss)(params, x, t)
            params = tuple(p - step * g for p, g in zip(params, gradients, strict=True))
        return params

    many = jax.vmap(epoch)

    @jax.jit
    def train(params: Any, epochs: int) -> Any:
        return jax.lax.fori_loop(0, epochs, lambda _, now: many(now, lr), params)

    return _jax(train, tuple(state), members, np.asarray)


def _jax(
    train: Callable[[Any, int], Any], state: Any, members: int, by_member: Callable[[Any], np.ndarray]
) -> harness.Program:
    import jax

    now = [state]

    def run(epochs: int) -> None:
        now[0] = jax.block_until_ready(train(now[0], epochs))

    return harness.Program("", run, lambda: loss_of(*(by_member(value) for value in now[0])), 4 * members)


def torch_batched(members: int, threads: int) -> harness.Program:
    """PyTorch: all networks in one batched product, autograd."""
    import torch

    torch.set_num_threads(threads)
    _, (w1, b1, w2, b2, lr) = start(members)
    state = [
        torch.tensor(value).requires_grad_() for value in (w1[:, :, None], b1[:, :, None], w2, b2[:, :, None])
    ]
    step = torch.tensor(lr)[:, None, None]
    targets = torch.tensor(TARGETS)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for x, t in zip(POINTS[:, 0].tolist(), targets, strict=True):
                p1, q1, p2, q2 = state
                y = torch.sigmoid(torch.baddbmm(q2, p2, torch.sigmoid(p1 * x + q1)))
                gradients = torch.autograd.grad(((y - t[:, None]) ** 2).sum() / 2, state)
                with torch.no_grad():
                    for p, g in zip(state, gradients, strict=True):
                        p.addcmul_(step, g, value=-1)

    def loss() -> float:
        p1, q1, p2, q2 = (value.detach().numpy() for value in state)
        return loss_of(p1[:, :, 0], q1[:, :, 0], p2, q2[:, :, 0])

    return harness.Program("", run, loss, 4 * members)


def torch_vmap(members: int, threads: int) -> harness.Program:
    """PyTorch: torch.func, vmap of grad."""
    import torch

    torch.set_num_threads(threads)
    _, (w1, b1, w2, b2, lr) = start(members)
    state = [torch.tensor(value) for value in (w1, b1, w2, b2)]
    step = torch.tensor(lr)
    steps = (step[:, None], step[:, None], step[:, None, None], step[:, None])
    targets = torch.tensor(TARGETS)

    def one(params: Any, x: Any, t: Any) -> Any:
        p1, q1, p2, q2 = params
        return ((torch.sigmoid(p2 @ torch.sigmoid(p1 * x + q1) + q2) - t) ** 2).sum() / 2

    gradient = torch.func.vmap(torch.func.grad(one), in_dims=((0, 0, 0, 0), None, None))

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for x, t in zip(POINTS[:, 0].tolist(), targets, strict=True):
                for p, g, size in zip(state, gradient(tuple(state), x, t), steps, strict=True):
                    p.addcmul_(size, g, value=-1)

    return harness.Program("", run, lambda: loss_of(*(value.numpy() for value in state)), 4 * members)


def torch_eager(members: int, threads: int) -> harness.Program | None:
    """PyTorch as in its tutorials: a module, an optimiser, one network."""
    import torch

    if members > 1:
        return None
    torch.set_num_threads(threads)
    _, (w1, b1, w2, b2, lr) = start(1)
    layers = torch.nn.Linear(1, HIDDEN), torch.nn.Linear(HIDDEN, 2)
    model = torch.nn.Sequential(layers[0], torch.nn.Sigmoid(), layers[1], torch.nn.Sigmoid())
    with torch.no_grad():
        for layer, weight, bias in zip(layers, (w1[0][:, None], w2[0]), (b1[0], b2[0]), strict=True):
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=float(lr[0])), torch.nn.MSELoss()
    inputs, targets = torch.tensor(POINTS), torch.tensor(TARGETS)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for x, t in zip(inputs, targets, strict=True):
                optimizer.zero_grad()
                criterion(model(x), t).backward()
                optimizer.step()

    def loss() -> float:
        values = [value.detach().numpy()[None] for value in model.parameters()]
        return loss_of(values[0][:, :, 0], *values[1:])

    return harness.Program("", run, loss, 4)


PROGRAMS: dict[str, Callable[..., harness.Program | None]] = {
    "ours": ours,
    "jax, by hand, chunks of 128": jax_chunks,
    "jax, vmap of grad": jax_vmap,
    "numpy, members last": numpy_chunks,
    "torch, baddbmm": torch_batched,
    "torch.func.vmap": torch_vmap,
    "torch, one by one": torch_eager,
}


def growth() -> None:
    """Cost and memory from 1 to 100,000 members, through the public interface."""
    print("| members | CPU s for 1000 epochs | per member, µs | peak memory, MiB |\n|---|---|---|---|")
    nn.fit(**_fit(1, 10))
    for members in (1, 4, 16, 32, 100, 1000, 10_000, 100_000):
        begin = time.process_time()
        nn.fit(**_fit(members, 1000))
        spent = time.process_time() - begin
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {members} | {spent:.4f} | {spent / members * 1e6:.1f} | {memory:.0f} |", flush=True)


def _fit(members: int, epochs: int) -> dict[str, Any]:
    common = training(epochs)
    return {
        "net": common.network, "data": common.data, "loss": common.loss, "optimizer": common.optimizer,
        "batch_size": 1, "epochs": epochs, "shuffle": False, "init": common.init, "seeds": range(members),
        "vary": {"lr": rates(members)},
    }  # fmt: skip


def main() -> None:
    """Compare at each size."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--growth", action="store_true")
    if parser.parse_known_args()[0].growth:
        growth()
        return
    chosen = harness.options(__doc__ or "", "1,100,10000,100000")
    peak = harness.peak()
    for size in chosen.sizes.split(","):
        print(f"R = {size}", flush=True)
        programs = harness.collect(PROGRAMS, chosen.only, int(size), chosen.threads)
        harness.check(programs)
        harness.compare(programs, quick=chosen.quick)
        print(harness.table(f"R = {size}, {chosen.threads} threads", programs, FLOPS, peak), "\n", flush=True)


if __name__ == "__main__":
    main()
