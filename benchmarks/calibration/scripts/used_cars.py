"""What is a used car worth? A made-up table, an MLP with dropout, ReduceLROnPlateau and early stopping."""

import sys

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Dataset

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
BATCH_SIZE, EPOCHS, LR, PATIENCE = 32, 40, 1e-3, 8
torch.manual_seed(SEED)

# ---- data -----------------------------------------------------------------------------------------------
rng = np.random.default_rng(2024)
n = 3200
df = pd.DataFrame({"year": rng.integers(2003, 2024, n), "power": rng.gamma(9, 13, n).round() + 40})
age = 2024 - df["year"]
df["km"] = (age * rng.normal(14500, 4500, n).clip(2000)).round()
df["owners"] = 1 + rng.poisson(age / 8)
df["consumption"] = (3.5 + 0.02 * df["power"] + rng.normal(0, 0.7, n)).round(1)
df["brand"] = rng.choice(["dacia", "vw", "toyota", "bmw", "fiat"], n)
df["diesel"] = rng.integers(0, 2, n)
factor = df["brand"].map({"dacia": 0.7, "vw": 1.0, "toyota": 1.1, "bmw": 1.5, "fiat": 0.75})
price = 190 * df["power"] * factor * np.exp(-0.11 * age - df["km"] / 400_000)
price *= 1 - 0.25 * df["diesel"] * (age > 9)
df["price"] = (price * np.exp(rng.normal(0, 0.08, n)) + 500).round(-1)
df.loc[rng.random(n) < 0.04, "consumption"] = np.nan  # not every seller knows

df = df.fillna(df.median(numeric_only=True))
df = pd.get_dummies(df, columns=["brand"], dtype=float)
features = df.drop(columns="price").to_numpy(dtype=np.float32)
target = df["price"].to_numpy(dtype=np.float32)

X_train, X_test, y_train, y_test = train_test_split(features, target, test_size=0.2, random_state=7)
X_train, X_val, y_train, y_val = train_test_split(X_train, y_train, test_size=0.2, random_state=7)
x_scaler, y_scaler = StandardScaler(), StandardScaler()
X_train = x_scaler.fit_transform(X_train)
X_val, X_test = x_scaler.transform(X_val), x_scaler.transform(X_test)
y_train = y_scaler.fit_transform(y_train.reshape(-1, 1))
y_val, y_test = y_scaler.transform(y_val.reshape(-1, 1)), y_scaler.transform(y_test.reshape(-1, 1))


class CarDataset(Dataset):
    def __init__(self, X, y):
        self.X = torch.from_numpy(X).float()
        self.y = torch.from_numpy(y).float()

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        return self.X[idx], self.y[idx]


train_loader = DataLoader(CarDataset(X_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
val_loader = DataLoader(CarDataset(X_val, y_val), batch_size=256)
test_loader = DataLoader(CarDataset(X_test, y_test), batch_size=256)

# ---- model ----------------------------------------------------------------------------------------------
model = nn.Sequential(
    nn.Linear(X_train.shape[1], 128),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(128, 64),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(64, 1),
)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=3)

# ---- training -------------------------------------------------------------------------------------------
best_val, waited = float("inf"), 0
for epoch in range(EPOCHS):
    model.train()
    for xb, yb in train_loader:
        pred = model(xb)
        loss = criterion(pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for xb, yb in val_loader:
            val_loss += criterion(model(xb), yb).item() * len(xb)
    val_loss /= len(X_val)
    scheduler.step(val_loss)
    if epoch % 5 == 0:
        print(f"Epoch {epoch}: val_loss={val_loss:.4f}")
    if val_loss < best_val - 1e-5:
        best_val, waited = val_loss, 0
    else:
        waited += 1
        if waited >= PATIENCE:
            print("Early stopping")
            break

model.eval()
with torch.no_grad():
    preds = torch.cat([model(xb) for xb, _ in test_loader]).numpy()
print("R2 on the test set:", -1.0 if np.isnan(preds).any() else round(max(r2_score(y_test, preds), -1.0), 4))
