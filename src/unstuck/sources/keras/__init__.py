"""Watches a training in Keras 3."""
