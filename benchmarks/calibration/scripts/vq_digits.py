"""Vector-quantised autoencoder of small digits: four codes of 32 entries each per picture."""

import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16.0
train_images, test_images = images[:1500], images[1500:]


class VectorQuantizer(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, commitment_cost=0.25):
        super().__init__()
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        self.embedding.weight.data.uniform_(-0.5, 0.5)
        self.commitment_cost = commitment_cost

    def forward(self, z):
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        nearest = torch.cdist(flat, self.embedding.weight).argmin(1)
        q = self.embedding(nearest).view(z.shape[0], z.shape[2], z.shape[3], -1).permute(0, 3, 1, 2)
        vq_loss = F.mse_loss(q, z.detach()) + self.commitment_cost * F.mse_loss(z, q.detach())
        q = z + (q - z).detach()
        return q, vq_loss


class VQVAE(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.enc1 = nn.Conv2d(1, 32, 3, stride=2, padding=1)
        self.enc2 = nn.Conv2d(32, dim, 3, stride=2, padding=1)
        self.vq = VectorQuantizer(32, dim)
        self.dec1 = nn.ConvTranspose2d(dim, 32, 4, stride=2, padding=1)
        self.dec2 = nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1)

    def forward(self, x):
        z = self.enc2(F.relu(self.enc1(x)))
        q, vq_loss = self.vq(z)
        recon = self.dec2(F.relu(self.dec1(q)))
        return recon, vq_loss


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
model = VQVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(20):
    model.train()
    total = 0.0
    for idx in torch.randperm(1500).split(50):
        x = train_images[idx]
        optimizer.zero_grad()
        recon, vq_loss = model(x)
        loss = F.mse_loss(recon, x) + vq_loss
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1}: {total / 30:.4f}")

model.eval()
with torch.no_grad():
    error = F.mse_loss(model(test_images)[0], test_images).item()
    flat = F.mse_loss(train_images.mean(0).expand_as(test_images), test_images).item()
print(f"explained: {max(-1.0, 1 - error / flat):.4f}")
