"""DQN on a 5x5 grid: replay memory, a target network, Huber loss."""

import random
import sys
from collections import deque

import torch
import torch.nn as nn

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(seed)
torch.manual_seed(seed)
SIZE, GOAL = 5, (4, 4)
MOVES = [(0, 1), (0, -1), (1, 0), (-1, 0)]


class Grid:
    def reset(self):
        self.pos, self.t = (random.randrange(SIZE), random.randrange(SIZE)), 0
        return self.state()

    def state(self):
        s = torch.zeros(SIZE * SIZE)
        s[self.pos[0] * SIZE + self.pos[1]] = 1.0
        return s

    def step(self, a):
        r, c = self.pos[0] + MOVES[a][0], self.pos[1] + MOVES[a][1]
        self.pos = (min(max(r, 0), SIZE - 1), min(max(c, 0), SIZE - 1))
        self.t += 1
        done = self.pos == GOAL
        reward = 1.0 if done else -0.05
        return self.state(), reward, done or self.t >= 20, done


def make_net():
    return nn.Sequential(nn.Linear(25, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))


policy, target = make_net(), make_net()
target.load_state_dict(policy.state_dict())
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
memory = deque(maxlen=4000)
env, gamma, steps = Grid(), 0.95, 0
loss_fn = nn.SmoothL1Loss()


def optimize():
    batch = random.sample(memory, 32)
    s = torch.stack([b[0] for b in batch])
    a = torch.tensor([b[1] for b in batch])
    r = torch.tensor([b[2] for b in batch])
    s2 = torch.stack([b[3] for b in batch])
    end = torch.tensor([float(b[4]) for b in batch])
    q = policy(s).gather(1, a[:, None]).squeeze(1)
    with torch.no_grad():
        q2 = target(s2).max(1).values
    loss = loss_fn(q, r + gamma * q2 * (1 - end))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


for episode in range(150):
    s, over = env.reset(), False
    epsilon = max(0.1, 1 - episode / 70)
    while not over:
        if random.random() < epsilon:
            a = random.randrange(4)
        else:
            with torch.no_grad():
                a = policy(s).argmax().item()
        s2, r, over, end = env.step(a)
        memory.append((s, a, r, s2, end))
        s = s2
        steps += 1
        if len(memory) > 200:
            optimize()
        if steps % 100 == 0:
            target.load_state_dict(policy.state_dict())

wins = 0
for row in range(SIZE):
    for col in range(SIZE):
        env.reset()
        env.pos = (row, col)
        s, over, end = env.state(), env.pos == GOAL, env.pos == GOAL
        while not over:
            with torch.no_grad():
                a = policy(s).argmax().item()
            s, _, over, end = env.step(a)
        wins += bool(end)
print("reached", wins / 25)
