"""Carrying a training in PyTorch over to the engine, where hundreds of seeds cost little."""
