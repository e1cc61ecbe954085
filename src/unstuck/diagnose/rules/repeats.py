"""Rule on batches that come again and again though there are others."""

import numpy as np

from unstuck.diagnose.bounds import Bounds
from unstuck.diagnose.finding import Evidence, Finding
from unstuck.diagnose.registry import NotChecked, rule
from unstuck.trace.recording import Recording


@rule(
    "DAT007",
    "repeated-batch",
    severity="warning",
    needs=("repeat.batch",),
    explains={"DAT004": "any"},
    from_step_0=False,
)
def repeated_batch(trace: Recording, bounds: Bounds) -> list[Finding]:
    """Every step sees the same batch, though the loader or the tensor that it comes from has others."""
    again = trace.series("repeat.batch").values
    if trace.meta.examined:
        return []
    if not bool((again == 1).all()):
        return []
    if again.size < bounds.data.batches:
        raise NotChecked(f"it needs {bounds.data.batches} pairs of measured batches")
    taken = trace.series("batch.share").values
    if taken.size and bool((taken <= bounds.data.few).all()):
        return [_few_of_many(float(taken[-1]), bounds)]
    batches, anew = trace.last("loader.batches"), trace.series("loader.anew").values
    if batches is None or not anew.size:
        raise NotChecked("each step sees the same batch, and it was not seen whether there are other data")
    share = float(anew[-1])
    each = share >= bounds.data.anew
    # what was taken from the loader once, and then used for all steps, was most likely kept on purpose
    if not each and float(np.max(anew * (trace.series("loader.anew").steps + 1))) > 1:
        return []
    how = (
        "A new pass through the data begins at every step and always with this batch: next(iter(loader)), "
        "or a loop over the loader that is left after its first batch. Make the iterator once, and go on "
        "with it."
        if each
        else "It was taken from the loader once. To see whether a network can learn one batch by heart "
        "this is right; of the data it learns nothing else."
    )
    return [
        Finding(
            code="DAT007",
            name="repeated-batch",
            severity="warning" if each else "info",
            layer=None,
            step=0,
            confidence=0.95 if each else 0.7,
            summary=f"All steps saw the same batch; the loader has {batches:.0f} of them. {how}",
            evidence=(
                Evidence("repeat.batch", 1.0, "=", 1.0),
                Evidence("loader.anew", share, ">=" if each else "<", bounds.data.anew),
                Evidence("loader.batches", batches, ">", 1.0),
            ),
            rival=(
                "Training on all data at once, where the same batch is right: then the loader has one batch, "
                "and nothing is said."
            ),
        )
    ]


def _few_of_many(share: float, bounds: Bounds) -> Finding:
    """The program takes the same few rows of a larger tensor at every step."""
    return Finding(
        code="DAT007",
        name="repeated-batch",
        severity="warning",
        layer=None,
        step=0,
        confidence=0.9,
        summary=(
            f"All steps saw the same batch, {share:.1%} of the samples in the tensor that it is taken from "
            "anew at each step: the rows that are asked for never change. Draw them in each step, or go "
            "through a new order in each epoch."
        ),
        evidence=(
            Evidence("repeat.batch", 1.0, "=", 1.0),
            Evidence("batch.share", share, "<=", bounds.data.few),
        ),
        rival="A training on few samples on purpose, to see whether it learns them by heart, does the same.",
    )
