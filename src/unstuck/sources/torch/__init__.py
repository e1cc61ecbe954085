"""Watches a training in PyTorch: hooks, the graph, probes, and a look before training."""
