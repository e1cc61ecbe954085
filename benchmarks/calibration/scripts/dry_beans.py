"""Sort dry beans into seven varieties by the shape of their outline (measured by a camera; made up here)."""

import copy
import sys

import numpy as np
import torch
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

#            long axis, its spread, long / short, spread of it, roughness
VARIETIES = {
    "barbunya": (370, 26, 1.54, 0.09, 0.030),
    "bombay": (590, 42, 1.57, 0.09, 0.022),
    "cali": (405, 24, 1.73, 0.08, 0.024),
    "dermason": (245, 18, 1.49, 0.07, 0.012),
    "horoz": (372, 24, 2.02, 0.10, 0.021),
    "seker": (252, 17, 1.22, 0.06, 0.012),
    "sira": (300, 19, 1.57, 0.07, 0.016),
}


def measure(per_variety, rng):
    rows, names = [], []
    for name, (length, spread, ratio, ratio_spread, rough) in VARIETIES.items():
        major = rng.normal(length, spread, per_variety)
        aspect = rng.normal(ratio, ratio_spread, per_variety).clip(1.02)
        minor = major / aspect
        area = np.pi / 4 * major * minor * rng.normal(1, 0.01, per_variety)
        rim = np.pi * (3 * (major + minor) - np.sqrt((3 * major + minor) * (major + 3 * minor))) / 2
        rim = rim * (1 + np.abs(rng.normal(rough, 0.008, per_variety)))
        hull = area * (1 + np.abs(rng.normal(rough / 2, 0.004, per_variety)))
        eccentricity = np.sqrt(1 - 1 / aspect**2)
        diameter = np.sqrt(4 * area / np.pi)
        roundness = 4 * np.pi * area / rim**2
        solidity = area / hull
        rows.append(
            np.stack(
                [
                    area,
                    rim,
                    major,
                    minor,
                    aspect,
                    eccentricity,
                    hull,
                    diameter,
                    roundness,
                    solidity,
                    major / area,
                ],
                axis=1,
            )
        )
        names += [name] * per_variety
    return np.concatenate(rows), np.array(names)


def get_loaders(seed, batch_size=64):
    X, names = measure(450, np.random.default_rng(seed))
    y = LabelEncoder().fit_transform(names)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)
    X_train, X_val, y_train, y_val = train_test_split(X_train, y_train, test_size=0.15, random_state=seed)
    scaler = StandardScaler().fit(X_train)
    sets = []
    for features, labels in ((X_train, y_train), (X_val, y_val), (X_test, y_test)):
        features = scaler.transform(features)
        sets.append(TensorDataset(torch.tensor(features, dtype=torch.float32), torch.tensor(labels)))
    train_loader = DataLoader(sets[0], batch_size=batch_size, shuffle=True)
    return train_loader, DataLoader(sets[1], batch_size=256), DataLoader(sets[2], batch_size=256)


def build_model(n_features, n_classes, width=64, depth=4):
    layers = []
    for i in range(depth):
        layers += [nn.Linear(n_features if i == 0 else width, width), nn.ReLU()]
    layers.append(nn.Linear(width, n_classes))
    return nn.Sequential(*layers)


def run_epoch(model, loader, loss_fn, optimizer=None):
    training = optimizer is not None
    model.train(training)
    total, predictions, truths = 0.0, [], []
    with torch.set_grad_enabled(training):
        for xb, yb in loader:
            out = model(xb)
            loss = loss_fn(out, yb)
            if training:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total += loss.item() * len(xb)
            predictions.append(out.argmax(1))
            truths.append(yb)
    f1 = f1_score(torch.cat(truths), torch.cat(predictions), average="macro")
    return total / len(loader.dataset), f1


def main(seed):
    np.random.seed(seed)
    torch.manual_seed(seed)
    train_loader, val_loader, test_loader = get_loaders(seed)
    model = build_model(11, len(VARIETIES))
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)

    best, best_state, patience = float("inf"), copy.deepcopy(model.state_dict()), 0
    for epoch in range(40):
        train_loss, train_f1 = run_epoch(model, train_loader, loss_fn, optimizer)
        val_loss, val_f1 = run_epoch(model, val_loader, loss_fn)
        scheduler.step()
        print(f"{epoch:3d}  train {train_loss:.3f} / {train_f1:.3f}   val {val_loss:.3f} / {val_f1:.3f}")
        if val_loss < best:
            best, best_state, patience = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            patience += 1
        if patience == 10:
            print("no better for ten epochs, stopping")
            break

    model.load_state_dict(best_state)
    _, test_f1 = run_epoch(model, test_loader, loss_fn)
    print("test F1 (macro):", round(test_f1, 4))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
