"""Networks on pictures as strangers publish them: one picture at a time, a small U-net, squeeze and excitation.

Written and labelled before the check was run on any of them, and without a look at its code.
"""

import numpy as np
from scipy import signal

SIGN, FACTOR, MEAN, SUMMED = "sign-flipped", "factor", "mean-instead-of-sum", "not-summed"
MISSING, WRONG, AT_INPUT = (
    "activation-derivative-missing",
    "activation-derivative-wrong",
    "activation-derivative-at-input",
)
PATH, TURNED, OVER = "path-forgotten", "transposed", "overwritten"
MISTAKEN, OPERAND, FLIP = "input-mistaken", "operand-forgotten", "kernel-not-flipped"


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def digits(slip, rng):
    """One grey picture after the other through 3 x 3 filters, max pooling and softmax, each layer with its memory."""
    params = {
        "filters": rng.normal(size=(3, 3, 3)) * 0.4,
        "offsets": rng.normal(size=3) * 0.2,
        "weights": rng.normal(size=(27, 4)) * 0.4,
        "biases": rng.normal(size=4) * 0.2,
    }
    labels, learn_rate = [2, 0], 0.05

    class Conv3x3:
        def __init__(self, params):
            self.filters, self.offsets = params["filters"], params["offsets"]

        def iterate_regions(self, image):
            for i in range(image.shape[0] - 2):
                for j in range(image.shape[1] - 2):
                    yield image[i : i + 3, j : j + 3], i, j

        def forward(self, image):
            self.image = image
            h, w = image.shape
            output = np.zeros((h - 2, w - 2, len(self.filters)))
            for region, i, j in self.iterate_regions(image):
                output[i, j] = np.sum(region * self.filters, axis=(1, 2)) + self.offsets
            return output

        def backprop(self, d_out, grads):
            d_filters = np.zeros_like(self.filters)
            for region, i, j in self.iterate_regions(self.image):
                for f in range(len(self.filters)):
                    if slip == "filters assigned":
                        d_filters[f] = d_out[i, j, f] * region
                    else:
                        d_filters[f] += d_out[i, j, f] * region
            grads["filters"] += learn_rate * d_filters if slip == "rate inside" else d_filters
            if slip != "offsets never filled":
                grads["offsets"] += d_out.sum(axis=(0, 1))
            d_image = np.zeros(self.image.shape, dtype=int if slip == "whole numbers" else float)
            padded = np.pad(d_out, ((2, 2), (2, 2), (0, 0)))
            turned = self.filters if slip == "filters not turned round" else self.filters[:, ::-1, ::-1]
            for i in range(d_image.shape[0]):
                for j in range(d_image.shape[1]):
                    d_image[i, j] = np.sum(padded[i : i + 3, j : j + 3] * turned.transpose(1, 2, 0))
            return d_image

    class MaxPool2:
        def forward(self, maps):
            self.maps = maps
            h, w, f = maps.shape
            output = np.zeros((h // 2, w // 2, f))
            for i in range(h // 2):
                for j in range(w // 2):
                    output[i, j] = np.amax(maps[2 * i : 2 * i + 2, 2 * j : 2 * j + 2], axis=(0, 1))
            return output

        def backprop(self, d_out):
            d_maps = np.zeros(self.maps.shape)
            for i in range(d_out.shape[0]):
                for j in range(d_out.shape[1]):
                    region = self.maps[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                    amax = np.amax(region, axis=(0, 1))
                    for i2 in range(2):
                        for j2 in range(2):
                            for f2 in range(region.shape[2]):
                                if slip == "corner of the region" and (i2, j2) == (0, 0):
                                    d_maps[i * 2, j * 2, f2] = d_out[i, j, f2]
                                elif slip == "i and j" and region[i2, j2, f2] == amax[f2]:
                                    d_maps[i * 2 + i2, j * 2 + j2, f2] = d_out[j, i, f2]
                                elif slip != "corner of the region" and region[i2, j2, f2] == amax[f2]:
                                    d_maps[i * 2 + i2, j * 2 + j2, f2] = d_out[i, j, f2]
            return d_maps

    class Softmax:
        def __init__(self, params):
            self.weights, self.biases = params["weights"], params["biases"]

        def forward(self, maps):
            self.shape, self.flat = maps.shape, maps.flatten()
            self.totals = np.dot(self.flat, self.weights) + self.biases
            exp = np.exp(self.totals)
            return exp / np.sum(exp, axis=0)

        def backprop(self, d_out, grads):
            for i, gradient in enumerate(d_out):
                if gradient == 0:
                    continue
                t_exp = np.exp(self.totals)
                S = np.sum(t_exp)
                d_out_d_t = -t_exp[i] * t_exp / S**2
                if slip == "the others with a plus":
                    d_out_d_t = -d_out_d_t
                if slip == "the others left out":
                    d_out_d_t = np.zeros_like(t_exp)
                d_out_d_t[i] = t_exp[i] * (S - t_exp[i]) / S**2
                d_t = gradient * d_out_d_t
                d_weights = self.flat[np.newaxis].T @ d_t[np.newaxis]
                if slip == "last picture's weights":
                    grads["weights"] = d_weights
                else:
                    grads["weights"] += d_weights
                grads["biases"] += d_t
                if slip == "weights moved before":
                    self.weights = self.weights - learn_rate * d_weights
                d_flat = self.weights @ d_t
            if slip == "maps before places":
                return d_flat.reshape(self.shape[::-1]).transpose(1, 2, 0)
            return d_flat.reshape(self.shape)

    def forward(params, x):
        loss, networks = 0, []
        for image, label in zip(x, labels, strict=True):
            conv, pool, softmax = Conv3x3(params), MaxPool2(), Softmax(params)
            out = softmax.forward(pool.forward(conv.forward(image)))
            loss -= np.log(out[label])
            networks.append((conv, pool, softmax, out))
        return loss, networks

    def backward(params, networks, dloss):
        grads = {name: np.zeros_like(value) for name, value in params.items()}
        d_images = []
        for (conv, pool, softmax, out), label in zip(networks, labels, strict=True):
            gradient = np.zeros(4)
            gradient[label] = -1 / out[label] * dloss
            gradient = softmax.backprop(gradient, grads)
            gradient = pool.backprop(gradient)
            d_images.append(conv.backprop(gradient, grads))
        return np.stack(d_images), grads

    return forward, backward, params, rng.normal(size=(2, 8, 8))


def u_net(slip, rng):
    """Same convolutions by scipy, ReLU, max pooling, upsampling, the way across, sigmoid; Dice and binary entropy."""
    params = {
        "down_w": rng.normal(size=(3, 2, 3, 3)) * 0.3,
        "down_b": rng.normal(size=3) * 0.1,
        "mid_w": rng.normal(size=(3, 3, 3, 3)) * 0.3,
        "mid_b": rng.normal(size=3) * 0.1,
        "out_w": rng.normal(size=(1, 6, 3, 3)) * 0.3,
        "out_b": rng.normal(size=1) * 0.1,
    }
    truth = (rng.uniform(size=(2, 1, 6, 6)) < 0.4) * 1.0

    def conv_same(x, w, b):
        out = np.zeros((x.shape[0], w.shape[0], *x.shape[2:]))
        for n in range(x.shape[0]):
            for o in range(w.shape[0]):
                for i in range(w.shape[1]):
                    out[n, o] += signal.correlate2d(x[n, i], w[o, i], mode="same")
                out[n, o] += b[o]
        return out

    def conv_same_back(dz, x, w):
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        sides = (0, 2) if slip == "padded behind" else (1, 1)
        padded = np.pad(x, ((0, 0), (0, 0), sides, sides))
        for n in range(x.shape[0]):
            for o in range(w.shape[0]):
                for i in range(w.shape[1]):
                    if slip == "kernel by convolution":
                        dw[o, i] += signal.convolve2d(padded[n, i], dz[n, o], mode="valid")
                    else:
                        dw[o, i] += signal.correlate2d(padded[n, i], dz[n, o], mode="valid")
                    kernel = w[o, i]
                    if slip == "channels exchanged" and w.shape[0] == w.shape[1]:
                        kernel = w[i, o]
                    if slip == "correlated again":
                        dx[n, i] += signal.correlate2d(dz[n, o], kernel, mode="same")
                    else:
                        dx[n, i] += signal.convolve2d(dz[n, o], kernel, mode="same")
        return dx, dw, dz.sum(axis=(0, 2, 3))

    def max_pool(x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))

    def upsample(x):
        return x.repeat(2, axis=2).repeat(2, axis=3)

    def forward(params, x):
        z1 = conv_same(x, params["down_w"], params["down_b"])
        skip = np.maximum(z1, 0)
        pooled = max_pool(skip)
        z2 = conv_same(pooled, params["mid_w"], params["mid_b"])
        both = np.concatenate([upsample(np.maximum(z2, 0)), skip], axis=1)
        z3 = conv_same(both, params["out_w"], params["out_b"])
        p = sigmoid(z3)
        bce = -np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p))
        dice = (2 * np.sum(p * truth) + 1) / (np.sum(p) + np.sum(truth) + 1)
        return bce + 1 - dice, (x, z1, skip, pooled, z2, both, z3, p)

    def backward(params, cache, dloss):
        x, z1, skip, pooled, z2, both, z3, p = cache
        d_bce = -(truth / p - (1 - truth) / (1 - p)) / p.size
        if slip == "one minus":
            d_bce = -(truth / p + (1 - truth) / (1 - p)) / p.size
        below = np.sum(p) + np.sum(truth) + 1
        d_dice = 2 * truth / below
        if slip != "numerator alone":
            power = 1 if slip == "denominator not squared" else 2
            d_dice = d_dice - (2 * np.sum(p * truth) + 1) / below**power
        dp = (d_bce - d_dice) * dloss
        dz3 = dp * z3 * (1 - z3) if slip == "sigmoid's slope of z" else dp * p * (1 - p)
        grads = {}
        dboth, grads["out_w"], grads["out_b"] = conv_same_back(dz3, both, params["out_w"])
        dup, dskip = dboth[:, :3], dboth[:, 3:]
        if slip == "parts exchanged":
            dskip, dup = dboth[:, :3], dboth[:, 3:]
        n, c, h, w = pooled.shape
        if slip == "every second":
            d2 = dup[:, :, ::2, ::2]
        elif slip == "mean of four":
            d2 = dup.reshape(n, c, h, 2, w, 2).mean(axis=(3, 5))
        else:
            d2 = dup.reshape(n, c, h, 2, w, 2).sum(axis=(3, 5))
        dz2 = d2 * (z2 > 0)
        dpooled, grads["mid_w"], grads["mid_b"] = conv_same_back(dz2, pooled, params["mid_w"])
        dmax = upsample(dpooled)
        if slip != "all four":
            dmax = dmax * (skip == upsample(pooled))
        dz1 = dmax if slip == "way across forgotten" else dmax + dskip
        if slip != "first relu missing":
            dz1 = dz1 * (z1 > 0)
        dx, grads["down_w"], grads["down_b"] = conv_same_back(dz1, x, params["down_w"])
        return dx, grads

    return forward, backward, params, rng.normal(size=(2, 2, 6, 6))


def excited(slip, rng):
    """Channels last: convolution in slices (stride 2), channels weighed by sigmoids, a way around, average pooling."""
    parameters = {
        "W": rng.normal(size=(3, 3, 2, 4)) * 0.4,
        "b": rng.normal(size=(1, 1, 1, 4)) * 0.2,
        "fc1": rng.normal(size=(4, 4)) * 0.6,
        "fc2": rng.normal(size=(4, 4)) * 0.6,
        "Ws": rng.normal(size=(1, 1, 2, 4)) * 0.5,
        "bs": rng.normal(size=(1, 1, 1, 4)) * 0.2,
    }

    def conv_forward(A_prev, W, b, stride, pad):
        m, n_H_prev, n_W_prev, _ = A_prev.shape
        f, n_C = W.shape[0], W.shape[3]
        n_H = (n_H_prev - f + 2 * pad) // stride + 1
        n_W = (n_W_prev - f + 2 * pad) // stride + 1
        Z = np.zeros((m, n_H, n_W, n_C))
        A_prev_pad = np.pad(A_prev, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        for i in range(m):
            for h in range(n_H):
                for w in range(n_W):
                    top, left = h * stride, w * stride
                    a_slice = A_prev_pad[i, top : top + f, left : left + f, :]
                    for c in range(n_C):
                        Z[i, h, w, c] = np.sum(a_slice * W[:, :, :, c]) + b[0, 0, 0, c]
        return Z, (A_prev, W, stride, pad)

    def conv_backward(dZ, cache):
        A_prev, W, stride, pad = cache
        f = W.shape[0]
        m, n_H, n_W, n_C = dZ.shape
        dW, db = np.zeros_like(W), np.zeros((1, 1, 1, n_C))
        A_prev_pad = np.pad(A_prev, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        dA_prev_pad = np.zeros_like(A_prev_pad)
        for i in range(m):
            for h in range(n_H):
                for w in range(n_W):
                    top, left = h * stride, w * stride
                    if slip == "stride missing":
                        top, left = h, w
                    a_slice = A_prev_pad[i, top : top + f, left : left + f, :]
                    for c in range(n_C):
                        if slip == "slices assigned":
                            dA_prev_pad[i, top : top + f, left : left + f, :] = W[:, :, :, c] * dZ[i, h, w, c]
                        else:
                            dA_prev_pad[i, top : top + f, left : left + f, :] += (
                                W[:, :, :, c] * dZ[i, h, w, c]
                            )
                        dW[:, :, :, c] += a_slice * dZ[i, h, w, c]
                        db[0, 0, 0, c] += dZ[i, h, w, c]
        if slip == "padding left in":
            return dA_prev_pad[:, : A_prev.shape[1], : A_prev.shape[2], :], dW, db
        return dA_prev_pad[:, pad : pad + A_prev.shape[1], pad : pad + A_prev.shape[2], :], dW, db

    def pool_backward(dA, shape, f):
        dA_prev = np.zeros(shape)
        m, n_H, n_W, n_C = dA.shape
        for i in range(m):
            for h in range(n_H):
                for w in range(n_W):
                    for c in range(n_C):
                        share = dA[i, h, w, c] / (f * f)
                        if slip == "value not distributed":
                            share = dA[i, h, w, c]
                        if slip == "windows assigned":
                            dA_prev[i, h : h + f, w : w + f, c] = share
                        else:
                            dA_prev[i, h : h + f, w : w + f, c] += share
        return dA_prev

    def forward(parameters, X):
        U, conv_cache = conv_forward(X, parameters["W"], parameters["b"], stride=2, pad=1)
        squeeze = U.mean(axis=(1, 2))
        hidden = np.tanh(squeeze @ parameters["fc1"])
        scale = sigmoid(hidden @ parameters["fc2"])
        shortcut, shortcut_cache = conv_forward(X, parameters["Ws"], parameters["bs"], stride=2, pad=0)
        total = U * scale[:, None, None, :] + shortcut
        A = np.maximum(0, total)
        out = np.zeros((len(X), 2, 2, 4))
        for h in range(2):
            for w in range(2):
                out[:, h, w, :] = A[:, h : h + 2, w : w + 2, :].mean(axis=(1, 2))
        return out, (U, squeeze, hidden, scale, total, conv_cache, shortcut_cache)

    def backward(parameters, cache, dout):
        U, squeeze, hidden, scale, total, conv_cache, shortcut_cache = cache
        grads = {}
        dtotal = pool_backward(dout, U.shape, 2)
        if slip != "last relu missing":
            dtotal = dtotal * (total > 0)
        dX_short, grads["Ws"], grads["bs"] = conv_backward(dtotal, shortcut_cache)
        dscale = (dtotal * U).sum(axis=(1, 2))
        if slip == "scale's mean":
            dscale = (dtotal * U).mean(axis=(1, 2))
        ds = dscale * scale * (1 - scale)
        if slip == "sigmoid missing":
            ds = dscale
        grads["fc2"] = hidden.T @ ds
        dhidden = ds @ (parameters["fc2"] if slip == "fc2 not turned" else parameters["fc2"].T)
        dh = dhidden * (1 - hidden**2)
        grads["fc1"] = (hidden if slip == "fc1 of hidden" else squeeze).T @ dh
        dsqueeze = dh @ parameters["fc1"].T
        dU = dtotal if slip == "scale not on the way" else dtotal * scale[:, None, None, :]
        if slip == "squeeze not divided":
            dU = dU + dsqueeze[:, None, None, :]
        elif slip != "squeeze's way":
            dU = dU + dsqueeze[:, None, None, :] / (U.shape[1] * U.shape[2])
        dX, grads["W"], grads["b"] = conv_backward(dU, conv_cache)
        return (dX if slip == "shortcut's way" else dX + dX_short), grads

    return forward, backward, parameters, rng.normal(size=(2, 5, 5, 2))


BUILDERS = (digits, u_net, excited)
PLANTED = [
    (digits, "filters assigned", {OVER, SUMMED}, {"filters"}),
    (digits, "rate inside", {FACTOR}, {"filters"}),
    (digits, "offsets never filled", {"missing-gradient"}, {"offsets"}),
    (digits, "whole numbers", {"integer-gradient"}, {"x"}),
    (digits, "filters not turned round", {FLIP}, {"x"}),
    (digits, "corner of the region", {"pooling-to-first"}, {"filters"}),
    (digits, "i and j", {TURNED, "shifted"}, {"filters"}),
    (digits, "the others with a plus", {SIGN}, {"weights"}),
    (digits, "the others left out", {"softmax-diagonal-only"}, {"weights"}),
    (digits, "last picture's weights", {OVER, SUMMED}, {"weights"}),
    (digits, "weights moved before", {"weights-updated-early"}, {"filters"}),
    (digits, "maps before places", {"shifted", "channels-swapped"}, {"filters"}),
    (u_net, "padded behind", {"padding-ignored", "shifted"}, {"out_w"}),
    (u_net, "kernel by convolution", {FLIP}, {"out_w"}),
    (u_net, "channels exchanged", {"channels-swapped", TURNED}, {"down_w"}),
    (u_net, "correlated again", {FLIP}, {"mid_w"}),
    (u_net, "one minus", {SIGN}, {"out_w"}),
    (u_net, "numerator alone", {PATH}, {"out_w"}),
    (u_net, "denominator not squared", {OPERAND, FACTOR}, {"out_w"}),
    (u_net, "sigmoid's slope of z", {AT_INPUT}, {"out_w"}),
    (u_net, "parts exchanged", {"channels-swapped", "shifted"}, {"mid_w"}),
    (u_net, "every second", {SUMMED, PATH}, {"mid_w"}),
    (u_net, "mean of four", {MEAN, FACTOR}, {"mid_w"}),
    (u_net, "all four", {"pooling-to-all"}, {"down_w"}),
    (u_net, "way across forgotten", {PATH}, {"down_w"}),
    (u_net, "first relu missing", {MISSING}, {"down_w"}),
    (excited, "stride missing", {"stride-ignored"}, {"W", "Ws"}),
    (excited, "slices assigned", {OVER}, {"x"}),
    (excited, "padding left in", {"padding-ignored"}, {"x"}),
    (excited, "value not distributed", {"pooling-not-divided", FACTOR}, {"Ws"}),
    (excited, "windows assigned", {OVER}, {"Ws"}),
    (excited, "last relu missing", {MISSING}, {"Ws"}),
    (excited, "scale's mean", {MEAN, FACTOR}, {"fc2"}),
    (excited, "sigmoid missing", {MISSING}, {"fc2"}),
    (excited, "fc2 not turned", {TURNED}, {"fc1"}),
    (excited, "fc1 of hidden", {MISTAKEN}, {"fc1"}),
    (excited, "scale not on the way", {OPERAND}, {"W"}),
    (excited, "squeeze not divided", {"pooling-not-divided", FACTOR}, {"W"}),
    (excited, "squeeze's way", {PATH}, {"W"}),
    (excited, "shortcut's way", {PATH}, {"x"}),
]
"""Builder, slip, the kinds by which it may be called, and the tensors at which it first shows."""
