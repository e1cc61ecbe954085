"""Shop takings (in the manner of Rossmann): entity embeddings of the categories, batch norm, a range for the answer."""

import sys

import numpy as np
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
from torch.utils.data import DataLoader, Dataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(SEED)
torch.manual_seed(SEED)

CATEGORICAL = ["store", "weekday", "state", "holiday"]
CONTINUOUS = ["distance", "temperature", "days_since_promo"]


def load_frame(n=4000):
    rng = np.random.default_rng(42)
    store = rng.integers(0, 60, n)
    weekday = rng.integers(0, 7, n)
    state_of = rng.integers(0, 8, 60)
    holiday = rng.choice(["none", "public", "school"], n, p=[0.7, 0.1, 0.2])
    distance = rng.gamma(2.0, 1500, 60)[store]
    temperature = rng.normal(12, 8, n)
    since = rng.integers(0, 60, n).astype(float)
    level = rng.normal(8.6, 0.45, 60)
    rhythm = rng.normal(0, 0.2, (8, 7))
    log_sales = (
        level[store]
        + rhythm[state_of[store], weekday]
        + np.select([holiday == "public", holiday == "school"], [-0.6, 0.2])
        - 0.15 * np.log1p(distance / 1000)
        + 0.25 * np.exp(-since / 10)
        - 0.01 * np.abs(temperature - 15)
        + rng.normal(0, 0.12, n)
    )
    frame = {
        "store": np.array([f"store_{s:03d}" for s in store]),
        "weekday": weekday,
        "state": state_of[store],
        "holiday": holiday,
        "distance": distance,
        "temperature": temperature,
        "days_since_promo": since,
    }
    return frame, np.exp(log_sales)


class TabularDataset(Dataset):
    def __init__(self, cats, conts, y):
        self.cats = torch.as_tensor(cats, dtype=torch.long)
        self.conts = torch.as_tensor(conts, dtype=torch.float32)
        self.y = torch.as_tensor(y, dtype=torch.float32).unsqueeze(1)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, idx):
        return self.cats[idx], self.conts[idx], self.y[idx]


class TabularModel(nn.Module):
    def __init__(self, emb_szs, n_cont, layers, ps, y_range):
        super().__init__()
        self.embeds = nn.ModuleList([nn.Embedding(c, s) for c, s in emb_szs])
        for emb in self.embeds:
            nn.init.normal_(emb.weight, 0, 0.1)
        n_in = sum(s for _, s in emb_szs) + n_cont
        blocks = []
        for n_out, p in zip(layers, ps):
            blocks += [nn.Linear(n_in, n_out), nn.ReLU(inplace=True), nn.BatchNorm1d(n_out), nn.Dropout(p)]
            n_in = n_out
        self.layers = nn.Sequential(*blocks)
        self.out = nn.Linear(n_in, 1)
        self.y_range = y_range

    def forward(self, x_cat, x_cont):
        x = torch.cat([e(x_cat[:, i]) for i, e in enumerate(self.embeds)], 1)
        x = torch.cat([x, x_cont], 1)
        x = self.out(self.layers(x))
        lo, hi = self.y_range
        return torch.sigmoid(x) * (hi - lo) + lo


frame, sales = load_frame()
encoders = {name: LabelEncoder().fit(frame[name]) for name in CATEGORICAL}
cats = np.stack([encoders[name].transform(frame[name]) for name in CATEGORICAL], axis=1)
conts = np.stack([frame[name] for name in CONTINUOUS], axis=1)
y = np.log(sales)

cat_tr, cat_va, con_tr, con_va, y_tr, y_va = train_test_split(cats, conts, y, test_size=0.25, random_state=1)
scaler = StandardScaler().fit(con_tr)
con_tr, con_va = scaler.transform(con_tr), scaler.transform(con_va)
y_range = (y_tr.min() - 0.3, y_tr.max() + 0.3)

train_dl = DataLoader(TabularDataset(cat_tr, con_tr, y_tr), batch_size=64, shuffle=True)
valid_dl = DataLoader(TabularDataset(cat_va, con_va, y_va), batch_size=250)

emb_szs = [(len(e.classes_), min(50, len(e.classes_) // 2 + 1)) for e in encoders.values()]
model = TabularModel(emb_szs, len(CONTINUOUS), [96, 48], [0.05, 0.05], y_range)
loss_fn = nn.MSELoss()
n_epochs = 8
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=1e-2, epochs=n_epochs, steps_per_epoch=len(train_dl)
)


def train_one(dl):
    model.train()
    total = 0
    for xc, xn, yb in dl:
        pred = model(xc, xn)
        loss = loss_fn(pred, yb)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        sched.step()
        total += loss.item() * len(yb)
    return total / len(dl.dataset)


@torch.no_grad()
def r2(dl):
    model.eval()
    pred = torch.cat([model(xc, xn) for xc, xn, _ in dl])
    true = torch.cat([yb for _, _, yb in dl])
    return (1 - ((pred - true) ** 2).mean() / true.var()).item()


for epoch in range(n_epochs):
    train_loss = train_one(train_dl)
    print(f"{epoch:2d}  {train_loss:.4f}  r2 {r2(valid_dl):.4f}")
