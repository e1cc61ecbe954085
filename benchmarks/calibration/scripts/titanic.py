"""Who survives a shipwreck? A made-up table in the manner of a Kaggle notebook: fillna, dummies, BCELoss."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(SEED)
torch.manual_seed(SEED)


def read_table(n=1500):
    rng = np.random.default_rng(1912)
    pclass = rng.choice([1, 2, 3], n, p=[0.25, 0.25, 0.5])
    sex = rng.choice([0, 1], n)
    age = rng.gamma(6, 5, n)
    sibsp = rng.poisson(0.5, n)
    parch = rng.poisson(0.4, n)
    fare = rng.lognormal(4.6 - 0.7 * pclass, 0.4)
    embarked = rng.choice([0, 1, 2], n)
    family = sibsp + parch
    z = (
        3.4 * sex
        + 1.1 * (2 - pclass)
        + 2.6 * (age < 15)
        - 1.2 * (family > 2)
        - 1.3
        - 1.5 * sex * (pclass == 3)
    )
    survived = (2.0 * z + rng.logistic(size=n) > 0).astype(np.float32)
    age[rng.random(n) < 0.15] = np.nan
    return {
        "PassengerId": np.arange(1.0, n + 1),
        "Pclass": pclass,
        "Sex": sex,
        "Age": age,
        "SibSp": sibsp,
        "Parch": parch,
        "Fare": fare,
        "Embarked": embarked,
        "Survived": survived,
    }


table = read_table()
table["Age"] = np.where(np.isnan(table["Age"]), np.nanmedian(table["Age"]), table["Age"])
table["Age"] = table["Age"] / 80
table["Fare"] = np.log1p(table["Fare"]) / 5
columns = [table["Sex"], table["Age"], table["Fare"], table["SibSp"] / 4, table["Parch"] / 4]
for value in (1, 2, 3):
    columns.append(table["Pclass"] == value)
for value in (0, 1, 2):
    columns.append(table["Embarked"] == value)
features = np.stack(columns, axis=1).astype(np.float32)
target = table["Survived"].reshape(-1, 1)

x_train, y_train = torch.from_numpy(features[:1100]), torch.from_numpy(target[:1100])
x_test, y_test = torch.from_numpy(features[1100:]), torch.from_numpy(target[1100:])


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.fc1 = nn.Linear(features.shape[1], 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 1)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = self.dropout(F.relu(self.fc1(x)))
        x = F.relu(self.fc2(x))
        x = torch.sigmoid(self.fc3(x))
        return x


model = Net()
criterion = nn.BCELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.002)

batch_size = 50
n_epochs = 30
batch_no = len(x_train) // batch_size

for epoch in range(n_epochs):
    train_loss = 0
    model.train()
    order = np.random.permutation(len(x_train))
    for i in range(batch_no):
        rows = order[i * batch_size : (i + 1) * batch_size]
        x_var, y_var = x_train[rows], y_train[rows]
        optimizer.zero_grad()
        output = model(x_var)
        loss = criterion(output, y_var)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * batch_size
    if epoch % 5 == 0:
        print(f"Epoch: {epoch + 1} \tTraining Loss: {train_loss / len(x_train):.4f}")

model.eval()
with torch.no_grad():
    said = (model(x_test) > 0.5).float()
right = [(said[y_test == k] == k).float().mean().item() for k in (0, 1)]
print("recall of both:", right, "mean:", sum(right) / 2)
