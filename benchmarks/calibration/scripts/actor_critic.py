"""Advantage actor-critic in a small grid world, many worlds side by side."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
SIZE, ENVS, T = 5, 24, 10
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 64)
        self.actor = nn.Linear(64, 4)
        self.critic = nn.Linear(64, 1)

    def forward(self, s):
        h = torch.tanh(self.fc(s))
        return F.softmax(self.actor(h), dim=-1), self.critic(h).squeeze(-1)


net = ActorCritic()
opt = torch.optim.Adam(net.parameters(), lr=5e-3)


def start():
    return torch.randint(SIZE, (ENVS, 2)), torch.randint(SIZE, (ENVS, 2))


def observe(me, goal):
    return torch.cat([me, goal], 1).float() / SIZE * 2 - 1


def play():
    me, goal = start()
    logs, values, rewards, entropies = [], [], [], []
    for _ in range(T):
        probs, value = net(observe(me, goal))
        dist = torch.distributions.Categorical(probs)
        action = dist.sample()
        before = (me - goal).abs().sum(1)
        me = (me + MOVES[action]).clamp(0, SIZE - 1)
        after = (me - goal).abs().sum(1)
        logs.append(dist.log_prob(action))
        values.append(value)
        entropies.append(dist.entropy())
        rewards.append((before - after).float() + (after == 0).float())
    return logs, values, rewards, entropies


for update in range(200):
    logs, values, rewards, entropies = play()
    R, returns = torch.zeros(ENVS), []
    for r in reversed(rewards):
        R = r + 0.9 * R
        returns.insert(0, R)
    returns = torch.stack(returns)
    values = torch.stack(values)
    advantage = returns - values
    policy_loss = -(torch.stack(logs) * advantage.detach()).mean()
    value_loss = advantage.pow(2).mean()
    loss = policy_loss + 0.5 * value_loss - 0.01 * torch.stack(entropies).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    opt.step()

with torch.no_grad():
    total = sum(torch.stack(play()[2]).mean().item() for _ in range(20)) / 20
print("reward per step", round(total, 4))
