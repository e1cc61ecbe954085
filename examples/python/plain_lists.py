"""A training in plain Python lists, without NumPy, recorded step by step: all weights begin at one half.

python plain_lists.py recording && unstuck diagnose recording
"""

import math
import sys

import unstuck

RATE, UNITS = 0.1, 4
POINTS = [(0.0, 0.0), (0.3, 1.0), (0.6, 0.0), (1.0, 1.0)]


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def main(folder):
    w1, b1 = [[0.5] for _ in range(UNITS)], [0.5] * UNITS  # the mistake: all units are one and the same
    w2, b2 = [[0.5] * UNITS], [0.5]
    run = unstuck.Recording()
    run.meta.loss = "MSELoss"
    for step in range(400):
        x, t = POINTS[step % len(POINTS)]
        h = [sigmoid(w[0] * x + b) for w, b in zip(w1, b1, strict=True)]
        y = sum(w * a for w, a in zip(w2[0], h, strict=True)) + b2[0]
        delta = 2 * (y - t)
        back = [delta * w * a * (1 - a) for w, a in zip(w2[0], h, strict=True)]
        grads = {"hidden.weight": [[d * x] for d in back], "hidden.bias": back}
        grads |= {"out.weight": [[delta * a for a in h]], "out.bias": [delta]}
        params = {"hidden.weight": w1, "hidden.bias": b1, "out.weight": w2, "out.bias": b2}
        run.step(
            loss=(y - t) ** 2,
            params=params,
            grads=grads,
            activations={"sigmoid": [h], "out": [[y]]},
            lr=RATE,
            inputs=[[x]],
            targets=[[t]],
        )
        w1 = [[w[0] - RATE * d * x] for w, d in zip(w1, back, strict=True)]
        b1 = [b - RATE * d for b, d in zip(b1, back, strict=True)]
        w2 = [[w - RATE * delta * a for w, a in zip(w2[0], h, strict=True)]]
        b2 = [b2[0] - RATE * delta]
    run.close({"hidden.weight": w1, "hidden.bias": b1, "out.weight": w2, "out.bias": b2})
    run.save(folder)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "recording")
