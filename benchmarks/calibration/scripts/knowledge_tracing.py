"""Deep knowledge tracing: a GRU reads which exercises a pupil got right, and says whether the next will be right."""

import random
import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.metrics import roc_auc_score
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

NUM_SKILLS = 12
PAD = 0  # inputs are 1 .. 2 * NUM_SKILLS


def make_pupils(n, rng):
    """Lists of (skill, right) per pupil: knowledge per skill is a state, and grows with practice."""
    pupils = []
    for _ in range(n):
        talent = rng.normal(0, 0.8)
        level = talent + rng.normal(0, 2.2, NUM_SKILLS)
        pace = rng.uniform(0.0, 0.5)
        log = []
        for _ in range(rng.integers(20, 41)):
            skill = rng.integers(NUM_SKILLS)
            right = int(rng.random() < 1 / (1 + np.exp(-2.0 * level[skill])))
            level[skill] += pace
            log.append((skill, right))
        pupils.append(log)
    return pupils


def collate(logs):
    """Tokens of what was done so far, the skill asked next, the answer given to it, and a mask."""
    tokens, asked, answers = [], [], []
    for log in logs:
        skills = torch.tensor([s for s, _ in log])
        right = torch.tensor([r for _, r in log])
        tokens.append(1 + skills[:-1] + NUM_SKILLS * right[:-1])
        asked.append(skills[1:])
        answers.append(right[1:].float())
    tokens = pad_sequence(tokens, batch_first=True, padding_value=PAD)
    asked = pad_sequence(asked, batch_first=True)
    answers = pad_sequence(answers, batch_first=True)
    return tokens, asked, answers, tokens != PAD


class DKT(nn.Module):
    def __init__(self, emb=32, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(2 * NUM_SKILLS + 1, emb, padding_idx=PAD)
        self.rnn = nn.GRU(emb, hidden, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(hidden, NUM_SKILLS)

    def forward(self, tokens, asked):
        h, _ = self.rnn(self.embed(tokens))
        scores = self.fc(self.drop(h))
        return scores.gather(2, asked.unsqueeze(2)).squeeze(2)


def fit(model, loader, epochs, lr):
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(epochs):
        model.train()
        losses = []
        for tokens, asked, answers, mask in loader:
            optimizer.zero_grad()
            scores = model(tokens, asked)
            loss = criterion(scores[mask], answers[mask])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            losses.append(loss.item())
        if epoch % 3 == 2:
            print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")


def auc(model, loader):
    model.eval()
    said, truth = [], []
    with torch.no_grad():
        for tokens, asked, answers, mask in loader:
            said.append(model(tokens, asked)[mask])
            truth.append(answers[mask])
    said = torch.nan_to_num(torch.cat(said))
    return roc_auc_score(torch.cat(truth).numpy(), said.numpy())


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    rng = np.random.default_rng(31)
    train_loader = DataLoader(make_pupils(1500, rng), batch_size=32, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(make_pupils(400, rng), batch_size=100, collate_fn=collate)
    model = DKT()
    fit(model, train_loader, epochs=12, lr=4e-3)
    print("AUC for pupils not seen before:", round(auc(model, test_loader), 4))
