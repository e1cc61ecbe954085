"""A recurrent network on sequences. Planted: zero_grad() is missing (GRD005). Repaired: --repaired."""

import sys

import torch
from torch import nn


class Counter(nn.Module):
    """Reads a sequence of bits and says which third had most ones."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, bits):
        states, _ = self.rnn(bits)
        return self.head(states[:, -1])


def sequences(n):
    third = torch.randint(0, 3, (n,))
    chance = torch.full((n, 15), 0.15)
    for i in range(3):
        chance[third == i, 5 * i : 5 * i + 5] = 0.85
    return torch.bernoulli(chance).unsqueeze(-1), third


def main():
    torch.manual_seed(8)
    x, y = sequences(1200)
    model = Counter()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    for epoch in range(8):
        for batch in torch.randperm(len(x)).split(60):
            if "--repaired" in sys.argv:
                optimizer.zero_grad()
            loss = loss_fn(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
