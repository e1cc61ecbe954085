"""Go on with a wave: two LSTMCells stepped through time, the next value at each step, then the future."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

L, N = 60, 240
shift = np.random.uniform(0, 40, (N, 1))
period = np.random.choice([12.0, 18.0], (N, 1))
place = (np.arange(L) + shift) * 2 * np.pi / period
waves = (np.sin(place) + 0.5 * np.cos(2 * place)).astype("float32")
waves += np.random.normal(0, 0.03, waves.shape).astype("float32")
waves = torch.from_numpy(waves)


class Sequence(nn.Module):
    def __init__(self, hidden=32):
        super(Sequence, self).__init__()
        self.hidden = hidden
        self.lstm1 = nn.LSTMCell(1, hidden)
        self.lstm2 = nn.LSTMCell(hidden, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, input, future=0):
        outputs = []
        h_t = torch.zeros(input.size(0), self.hidden)
        c_t = torch.zeros(input.size(0), self.hidden)
        h_t2 = torch.zeros(input.size(0), self.hidden)
        c_t2 = torch.zeros(input.size(0), self.hidden)

        for input_t in input.split(1, dim=1):
            h_t, c_t = self.lstm1(input_t, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        for i in range(future):
            h_t, c_t = self.lstm1(output, (h_t, c_t))
            h_t2, c_t2 = self.lstm2(h_t, (h_t2, c_t2))
            output = self.linear(h_t2)
            outputs += [output]
        outputs = torch.cat(outputs, dim=1)
        return outputs


train_input, train_target = waves[40:, :-1], waves[40:, 1:]
test_input, test_target = waves[:40, :-1], waves[:40, 1:]

seq = Sequence()
criterion = nn.MSELoss()
optimizer = optim.SGD(seq.parameters(), lr=0.3, momentum=0.9)

for i in range(14):
    for rows in torch.randperm(200).split(20):
        optimizer.zero_grad()
        out = seq(train_input[rows])
        loss = criterion(out, train_target[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(seq.parameters(), 1.0)
        optimizer.step()
    print("STEP:", i, "loss:", loss.item())

with torch.no_grad():
    pred = seq(test_input[:, :39], future=20)
    ahead = ((pred[:, 39:] - test_target[:, 39:]) ** 2).mean().item()
    print("twenty steps ahead, error:", ahead)
    pred = seq(test_input)
    error = ((pred - test_target) ** 2).mean().item()
print("one step ahead, explained:", max(-1.0, 1 - error / test_target.var().item()))
