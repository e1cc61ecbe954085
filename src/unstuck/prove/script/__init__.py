"""Trials on a whole script: every run is a process of its own, in a working copy of its folder."""
