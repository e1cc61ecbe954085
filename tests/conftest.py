"""What all tests share: deterministic examples, one thread for other libraries, and where things are."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# The tests run in as many processes as there are cores: a thread pool in each would only get in the way.
# Set before NumPy or PyTorch is first imported, and inherited by the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whoever imports Keras first in a process decides what it runs on.
os.environ["KERAS_BACKEND"] = "torch"

# A shell that starts the tests in the background has Ctrl-C ignored, which programs that they start inherit:
# some of these are interrupted on purpose, and would go on for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run: a test that fails for one fails for all.
# To look further: python -m pytest --hypothesis-profile default
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(scope="session")
def root() -> Path:
    """Folder of the repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium for the tests of pages: without one they are skipped, but in CI they fail."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI must install Chromium")
        pytest.skip("no Chromium found: install it to test the pages")
    return path


@pytest.fixture(autouse=True)
def _rules_that_fail_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """For users a rule that fails is one line among what was not checked; here it is an error."""
    monkeypatch.setattr("unstuck.diagnose.diagnosis.SURVIVES", False)
