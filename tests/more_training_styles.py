"""More sound training loops: less common parts of PyTorch, losses that tell little."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  (the name that everybody uses)
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from training_data import digits, digits_loader, made_regression, made_texts, ring
from training_styles import Watch, perceptron


def half_precision_with_scaler(watch: Watch) -> list[nn.Module]:
    """A gradient scaler whose first scale overflows: its first steps are left out."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=50)
    with watch(model, optimizer):
        for _epoch in range(6):
            for inputs, labels in digits_loader(64):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = F.cross_entropy(model(inputs), labels)
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                scaler.step(optimizer)
                scaler.update()
    return [model]


class Checkpointed(nn.Module):
    """Residual blocks whose activations are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 32)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.1)) for _ in range(3)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        return self.head(x)


def checkpointed_blocks(watch: Watch) -> list[nn.Module]:
    model = Checkpointed()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    with watch(model, optimizer):
        for _epoch in range(5):
            for inputs, labels in digits_loader(64):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
    return [model]


class BagOfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(12, 8, sparse=True)
        self.score = nn.Linear(8, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.score(self.words(tokens).sum(1))


def sparse_embeddings(watch: Watch) -> list[nn.Module]:
    """Sparse gradients need an optimiser of their own, beside that of the rest."""
    tokens, _, labels = made_texts()
    loader = DataLoader(TensorDataset(tokens, labels.long()), batch_size=32, shuffle=True)
    model = BagOfWords()
    optimizers = [
        torch.optim.SparseAdam(list(model.words.parameters()), lr=1e-2),
        torch.optim.Adam(model.score.parameters(), lr=1e-2),
    ]
    with watch(model, optimizers):
        for _epoch in range(6):
            for batch, answer in loader:
                for optimizer in optimizers:
                    optimizer.zero_grad()
                F.cross_entropy(model(batch), answer).backward()
                for optimizer in optimizers:
                    optimizer.step()
    return [model]


class Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(48, 4), nn.Linear(48, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return self.decoder(code), mean, log_variance


def variational_autoencoder(watch: Watch) -> list[nn.Module]:
    model = Variational()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer, goal="loss<2000"):
        for _epoch in range(8):
            for inputs, _labels in digits_loader(64):
                image, mean, log_variance = model(inputs)
                fidelity = F.binary_cross_entropy(image, inputs, reduction="sum")
                divergence = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
                optimizer.zero_grad()
                (fidelity + divergence).backward()
                optimizer.step()
    return [model]


def loader_with_workers(watch: Watch) -> list[nn.Module]:
    """Processes that load the batches are forked while the training is watched."""
    inputs, labels = digits()
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=128, shuffle=True, num_workers=1)
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer):
        for _epoch in range(4):
            for batch, answer in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(batch), answer).backward()
                optimizer.step()
    return [model]


def encoder_and_decoder_optimisers(watch: Watch) -> list[nn.Module]:
    """Two parts of one network, each with its optimiser; both step for the same loss."""
    encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 12))
    decoder = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 64))
    first = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    second = torch.optim.Adam(decoder.parameters(), lr=3e-3)
    with watch({"encoder": encoder, "decoder": decoder}, [first, second]):
        for _epoch in range(8):
            for inputs, _labels in digits_loader(64):
                noisy = inputs + 0.05 * torch.randn_like(inputs)
                loss = F.mse_loss(decoder(encoder(noisy)), inputs)
                first.zero_grad()
                second.zero_grad()
                loss.backward()
                first.step()
                second.step()
    return [encoder, decoder]


def weights_in_plain_tensors(watch: Watch) -> list[nn.Module]:
    """No layers at all: products of parameters in a list."""
    inputs, targets = made_regression()
    weights = nn.ParameterList([torch.randn(12, 24) / 12**0.5, torch.zeros(24), torch.randn(24, 1) / 24**0.5])
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
    with watch(weights, optimizer, goal="loss<0.2"):
        for _step in range(300):
            hidden = torch.tanh(inputs @ weights[0] + weights[1])
            loss = ((hidden @ weights[2] - targets) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [weights]


def wasserstein_gan_with_penalty(watch: Watch) -> list[nn.Module]:
    """Three steps of the critic for one of the generator; the penalty differentiates twice."""
    generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    critic = nn.Sequential(nn.Linear(2, 32), nn.Softplus(), nn.Linear(32, 1))
    for_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.0, 0.9))
    for_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
    with watch([generator, critic], [for_generator, for_critic]):
        for _step in range(80):
            for _inner in range(3):
                real, fake = ring(32), generator(torch.randn(32, 4)).detach()
                between = torch.lerp(real, fake, torch.rand(32, 1)).requires_grad_()
                (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
                penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
                loss = critic(fake).mean() - critic(real).mean() + 10 * penalty
                for_critic.zero_grad()
                loss.backward()
                for_critic.step()
            loss = -critic(generator(torch.randn(32, 4))).mean()
            for_generator.zero_grad()
            loss.backward()
            for_generator.step()
    return [generator, critic]


def policy_gradient(watch: Watch) -> list[nn.Module]:
    """A bandit with a context: the loss is a surrogate whose value says nothing."""
    policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    with watch(policy, optimizer):
        for _step in range(150):
            best = torch.randint(4, (64,))
            choice = torch.distributions.Categorical(logits=policy(F.one_hot(best, 4).float()))
            action = choice.sample()
            reward = (action == best).float()
            loss = (
                -(choice.log_prob(action) * (reward - reward.mean())).mean() - 0.01 * choice.entropy().mean()
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [policy]


def contrastive_pairs(watch: Watch) -> list[nn.Module]:
    """One network for both views of an image; the loss compares every pair of the batch."""
    network = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    with watch(network, optimizer):
        for _epoch in range(6):
            for inputs, _labels in digits_loader(64):
                views = [inputs + 0.1 * torch.randn_like(inputs) for _ in range(2)]
                one, two = (F.normalize(network(view), dim=1) for view in views)
                loss = F.cross_entropy(one @ two.T / 0.2, torch.arange(len(inputs)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return [network]
