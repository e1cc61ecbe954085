"""Neural collaborative filtering of implicit feedback: two embeddings, an MLP on top, sampled negatives."""

import sys

import numpy as np
import torch
import torch.nn as nn
import torch.utils.data as data

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)
np.random.seed(seed)

NUM_USERS, NUM_ITEMS = 150, 200


def load_interactions():
    rng = np.random.default_rng(4)
    taste = rng.normal(size=(NUM_USERS, 3))
    kind = rng.normal(size=(NUM_ITEMS, 3))
    liking = (
        taste @ kind.T + 0.7 * rng.normal(size=(1, NUM_ITEMS)) + 0.5 * rng.gumbel(size=(NUM_USERS, NUM_ITEMS))
    )
    seen = np.zeros((NUM_USERS, NUM_ITEMS), dtype=bool)
    best = np.argsort(-liking, axis=1)[:, :44]
    np.put_along_axis(seen, best, True, axis=1)
    pairs = np.argwhere(seen)
    rng.shuffle(pairs)
    return pairs[:5200], pairs[5200:], seen


train_pairs, test_pairs, seen = load_interactions()


class NCFData(data.Dataset):
    def __init__(self, positives, num_ng):
        self.positives = positives
        self.num_ng = num_ng

    def ng_sample(self):
        negatives = []
        for u, _ in self.positives:
            for _ in range(self.num_ng):
                j = np.random.randint(NUM_ITEMS)
                while seen[u, j]:
                    j = np.random.randint(NUM_ITEMS)
                negatives.append([u, j])
        negatives = np.array(negatives, dtype=int).reshape(-1, 2)
        self.features = np.concatenate([self.positives, negatives])
        self.labels = np.concatenate([np.ones(len(self.positives)), np.zeros(len(negatives))])

    def __len__(self):
        return len(self.features)

    def __getitem__(self, idx):
        user, item = self.features[idx]
        return user, item, np.float32(self.labels[idx])


class NCF(nn.Module):
    def __init__(self, user_num, item_num, factor_num, dropout):
        super(NCF, self).__init__()
        self.embed_user = nn.Embedding(user_num, factor_num)
        self.embed_item = nn.Embedding(item_num, factor_num)
        self.mlp = nn.Sequential(
            nn.Linear(factor_num * 2, 48),
            nn.ReLU(),
            nn.Dropout(p=dropout),
            nn.Linear(48, 24),
            nn.ReLU(),
        )
        self.predict_layer = nn.Linear(24, 1)
        self._init_weight_()

    def _init_weight_(self):
        nn.init.normal_(self.embed_user.weight, std=0.1)
        nn.init.normal_(self.embed_item.weight, std=0.1)
        for m in self.mlp:
            if isinstance(m, nn.Linear):
                nn.init.xavier_uniform_(m.weight)
        nn.init.kaiming_uniform_(self.predict_layer.weight, a=1, nonlinearity="sigmoid")

    def forward(self, user, item):
        interaction = torch.cat((self.embed_user(user), self.embed_item(item)), -1)
        output = self.mlp(interaction)
        prediction = self.predict_layer(output)
        return prediction.view(-1)


train_dataset = NCFData(train_pairs, num_ng=1)
train_dataset.ng_sample()
train_loader = data.DataLoader(train_dataset, batch_size=128, shuffle=True)
test_dataset = NCFData(test_pairs, num_ng=1)
test_dataset.ng_sample()

model = NCF(NUM_USERS, NUM_ITEMS, 16, 0.1)
loss_function = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

for epoch in range(9):
    model.train()
    train_loader.dataset.ng_sample()
    for user, item, label in train_loader:
        model.zero_grad()
        prediction = model(user, item)
        loss = loss_function(prediction, label)
        loss.backward()
        optimizer.step()
    print(f"The loss after epoch {epoch:03d}: {loss.item():.4f}")

model.eval()
with torch.no_grad():
    users = torch.from_numpy(test_dataset.features[:, 0])
    items = torch.from_numpy(test_dataset.features[:, 1])
    said = (model(users, items) > 0).numpy()
print("accuracy on unseen pairs:", (said == test_dataset.labels).mean())
