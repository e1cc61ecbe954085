"""pytest plugin: the fixture `training`. pytest imports this for every project: keep it small."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from unstuck.sources.plugin_training import TrainingCheck


@pytest.fixture
def training() -> "TrainingCheck":
    """Checks that a training trains: `training.assert_trains(make, steps=50)`."""
    from unstuck.sources.plugin_training import TrainingCheck

    return TrainingCheck()
