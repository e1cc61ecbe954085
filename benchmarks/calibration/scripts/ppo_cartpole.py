"""PPO balances a pole: sixteen carts at once, generalised advantages, clipped ratios (in the manner of CleanRL)."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.optim as optim
from torch.distributions.categorical import Categorical

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

num_envs, num_steps, total_updates = 16, 64, 30
learning_rate = 3e-3
gamma, gae_lambda = 0.98, 0.95
update_epochs, num_minibatches = 4, 4
clip_coef, ent_coef, vf_coef, max_grad_norm = 0.2, 0.0, 0.5, 0.5


class CartPoles:
    """Poles on carts, all in one array; an episode ends when the pole falls, or after 200 steps."""

    def __init__(self, n, rng):
        self.n, self.rng = n, rng
        self.limit = 200

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, (self.n, 4))
        self.steps = np.zeros(self.n, dtype=int)
        return self.observe()

    def observe(self):
        return (self.state * np.array([1.0, 1.0, 5.0, 1.0])).astype(np.float32)

    def step(self, action):
        x, v, angle, spin = self.state.T
        force = np.where(action == 1, 10.0, -10.0)
        push = (force + 0.05 * spin**2 * np.sin(angle)) / 1.1
        turn = (9.8 * np.sin(angle) - np.cos(angle) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1))
        accel = push - 0.05 * turn * np.cos(angle) / 1.1
        self.state = np.stack(
            [x + 0.02 * v, v + 0.02 * accel, angle + 0.02 * spin, spin + 0.02 * turn], axis=1
        )
        self.steps += 1
        fallen = (np.abs(self.state[:, 0]) > 2.4) | (np.abs(self.state[:, 2]) > 0.21)
        done = fallen | (self.steps >= self.limit)
        length = np.where(done, self.steps, 0)
        self.state[done] = self.rng.uniform(-0.05, 0.05, (done.sum(), 4))
        self.steps[done] = 0
        return self.observe(), np.ones(self.n, dtype=np.float32), done.astype(np.float32), length


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(
            layer_init(nn.Linear(4, 48)),
            nn.Tanh(),
            layer_init(nn.Linear(48, 48)),
            nn.Tanh(),
            layer_init(nn.Linear(48, 1), std=1.0),
        )
        self.actor = nn.Sequential(
            layer_init(nn.Linear(4, 48)),
            nn.Tanh(),
            layer_init(nn.Linear(48, 48)),
            nn.Tanh(),
            layer_init(nn.Linear(48, 2), std=0.01),
        )

    def get_value(self, x):
        return self.critic(x).flatten()

    def get_action_and_value(self, x, action=None):
        logits = self.actor(x)
        probs = Categorical(logits=logits)
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.get_value(x)


envs = CartPoles(num_envs, np.random.default_rng(seed))
agent = Agent()
optimizer = optim.Adam(agent.parameters(), lr=learning_rate, eps=1e-5)

obs = torch.zeros((num_steps, num_envs, 4))
actions = torch.zeros((num_steps, num_envs), dtype=torch.long)
logprobs, rewards, dones, values = (torch.zeros((num_steps, num_envs)) for _ in range(4))
next_obs, next_done = torch.from_numpy(envs.reset()), torch.zeros(num_envs)

for update in range(1, total_updates + 1):
    optimizer.param_groups[0]["lr"] = (1.0 - (update - 1.0) / total_updates) * learning_rate
    lengths = []
    for step in range(num_steps):
        obs[step], dones[step] = next_obs, next_done
        with torch.no_grad():
            action, logprob, _, value = agent.get_action_and_value(next_obs)
        actions[step], logprobs[step], values[step] = action, logprob, value
        o, r, d, ended = envs.step(action.numpy())
        next_obs, next_done, rewards[step] = torch.from_numpy(o), torch.from_numpy(d), torch.from_numpy(r)
        lengths += ended[ended > 0].tolist()

    with torch.no_grad():
        next_value = agent.get_value(next_obs)
        advantages, last = torch.zeros_like(rewards), 0
        for t in reversed(range(num_steps)):
            alive = 1.0 - (next_done if t == num_steps - 1 else dones[t + 1])
            after = next_value if t == num_steps - 1 else values[t + 1]
            delta = rewards[t] + gamma * after * alive - values[t]
            advantages[t] = last = delta + gamma * gae_lambda * alive * last
        returns = advantages + values

    b_obs, b_actions, b_logprobs = obs.reshape(-1, 4), actions.reshape(-1), logprobs.reshape(-1)
    b_advantages, b_returns = advantages.reshape(-1), returns.reshape(-1)
    for epoch in range(update_epochs):
        for mb in torch.randperm(num_steps * num_envs).chunk(num_minibatches):
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb], b_actions[mb])
            ratio = (newlogprob - b_logprobs[mb]).exp()
            mb_advantages = b_advantages[mb]
            mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
            pg_loss1 = -mb_advantages * ratio
            pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - clip_coef, 1 + clip_coef)
            pg_loss = torch.max(pg_loss1, pg_loss2).mean()
            v_loss = 0.5 * ((newvalue - b_returns[mb]) ** 2).mean()
            loss = pg_loss - ent_coef * entropy.mean() + v_loss * vf_coef
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), max_grad_norm)
            optimizer.step()
    if update % 6 == 0:
        print(
            f"update {update}: mean length of episodes {np.mean(lengths) if lengths else 200:.1f}, value loss {v_loss:.2f}"
        )

envs = CartPoles(100, np.random.default_rng(1000 + seed))
o, running, total = envs.reset(), np.ones(100), np.zeros(100)
with torch.no_grad():
    for _ in range(200):
        action = agent.actor(torch.from_numpy(o)).argmax(dim=1)
        o, r, d, _ = envs.step(action.numpy())
        total += r * running
        running *= 1 - d
print("mean score of 100 episodes, of the most there is:", total.mean() / 200)
