"""Will the guest cancel? Hotel bookings (made up), embeddings of categories, a rare positive class."""

import argparse

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import logsigmoid
from torch.utils.data import DataLoader, Dataset

CATEGORIES = {"country": 15, "agent": 40, "room": 6, "segment": 5}
NUMBERS = ["lead_time", "nights", "price", "earlier_cancellations"]


def make_bookings(n=6000):
    rng = np.random.default_rng(321)
    df = pd.DataFrame({name: rng.integers(0, size, n) for name, size in CATEGORIES.items()})
    df["lead_time"] = rng.gamma(1.3, 60, n).round()
    df["nights"] = 1 + rng.poisson(2.5, n)
    df["price"] = (60 + 18 * df["room"] + rng.gamma(3, 12, n)).round(2)
    df["earlier_cancellations"] = rng.poisson(0.25, n)
    country, agent = rng.normal(0, 1.5, 15), rng.normal(0, 2.2, 40)
    segment = np.array([-2.0, -0.8, 0.4, 1.6, 0.8])
    score = country[df["country"]] + agent[df["agent"]] + segment[df["segment"]]
    score = score + 1.6 * np.log1p(df["lead_time"] / 40) + 1.6 * df["earlier_cancellations"]
    score = score + np.where(df["lead_time"] > 100, 0.6 * df["room"] - 1.5, 0)
    score = score + rng.logistic(0, 0.4, n)
    df["cancelled"] = (score > np.quantile(score, 0.86)).astype(int)
    return df


class BookingDataset(Dataset):
    def __init__(self, frame):
        self.frame = frame
        self.categories = torch.tensor(frame[list(CATEGORIES)].to_numpy())
        self.numbers = torch.tensor(frame[NUMBERS].to_numpy(), dtype=torch.float32)
        self.labels = torch.tensor(frame["cancelled"].to_numpy(), dtype=torch.float32).unsqueeze(1)

    def __len__(self):
        return len(self.frame)

    def __getitem__(self, i):
        return self.categories[i], self.numbers[i], self.labels[i]


class CancelNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(size, min(12, size)) for size in CATEGORIES.values()])
        width = sum(table.embedding_dim for table in self.tables) + len(NUMBERS)
        self.drop = nn.Dropout(0.1)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, 1)

    def forward(self, categories, numbers):
        parts = [table(categories[:, i]) for i, table in enumerate(self.tables)]
        x = torch.cat([*parts, numbers], dim=1)
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(self.drop(x)))
        return self.fc3(self.drop(x))


def weighted_bce(logits, y, pos_weight):
    return -(pos_weight * y * logsigmoid(logits) + (1 - y) * logsigmoid(-logits)).mean()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("seed", nargs="?", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    torch.set_num_threads(1)

    df = make_bookings()
    train_df, test_df = train_test_split(df, test_size=0.25, stratify=df["cancelled"], random_state=1)
    means, stds = train_df[NUMBERS].mean(), train_df[NUMBERS].std()
    train_df, test_df = train_df.copy(), test_df.copy()
    for frame in (train_df, test_df):
        frame[NUMBERS] = (frame[NUMBERS] - means) / stds
    train_set, test_set = BookingDataset(train_df), BookingDataset(test_df)
    loader = DataLoader(train_set, batch_size=64, shuffle=True)

    n_pos = train_df["cancelled"].sum()
    n_neg = len(train_df) - n_pos
    pos_weight = n_neg / n_pos

    model = CancelNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    for epoch in range(26):
        model.train()
        total = 0.0
        for categories, numbers, y in loader:
            logits = model(categories, numbers)
            loss = weighted_bce(logits, y, pos_weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d} loss {total / len(loader):.4f}")

    model.eval()
    with torch.no_grad():
        logits = model(test_set.categories, test_set.numbers)
    guess = (logits > 0).long().squeeze(1).numpy()
    print("balanced accuracy", balanced_accuracy_score(test_df["cancelled"], guess))


if __name__ == "__main__":
    main()
