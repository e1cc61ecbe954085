"""From a trace to named causes: rules, what explains what, and what to try."""

from unstuck.diagnose import (
    rules as rules,
)  # so that the registry is full, whichever module is imported first
