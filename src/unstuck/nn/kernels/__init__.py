"""Kernels: the arithmetic of the engine, compiled once for all networks and shapes."""
