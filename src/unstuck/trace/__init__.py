"""The trace: what was measured of a training, and the network's structure. Imports no framework."""
