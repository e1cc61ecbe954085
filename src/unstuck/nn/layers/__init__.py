"""Layers: one noun a file; each writes its forward and backward pass down for the interpreter."""
