"""A small study for the tests: two learning rates, two activations."""

import tomllib

STUDY = """
[study]
name = "points"
seeds = 130
epochs = 400
success = {accuracy = 1.0, mse = 0.1}
[data]
name = "alternating"
points = [0.0, 0.5, 1.0]
[network]
layers = [{type="Linear", out=4}, {type="ReLU"}, {type="Linear", out=2}, {type="Sigmoid"}]
[train]
loss = "MSELoss"
optimizer = {type="SGD", lr=0.5}
batch_size = 1
[init]
weights = {scheme="uniform", low=-1.0, high=1.0}
bias = {scheme="uniform", low=-1.0, high=1.0}
[factors]
"train.optimizer.lr" = [0.5, 1]
"network.layers.1.type" = ["Sigmoid", "ReLU"]
"""


def tables():
    return tomllib.loads(STUDY)


def rows(result):
    return result.relation().fetchall()
