"""Q-learning on a chain: a target network, actions as plain numbers, a replay of NumPy arrays."""

import copy
import random

import numpy as np
import torch
from torch import nn

random.seed(0)
torch.manual_seed(0)
LENGTH = 8
net = nn.Sequential(nn.Linear(LENGTH, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.deepcopy(net)
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
memory = []


def seen(place):
    state = np.zeros(LENGTH, dtype=np.float32)
    state[place] = 1
    return state


steps = 0
for episode in range(80):
    place = random.randrange(LENGTH)
    for _ in range(20):
        values = net(torch.from_numpy(seen(place)))
        move = random.randrange(2) if random.random() < 0.3 else values.argmax().item()
        after = max(0, min(LENGTH - 1, place + (1 if move else -1)))
        over = after == LENGTH - 1
        memory.append((seen(place), move, float(over), seen(after), float(over)))
        place = after
        if len(memory) > 64:
            batch = [np.stack(column) for column in zip(*random.sample(memory, 32), strict=True)]
            s, a, r, s2, end = (torch.tensor(column) for column in batch)
            q = net(s).gather(1, a[:, None]).squeeze(1)
            with torch.no_grad():
                goal = r.float() + 0.9 * target(s2).max(1).values * (1 - end.float())
            loss = nn.functional.smooth_l1_loss(q, goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
            if steps % 50 == 0:
                target.load_state_dict(net.state_dict())
        if over:
            break
print(loss.item())
