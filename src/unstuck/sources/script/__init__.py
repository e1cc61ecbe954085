"""Runs somebody's training script as python would, and watches whatever trains in it."""
