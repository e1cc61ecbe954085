"""W2: an ensemble of small convolutional networks, training: ours against JAX and PyTorch.

    python benchmarks/w2_cnn_ensemble.py [--quick] [--sizes 1,16,256] [--threads 1] [--only JAX]

Each network: 8 x 8 digits, 3 x 3 convolution of 8 channels, ReLU, 2 x 2 maxima, 3 x 3 convolution of 16
channels, ReLU, 10 outputs, cross entropy, batch 32, SGD with momentum 0.9. A size is a number of networks;
each has its own weights. All programs start from the same weights, see the same batches, and must have the
same loss. PyTorch one after another trains a single network, whatever the size.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv else "1"
os.environ["OMP_NUM_THREADS"] = THREADS  # before the libraries load
if THREADS == "1":
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np
from harness import Program, check, collect, compare, options, peak, table

from unstuck import nn

BATCH, BATCHES, LR, MOMENTUM = 32, 8, 0.01, 0.9
FLOPS = 2.0 * (2 * 64 * 9 * 8 + 3 * 16 * 16 * 72 + 3 * 2560)
KEYS = ("0.weight", "0.bias", "3.weight", "3.bias", "6.weight", "6.bias")


def data() -> tuple[np.ndarray, np.ndarray]:
    """The first digits that fill the batches, scaled to 0..1."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    count = BATCH * BATCHES
    return (digits.images[:count, None] / 16).astype(np.float32), digits.target[:count]


def network() -> nn.Sequential:
    """One of them."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def weights(size: int) -> dict[str, np.ndarray]:
    """(size, ...) of every parameter."""
    nets = [network().init(seed).parameters for seed in range(size)]
    return {key: np.stack([net[key] for net in nets]) for key in KEYS}


def ours(size: int, threads: int) -> Program:
    """The engine: the members one after another on each thread, in turns of the steps asked for."""
    from concurrent.futures import ThreadPoolExecutor

    from unstuck.nn.fit import start
    from unstuck.nn.runner import Runner
    from unstuck.nn.session import Session

    training = nn.Training(
        network(),
        data(),
        nn.CrossEntropyLoss(),
        nn.SGD(lr=LR, momentum=MOMENTUM),
        BATCH,
        10**7,
        shuffle=False,
    )
    runners = [Runner(training.program, training.layout, training.dtype) for _ in range(threads)]
    drawn = [start(training, seed) for seed in range(size)]
    sessions = [Session(training, s.seed, s.params, runners[i % threads]) for i, s in enumerate(drawn)]

    def several(thread: int, steps: int) -> None:
        for session in sessions[thread::threads]:
            session.advance(session.step + steps)

    pool = ThreadPoolExecutor(threads)

    def run(steps: int) -> None:
        list(pool.map(several, range(threads), [steps] * threads))

    return Program("", run, lambda: float(np.mean([s.full_loss() for s in sessions])), size * BATCH)


def torch_one(_size: int, threads: int) -> Program:
    """PyTorch as it is usually written, one network at a time."""
    import torch

    torch.set_num_threads(threads)
    model = network().init(0).to_torch()
    x, y = (torch.from_numpy(array) for array in data())
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    entropy, made = torch.nn.functional.cross_entropy, 0

    def run(steps: int) -> None:
        nonlocal made
        for _ in range(steps):
            inputs, targets = batches[made % BATCHES]
            optimizer.zero_grad()
            entropy(model(inputs), targets).backward()
            optimizer.step()
            made += 1

    def loss() -> float:
        with torch.no_grad():
            return float(entropy(model(x), y))

    return Program("", run, loss, BATCH)


def torch_together(kind: str) -> Callable[[int, int], Program]:
    """PyTorch, all networks at once: by grouped convolutions, or `torch.func.vmap` over gradients."""

    def make(size: int, threads: int) -> Program:
        import torch

        torch.set_num_threads(threads)
        F = torch.nn.functional
        params = [
            torch.from_numpy(value).requires_grad_(kind == "grouped") for value in weights(size).values()
        ]
        moving = [torch.zeros_like(value) for value in params]
        x, y = (torch.from_numpy(array) for array in data())
        batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
        made = 0

        def losses(p: list[Any], inputs: Any, targets: Any) -> Any:
            n = len(inputs)
            h = inputs.expand(n, size, 8, 8)
            h = F.conv2d(h, p[0].reshape(-1, 1, 3, 3), p[1].reshape(-1), padding=1, groups=size)
            h = F.max_pool2d(F.relu(h), 2)
            h = F.relu(F.conv2d(h, p[2].reshape(-1, 8, 3, 3), p[3].reshape(-1), padding=1, groups=size))
            z = torch.baddbmm(p[5][:, None], h.reshape(n, size, 256).transpose(0, 1), p[4].transpose(1, 2))
            return F.cross_entropy(z.reshape(-1, 10), targets.repeat(size), reduction="sum") / n

        def loss_of_one(p: list[Any], inputs: Any, targets: Any) -> Any:
            h = F.max_pool2d(F.relu(F.conv2d(inputs, p[0], p[1], padding=1)), 2)
            h = F.relu(F.conv2d(h, p[2], p[3], padding=1)).flatten(1)
            return F.cross_entropy(F.linear(h, p[4], p[5]), targets)

        mapped = torch.func.vmap(torch.func.grad(loss_of_one), (0, None, None))

        def run(steps: int) -> None:
            nonlocal made
            for _ in range(steps):
                batch = batches[made % BATCHES]
                if kind == "grouped":
                    gradients = torch.autograd.grad(losses(params, *batch), params)
                else:
                    gradients = mapped(params, *batch)
                with torch.no_grad():
                    torch._foreach_mul_(moving, MOMENTUM)
                    torch._foreach_add_(moving, list(gradients))
                    torch._foreach_add_(params, moving, alpha=-LR)
                made += 1

        def loss() -> float:
            with torch.no_grad():
                return float(losses(params, x, y)) / size

        return Program("", run, loss, size * BATCH)

    return make


def jax_way(kind: str) -> Callable[[int, int], Program | None]:
    """JAX: `vmap` over convolutions, or our own layout written by hand, one network after another."""

    def make(size: int, threads: int) -> Program | None:
        if threads != 1:  # it was told one thread when it started
            return None
        import jax
        import jax.numpy as jnp

        x, y = data()
        xs = jnp.array(x[:, 0]).reshape(BATCHES, BATCH, 8, 8)
        ys = jnp.array(y).reshape(BATCHES, BATCH)
        params = {key: jnp.array(value) for key, value in weights(size).items()}
        state = (params, {key: jnp.zeros_like(value) for key, value in params.items()})

        def entropy(z: Any, targets: Any) -> Any:
            return -jnp.take_along_axis(jax.nn.log_softmax(z), targets[:, None], 1).mean()

        def by_convolution(p: Any, inputs: Any, targets: Any) -> Any:
            def conv(h: Any, w: Any, b: Any) -> Any:
                return jax.nn.relu(jax.lax.conv(h, w, (1, 1), "SAME") + b[:, None, None])

            h = conv(inputs[:, None], p["0.weight"], p["0.bias"])
            h = conv(h.reshape(-1, 8, 4, 2, 4, 2).max((3, 5)), p["3.weight"], p["3.bias"])
            return entropy(h.reshape(-1, 256) @ p["6.weight"].T + p["6.bias"], targets)

        def samples_last(p: Any, inputs: Any, targets: Any) -> Any:
            def conv(h: Any, w: Any, b: Any) -> Any:
                channels, height, width, n = h.shape
                h = jnp.pad(h, ((0, 0), (1, 1), (1, 1), (0, 0)))
                parts = [h[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
                h = jnp.stack(parts, 1).reshape(9 * channels, -1)
                h = w.reshape(w.shape[0], -1) @ h + b[:, None]
                return jax.nn.relu(h).reshape(-1, height, width, n)

            h = conv(inputs.transpose(1, 2, 0)[None], p["0.weight"], p["0.bias"])
            h = conv(h.reshape(8, 4, 2, 4, 2, -1).max((2, 4)), p["3.weight"], p["3.bias"])
            return entropy((p["6.weight"] @ h.reshape(256, -1) + p["6.bias"][:, None]).T, targets)

        loss_of_one = by_convolution if kind == "vmap" else samples_last

        def step(number: Any, one: Any) -> Any:
            p, v = one
            g = jax.grad(loss_of_one)(p, xs[number % BATCHES], ys[number % BATCHES])
            v = {key: MOMENTUM * v[key] + g[key] for key in v}
            return {key: p[key] - LR * v[key] for key in p}, v

        @jax.jit
        def advance(first: Any, last: Any, state: Any) -> Any:
            if kind == "vmap":
                return jax.lax.fori_loop(
                    first, last, lambda i, s: jax.vmap(lambda one: step(i, one))(s), state
                )
            return jax.lax.map(lambda one: jax.lax.fori_loop(first, last, step, one), state)

        full = jax.jit(jax.vmap(loss_of_one, (0, None, None)))
        made = 0

        def run(steps: int) -> None:
            nonlocal made, state
            state = jax.block_until_ready(advance(made, made + steps, state))
            made += steps

        def loss() -> float:
            return float(full(state[0], xs.reshape(-1, 8, 8), ys.reshape(-1)).mean())

        return Program("", run, loss, size * BATCH)

    return make


MAKERS = {
    "ours": ours,
    "JAX, our layout by hand": jax_way("hand"),
    "JAX, vmap": jax_way("vmap"),
    "torch, grouped convolutions": torch_together("grouped"),
    "torch.func.vmap": torch_together("vmap"),
    "torch, one after another": torch_one,
}


def main() -> None:
    """One table for each size."""
    given = options(__doc__ or "", "1,16,256")
    for size in map(int, given.sizes.split(",")):
        programs = collect(MAKERS, given.only, size, given.threads)
        check([program for program in programs if size == 1 or "one after" not in program.name])
        compare(programs, quick=given.quick)
        print(table(f"W2 R={size}, threads {given.threads}", programs, FLOPS, peak()), "\n", flush=True)


if __name__ == "__main__":
    main()
