"""Treatments of a PyTorch program while it runs: its text is never edited."""
