"""Catch the falling ball with a paddle: deep Q-learning from pictures, a deque as memory, epsilon falls."""

import random
import sys
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
random.seed(SEED)
np.random.seed(SEED)
torch.manual_seed(SEED)

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward", "done"))


class Catch:
    def __init__(self, rows=7, cols=7):
        self.rows, self.cols = rows, cols

    def reset(self):
        self.ball = [0, random.randrange(self.cols)]
        self.paddle = random.randrange(1, self.cols - 1)
        return self.observe()

    def observe(self):
        canvas = np.zeros((self.rows, self.cols), dtype=np.float32)
        canvas[self.ball[0], self.ball[1]] = 1.0
        canvas[-1, self.paddle - 1 : self.paddle + 2] = 1.0
        return canvas.ravel()

    def step(self, action):
        self.paddle = min(max(1, self.paddle + action - 1), self.cols - 2)
        self.ball[0] += 1
        done = self.ball[0] == self.rows - 1
        reward = 0.0
        if done:
            reward = 1.0 if abs(self.ball[1] - self.paddle) <= 1 else -1.0
        return self.observe(), reward, done


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class QNetwork(nn.Module):
    def __init__(self, n_observations, n_actions):
        super().__init__()
        self.layer1 = nn.Linear(n_observations, 64)
        self.layer2 = nn.Linear(64, 64)
        self.layer3 = nn.Linear(64, n_actions)

    def forward(self, x):
        x = F.relu(self.layer1(x))
        x = F.relu(self.layer2(x))
        return self.layer3(x)


BATCH_SIZE = 48
GAMMA = 0.95
EPS_START, EPS_END = 1.0, 0.05
EPISODES = 400
LR = 1e-3

env = Catch()
policy_net = QNetwork(49, 3)
target_net = QNetwork(49, 3)
target_net.load_state_dict(policy_net.state_dict())
optimizer = torch.optim.Adam(policy_net.parameters(), lr=LR)
memory = ReplayMemory(4000)


def select_action(state, eps):
    if random.random() < eps:
        return random.randrange(3)
    with torch.no_grad():
        return policy_net(torch.from_numpy(state).unsqueeze(0)).argmax(1).item()


def optimize_model():
    if len(memory) < 200:
        return
    batch = Transition(*zip(*memory.sample(BATCH_SIZE)))
    states = torch.from_numpy(np.stack(batch.state))
    next_states = torch.from_numpy(np.stack(batch.next_state))
    actions = torch.tensor(batch.action).unsqueeze(1)
    rewards = torch.tensor(batch.reward, dtype=torch.float32).unsqueeze(1)
    dones = torch.tensor(batch.done, dtype=torch.float32).unsqueeze(1)

    q_values = policy_net(states).gather(1, actions)
    with torch.no_grad():
        next_q = target_net(next_states).max(1, keepdim=True).values
    expected = rewards + GAMMA * next_q * (1 - dones)
    loss = F.mse_loss(q_values, expected)

    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


wins = deque(maxlen=100)
for episode in range(EPISODES):
    eps = max(EPS_END, EPS_START - episode / 250)
    state, done = env.reset(), False
    while not done:
        action = select_action(state, eps)
        next_state, reward, done = env.step(action)
        memory.push(state, action, next_state, reward, done)
        state = next_state
        optimize_model()
    wins.append(reward > 0)
    if episode % 5 == 0:
        target_net.load_state_dict(policy_net.state_dict())
    if episode % 100 == 99:
        print(f"episode {episode + 1}: caught {np.mean(wins):.2f}, epsilon {eps:.2f}")

caught = 0
for _ in range(300):
    state, done = env.reset(), False
    while not done:
        state, reward, done = env.step(select_action(state, 0.0))
    caught += reward > 0
print("caught without exploring:", caught / 300)
