"""Which of 24 badges is in the picture? ArcFace: normalised embeddings, an angular margin, SGD with warm-up."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("seed", type=int, nargs="?", default=0)
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--wd", type=float, default=5e-4)
parser.add_argument("--scale", type=float, default=12.0)
parser.add_argument("--margin", type=float, default=0.2)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--emb", type=int, default=32)
args = parser.parse_args()
N_ID = 24


def make_badges(per_id, gen, patterns):
    """Every badge shifted, lit from one side, with noise; all of one badge after another."""
    images, ids = [], []
    for who, pattern in enumerate(patterns):
        for _ in range(per_id):
            dy, dx = torch.randint(-3, 4, (2,), generator=gen).tolist()
            gain, tilt = torch.rand(2, generator=gen).tolist()
            x = torch.roll(pattern, (dy, dx), dims=(0, 1)) * (0.6 + gain)
            x = x + (tilt - 0.5) * torch.linspace(-3, 3, 16) + 0.3 * torch.randn(16, 16, generator=gen)
            images.append(x)
            ids.append(who)
    return torch.stack(images).unsqueeze(1), torch.tensor(ids)


class Backbone(nn.Module):
    def __init__(self, emb):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 48, 3, padding=1)
        self.act = nn.PReLU()
        self.fc = nn.Linear(48 * 4 * 4, emb)

    def forward(self, x):
        x = F.max_pool2d(self.act(self.conv1(x)), 2)
        x = F.max_pool2d(self.act(self.conv2(x)), 2)
        x = self.act(self.conv3(x))
        return F.normalize(self.fc(x.flatten(1)), dim=1)


class ArcMarginProduct(nn.Module):
    def __init__(self, emb, n_id, s, m):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_id, emb))
        nn.init.xavier_uniform_(self.weight)
        self.s, self.cos_m, self.sin_m = s, math.cos(m), math.sin(m)
        self.th, self.mm = math.cos(math.pi - m), math.sin(math.pi - m) * m

    def forward(self, emb, label):
        cosine = F.linear(emb, F.normalize(self.weight))
        sine = torch.sqrt(1.0 - cosine.pow(2) + 1e-6)
        phi = cosine * self.cos_m - sine * self.sin_m
        phi = torch.where(cosine > self.th, phi, cosine - self.mm)
        one_hot = F.one_hot(label, len(self.weight)).float()
        return self.s * (one_hot * phi + (1 - one_hot) * cosine)


def main():
    gen = torch.Generator().manual_seed(99)
    coarse = torch.randn(N_ID, 1, 6, 6, generator=gen)
    patterns = F.interpolate(coarse, size=(16, 16), mode="bilinear").squeeze(1)
    train_x, train_id = make_badges(80, gen, patterns)
    test_x, test_id = make_badges(20, gen, patterns)

    torch.manual_seed(args.seed)
    backbone = Backbone(args.emb)
    margin = ArcMarginProduct(args.emb, N_ID, args.scale, args.margin)
    params = [*backbone.parameters(), *margin.parameters()]
    optimizer = torch.optim.SGD(params, lr=args.lr, momentum=0.9, weight_decay=args.wd)

    step = 0
    for epoch in range(args.epochs):
        backbone.train()
        order = torch.randperm(len(train_x))
        for rows in order.split(48):
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = args.lr * min(1.0, step / 40)
            optimizer.zero_grad()
            embeddings = backbone(train_x[rows])
            loss = F.cross_entropy(margin(embeddings, train_id[rows]), train_id[rows])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.4f}")

    backbone.eval()
    with torch.no_grad():
        cosines = backbone(test_x) @ F.normalize(margin.weight).T
    print("rank-1:", (cosines.argmax(dim=1) == test_id).float().mean().item())


if __name__ == "__main__":
    main()
