"""The arithmetic of a forward pass written down as it runs, to try typical mistakes in each of its steps."""
