"""Every statistic of `unstuck.trace.measure` once more, as plain loops over Python floats."""

import math

SAME = 1e-6


def flatten(values):
    if isinstance(values, (list, tuple)):
        return [x for value in values for x in flatten(value)]
    return [float(values)]


def mean(values):
    return math.fsum(values) / len(values)


def variance(values):
    moved = [x - values[0] for x in values]  # constant values have exactly none
    return math.fsum((x - mean(moved)) ** 2 for x in moved) / len(values)


def norm(values):
    return math.sqrt(math.fsum(x * x for x in flatten(values)))


def distance(a, b):
    return math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def cosine(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (norm(a) * norm(b))


def units(weight, bias=None):
    rows = [flatten(row) for row in weight]
    return rows if bias is None else [[*row, b] for row, b in zip(rows, bias, strict=True)]


def spread(rows):
    largest = max(norm(row) for row in rows)
    if len(rows) < 2 or largest == 0:
        return None
    return max(distance(row, rows[0]) for row in rows) / largest


def distinct_units(rows):
    found = []
    for row in rows:
        if all(distance(row, other) > SAME * max(norm(row), norm(other)) for other in found):
            found.append(row)
    return float(len(found))


def update_stats(before, after, start):
    def gap(a, b):
        return norm([x - y for x, y in zip(flatten(a), flatten(b), strict=True)])

    def over(part, whole):
        return None if whole == 0 else part / whole

    update, way = gap(after, before), gap(after, start)
    return {
        "update_norm": update,
        "update_ratio": over(update, norm(before)),
        "drift_norm": way,
        "drift": over(way, norm(start)),
    }


def columns(output):
    """One list per unit, over samples and positions, of nested lists (N, units) or (N, units, ...)."""
    return [[x for sample in output for x in flatten(sample[unit])] for unit in range(len(output[0]))]


def output_stats(output, kind):
    everything, samples, each = flatten(output), [flatten(sample) for sample in output], columns(output)
    values = {
        "act_mean": mean(everything),
        "act_rms": math.sqrt(mean([x * x for x in everything])),
        "act_std": math.sqrt(mean([variance(column) for column in each])),
        "act_variation": variation(samples),
        "input_cosine": mean_cosine(samples),
        "effective_rank": effective_rank(each),
        "distinct_outputs": distinct_outputs(each),
        "units": float(len(each)),
    }
    if kind == "ReLU":
        values["dead"] = sum(all(x == 0 for x in column) for column in each) / len(each)
        values["zero"] = sum(x == 0 for x in everything) / len(everything)
    if kind in {"Sigmoid", "Tanh"}:
        slopes = [x * (1 - x) / 0.25 if kind == "Sigmoid" else 1 - x**2 for x in everything]
        values["saturated"] = sum(slope < 0.05 for slope in slopes) / len(slopes)
        values["slope"] = mean([abs(slope) for slope in slopes])
    return values


def variation(samples):
    if len(samples) < 2:
        return None
    square = mean([x * x for x in flatten(samples)])
    moved = mean([variance(list(entry)) for entry in zip(*samples, strict=True)])
    return 0.0 if square == 0 else moved / square


def mean_cosine(samples):
    pairs = [
        cosine(a, b)
        for i, a in enumerate(samples)
        for j, b in enumerate(samples)
        if i != j and norm(a) > 0 and norm(b) > 0
    ]
    return mean(pairs) if pairs else None


def centred(columns_):
    return [[x - mean(column) for x in column] for column in columns_]


def distinct_outputs(columns_):
    if len(columns_[0]) < 2:
        return None
    found, constant = [], 0.0
    for raw, column in zip(columns_, centred(columns_), strict=True):
        if norm(column) <= SAME * norm(raw):
            constant = 1.0
        elif all(cosine(column, other) < 1 - SAME for other in found):
            found.append(column)
    return len(found) + constant


def effective_rank(columns_):
    if len(columns_[0]) < 2:
        return None
    moved = centred(columns_)
    if norm(moved) <= SAME * norm(columns_):
        return 0.0
    singular = singular_values(moved)
    shares = [value / sum(singular) for value in singular if value > 1e-9 * max(singular)]
    return math.exp(-sum(share * math.log(share) for share in shares))


def singular_values(vectors):
    """One-sided Jacobi (Hestenes): turn pairs of vectors until all are orthogonal; their norms remain."""
    vectors = [list(vector) for vector in vectors]
    for _ in range(60):
        for i in range(len(vectors)):
            for j in range(i):
                a, b = vectors[i], vectors[j]
                alpha, beta = norm(a) ** 2, norm(b) ** 2
                gamma = math.fsum(x * y for x, y in zip(a, b, strict=True))
                turn = math.atan2(2 * gamma, alpha - beta) / 2
                c, s = math.cos(turn), math.sin(turn)
                vectors[i] = [c * x + s * y for x, y in zip(a, b, strict=True)]
                vectors[j] = [c * y - s * x for x, y in zip(a, b, strict=True)]
    return [norm(vector) for vector in vectors]


def baseline_loss(loss, targets, n_classes, candidates=2001):
    """Best constant prediction by trying: classes by their shares, single outputs on a fine grid."""
    if loss == "CrossEntropyLoss":
        shares = [targets.count(c) / len(targets) for c in range(n_classes)]
        return mean([-math.log(shares[t]) for t in targets])
    rows = (
        [[float(t == c) for c in range(n_classes)] for t in targets]
        if n_classes > 1
        else [[t] for t in targets]
    )

    def cost(value, target):
        if loss == "MSELoss":
            return (value - target) ** 2
        return -(target * math.log(value) + (1 - target) * math.log(1 - value))

    grid = [(k + 0.5) / candidates for k in range(candidates)]
    return mean(
        [
            min(mean([cost(value, target) for target in column]) for value in grid)
            for column in zip(*rows, strict=True)
        ]
    )


def accuracy(scores, labels):
    return mean(
        [
            float(all(row[t] > x for c, x in enumerate(row) if c != t))
            for row, t in zip(scores, labels, strict=True)
        ]
    )
