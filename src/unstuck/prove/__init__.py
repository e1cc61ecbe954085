"""Controlled trials: the same seeds unchanged, treated, with a sham and with the rival's treatment."""
