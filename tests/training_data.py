"""Small data that is at hand, for training loops in the tests: drawn by their own generators."""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits, make_regression
from torch.utils.data import DataLoader, TensorDataset


def digits(*, images: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 64) or (N, 1, 8, 8) of 0 to 1, and labels."""
    data = load_digits()
    inputs = torch.tensor(data.data, dtype=torch.float32) / 16
    return (inputs.reshape(-1, 1, 8, 8) if images else inputs), torch.tensor(data.target)


def digits_loader(batch_size: int, *, images: bool = False) -> DataLoader[Any]:
    inputs, labels = digits(images=images)
    return DataLoader(TensorDataset(inputs[:1400], labels[:1400]), batch_size=batch_size, shuffle=True)


def made_regression() -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised inputs (256, 12) and targets (256, 1)."""
    inputs, targets = make_regression(256, 12, n_informative=6, noise=5.0, random_state=0)
    targets = (targets - targets.mean()) / targets.std()
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)[:, None]


def made_texts() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts of 4 to 14 words (padded by 0), their lengths, and whether word 1 is commoner than word 2."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(4, 15, 800)
    tokens = generator.integers(1, 12, (800, 14))
    common = generator.random((800, 14)) < 0.5
    tokens[common] = generator.integers(1, 3, common.sum())
    tokens[np.arange(14)[None] >= lengths[:, None]] = 0
    labels = (tokens == 1).sum(1) > (tokens == 2).sum(1)
    return torch.tensor(tokens), torch.tensor(lengths), torch.tensor(labels, dtype=torch.float32)


def made_sequences(words: int, length: int) -> torch.Tensor:
    """Sequences that go up by one, two or three words, round and round."""
    generator = np.random.default_rng(0)
    start, pace = generator.integers(0, words, (640, 1)), generator.integers(1, 4, (640, 1))
    return torch.tensor((start + pace * np.arange(length)) % words)


def ring(count: int) -> torch.Tensor:
    """Points on a ring, drawn with PyTorch's own generator."""
    angle = torch.rand(count) * 2 * torch.pi
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(count, 2)
