"""Facial keypoints: a CNN says where the eyes and the mouth are (faces made up, 32 by 32, grey)."""

import sys

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, random_split

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
np.random.seed(seed)
torch.manual_seed(seed)

IMG = 32


def draw_face(rng):
    yy, xx = np.mgrid[0:IMG, 0:IMG].astype(np.float32)
    cx, cy = rng.uniform(11, 21, 2)
    size, tilt = rng.uniform(5.5, 9.0), rng.uniform(-0.4, 0.4)
    face = 90 + 80 * (((xx - cx) ** 2 + (1.2 * (yy - cy) / 1.3) ** 2) < (1.5 * size) ** 2)
    points = []
    for px, py, dark, wide in [(-0.55, -0.4, 110, 1.4), (0.55, -0.4, 110, 1.4), (0.0, 0.7, 80, 2.4)]:
        x = cx + size * (px * np.cos(tilt) - py * np.sin(tilt))
        y = cy + size * (px * np.sin(tilt) + py * np.cos(tilt))
        face = face - dark * np.exp(-(((xx - x) / wide) ** 2) - ((yy - y) / 1.3) ** 2)
        points += [x, y]
    face = face + rng.normal(0, 12, face.shape)
    return np.clip(face, 0, 255).astype(np.uint8), np.array(points, dtype=np.float32)


class Normalize:
    """Pixels about zero, coordinates from -1 to 1."""

    def __call__(self, sample):
        image, keypoints = sample["image"], sample["keypoints"]
        image = (image / 255.0 - 0.45) / 0.2
        keypoints = (keypoints - IMG / 2) / (IMG / 2)
        return {"image": image, "keypoints": keypoints}


class RandomFlip:
    """Left to right; the eyes change places as well."""

    def __call__(self, sample):
        image, keypoints = sample["image"], sample["keypoints"]
        if np.random.rand() < 0.5:
            image = image[:, ::-1].copy()
            keypoints = keypoints * np.array([-1, 1, -1, 1, -1, 1])
            keypoints = keypoints[[2, 3, 0, 1, 4, 5]]
        return {"image": image, "keypoints": keypoints}


class ToTensor:
    def __call__(self, sample):
        image = torch.tensor(sample["image"], dtype=torch.float32).unsqueeze(0)
        keypoints = torch.tensor(sample["keypoints"], dtype=torch.float32)
        return {"image": image, "keypoints": keypoints}


class FacialKeypointsDataset(Dataset):
    def __init__(self, n, transforms):
        rng = np.random.default_rng(3)
        self.faces = [draw_face(rng) for _ in range(n)]
        self.transforms = transforms

    def __len__(self):
        return len(self.faces)

    def __getitem__(self, idx):
        image, keypoints = self.faces[idx]
        sample = {"image": image, "keypoints": keypoints}
        for transform in self.transforms:
            sample = transform(sample)
        return sample


class KeypointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, padding=2)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.conv3 = nn.Conv2d(24, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.relu = nn.ReLU()
        self.drop = nn.Dropout(0.1)
        self.fc1 = nn.Linear(32 * 4 * 4, 96)
        self.fc2 = nn.Linear(96, 6)

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.pool(self.relu(self.conv3(x)))
        x = x.view(x.size(0), -1)
        x = self.drop(self.relu(self.fc1(x)))
        return self.fc2(x)


dataset = FacialKeypointsDataset(1200, [Normalize(), RandomFlip(), ToTensor()])
train_set, valid_set = random_split(dataset, [1000, 200], generator=torch.Generator().manual_seed(0))
train_loader = DataLoader(train_set, batch_size=20, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=50)

net = KeypointNet()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(net.parameters(), lr=0.001)


def valid():
    net.eval()
    outputs, truths = [], []
    with torch.no_grad():
        for data in valid_loader:
            outputs.append(net(data["image"]))
            truths.append(data["keypoints"])
    outputs, truths = torch.cat(outputs), torch.cat(truths)
    return 1 - ((outputs - truths) ** 2).mean().item() / truths.var(dim=0).mean().item()


n_epochs = 6
for epoch in range(n_epochs):
    net.train()
    running_loss = 0.0
    for batch_i, data in enumerate(train_loader):
        images = data["image"]
        key_pts = data["keypoints"]
        output_pts = net(images)
        loss = criterion(output_pts, key_pts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    print(f"Epoch: {epoch + 1}, Avg. Loss: {running_loss / (batch_i + 1):.5f}, explained: {valid():.3f}")

print("Finished Training, share of the scatter explained:", valid())
