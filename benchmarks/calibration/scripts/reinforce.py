"""REINFORCE in a small world: walk along a line to the goal, whose place is observed."""

import sys

import torch
import torch.nn as nn
from torch.distributions import Categorical

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
N, LENGTH, GAMMA = 32, 12, 0.95

policy = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 3))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)


def rollout(greedy=False):
    pos = torch.rand(N) * 2 - 1
    goal = torch.rand(N) * 2 - 1
    log_probs, rewards = [], []
    for _ in range(LENGTH):
        obs = torch.stack([pos, goal], dim=1)
        dist = Categorical(logits=policy(obs))
        action = dist.probs.argmax(1) if greedy else dist.sample()
        log_probs.append(dist.log_prob(action))
        pos = (pos + (action - 1) * 0.2).clamp(-1, 1)
        rewards.append((torch.abs(pos - goal) < 0.15).float() - 0.1 * torch.abs(pos - goal))
    return torch.stack(log_probs), torch.stack(rewards)


def returns(rewards):
    out, running = [], torch.zeros(N)
    for r in reversed(rewards):
        running = r + GAMMA * running
        out.append(running)
    return torch.stack(out[::-1])


for episode in range(200):
    log_probs, rewards = rollout()
    R = returns(rewards)
    advantage = (R - R.mean(1, keepdim=True)) / (R.std() + 1e-6)
    loss = -(log_probs * advantage).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    score = sum(rollout()[1].mean().item() for _ in range(10)) / 10
print("mean reward", round(score, 4))
