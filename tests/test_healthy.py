"""Healthy trainings of many kinds, in PyTorch: no fault may be found in them."""

import pytest

pytest.importorskip("torch")

from healthy_trainings import HEALTHY
from unstuck.diagnose.bounds import load_bounds


@pytest.mark.parametrize("name", sorted(HEALTHY))
def test_nothing_is_found(name):
    recording = HEALTHY[name]()
    diagnosis = recording.diagnose()
    # LRN008 only says that more steps would gain more
    assert [found.code for found in diagnosis.findings if found.code != "LRN008"] == []
    assert all(found.severity == "info" for found in diagnosis.findings)
    assert diagnosis.status == "healthy"
    shares = [recording.last("dead_lately", layer) for layer in recording.layers("dead_lately")]
    assert max((share for share in shares if share is not None), default=0) < load_bounds().dead.share
