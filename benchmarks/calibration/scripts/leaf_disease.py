# Leaf diseases from small pictures, after the PyTorch tutorial "Training a Classifier" (the pictures are painted here).
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, TensorDataset

classes = ("healthy", "rust", "mildew", "blight")
seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)


def paint_leaf(label, rng, size=32):
    yy, xx = np.mgrid[0:size, 0:size]
    img = np.empty((size, size, 3))
    img[:] = rng.uniform(90, 150, 3)  # soil, stones, a hand ...
    cy, cx = rng.uniform(13, 19, 2)
    leaf = ((yy - cy) / rng.uniform(10, 14)) ** 2 + ((xx - cx) / rng.uniform(7, 11)) ** 2 < 1
    img[leaf] = [rng.uniform(40, 90), rng.uniform(110, 170), rng.uniform(30, 70)]
    ys, xs = np.nonzero(leaf)
    if label == 1:  # many small orange spots
        for k in rng.integers(0, len(ys), rng.integers(6, 14)):
            spot = (yy - ys[k]) ** 2 + (xx - xs[k]) ** 2 < rng.uniform(1.5, 3)
            img[spot & leaf] = [rng.uniform(160, 200), rng.uniform(90, 120), 40]
    elif label == 2:  # white powder
        img[leaf & (rng.random((size, size)) < rng.uniform(0.15, 0.4))] += 90
    elif label == 3:  # a large brown patch
        k = rng.integers(0, len(ys))
        patch = (yy - ys[k]) ** 2 + (xx - xs[k]) ** 2 < rng.uniform(20, 50)
        img[patch & leaf] = [rng.uniform(90, 120), rng.uniform(60, 90), 40]
    img = img * rng.uniform(0.8, 1.2) + rng.normal(0, 10, img.shape)
    return img.clip(0, 255).astype(np.uint8)


def load(per_class, seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), per_class)
    images = np.stack([paint_leaf(label, rng) for label in labels])
    images = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    images = (images - 0.45) / 0.2
    return TensorDataset(images, torch.from_numpy(labels))


batch_size = 16
trainset = load(350, seed=1)
testset = load(100, seed=2)
trainloader = DataLoader(trainset, batch_size=batch_size, shuffle=True)
testloader = DataLoader(testset, batch_size=batch_size, shuffle=False)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(8, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 96)
        self.fc2 = nn.Linear(96, 48)
        self.fc3 = nn.Linear(48, len(classes))

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = torch.flatten(x, 1)  # flatten all dimensions except batch
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        return x


net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(net.parameters(), lr=0.005, momentum=0.9)

for epoch in range(9):  # loop over the dataset multiple times
    net.train()
    running_loss = 0.0
    for i, data in enumerate(trainloader, 0):
        inputs, labels = data
        # zero the parameter gradients
        optimizer.zero_grad()
        # forward + backward + optimize
        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        # print statistics
        running_loss += loss.item()
        if i % 40 == 39:
            print(f"[{epoch + 1}, {i + 1:5d}] loss: {running_loss / 40:.3f}")
            running_loss = 0.0

print("Finished Training")

net.eval()
correct = 0
total = 0
with torch.no_grad():
    for images, labels in testloader:
        outputs = net(images)
        _, predicted = torch.max(outputs, 1)
        total += labels.size(0)
        correct += (predicted == labels).sum().item()
print("Accuracy of the network on the test leaves:", correct / total)
