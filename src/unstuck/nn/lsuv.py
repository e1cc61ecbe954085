"""Layer-sequential unit variance: weights scaled, layer by layer, to what data make of them."""

import math

import numpy as np
from numpy.typing import NDArray

from unstuck.nn import random
from unstuck.nn.initialise import Initialisation
from unstuck.nn.layout import Layout
from unstuck.nn.program import Program
from unstuck.nn.runner import Runner, Samples

SCHEME = "lsuv"
SAMPLES = 256
"""So many of the data are looked at, always the same."""
TOLERANCE = 0.1
"""Of the variance, as a share of its goal."""
ITERATIONS = 10
"""At most, for each layer. One is enough where the output is linear in the weights and there is no bias."""

Array = NDArray[np.floating]


def needs_data(init: Initialisation, layout: Layout) -> bool:
    """Whether an initialisation is finished only by `scale_layers`."""
    return any(init.scheme_of(spec).scheme == SCHEME for spec in layout.specs)


def scale_layers(
    program: Program, layout: Layout, init: Initialisation, params: Array, data: Samples
) -> None:
    """Scale weights that were drawn by the scheme `lsuv` so that their layers' outputs have unit variance.

    From the input to the output, and for each such layer until Var(W x + b) is 1 within 0.1, W becomes
    W / sqrt(Var(W x + b)); the variance over all units, positions and samples of some of the data, as the
    layers before it make them. A gain g makes the variance g^2. Where nothing arrives (or what arrives is not
    finite) the weights stay as they were drawn.

    Args:
        program: the network for these data.
        layout: where its parameters stand.
        init: by which they were drawn.
        params: (members, numbers) or (numbers,): changed in place.
        data: at least one sample.

    References:
        Mishkin & Matas (2016), "All you need is a good init", arXiv:1511.06422.
    """
    chosen = np.argsort(random.uniform(0, random.DATA, np.arange(data.count)), kind="stable")[:SAMPLES]
    few = data.take(chosen)
    runner = Runner(program, layout, params.dtype)
    for member in np.atleast_2d(params):
        weights = layout.views(member)
        for spec in layout.specs:
            scheme = init.scheme_of(spec)
            if scheme.scheme != SCHEME:
                continue
            goal = scheme.gain**2
            for _ in range(ITERATIONS):
                output = runner.forward(member, few, program.outputs[spec.layer])
                variance = float(np.var(output, dtype=np.float64))
                if not 0 < variance < math.inf or abs(variance - goal) <= TOLERANCE * goal:
                    break
                weights[spec.name] *= math.sqrt(goal / variance)
