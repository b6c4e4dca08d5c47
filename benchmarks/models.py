"""Briefly trained networks of a few kinds, with probe batches: the points at which curvature is measured.

Everything is seeded and offline: scikit-learn's handwritten digits, and the text of Python's own language reference.
"""

from __future__ import annotations

import contextlib
import itertools
import pydoc_data.topics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

Batch = tuple[Tensor, Tensor]

CONTEXT = 64


@dataclass(frozen=True)
class Case:
    """A trained network and the batches on which its mean loss is looked at."""

    name: str
    module: nn.Module
    batches: list[Batch]

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross entropy over all positions."""
    return functional.cross_entropy(output.flatten(0, -2), target.flatten())


def loss(module: nn.Module, batch: Batch) -> Tensor:
    """Return the mean loss of a module on a batch."""
    return cross_entropy(module(batch[0]), batch[1])


def multilayer_perceptron(*widths: int) -> nn.Sequential:
    """Return a ReLU network with the given widths."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional_network() -> nn.Sequential:
    """Return two convolutions and two dense layers for one-channel 28 × 28 images, 39 thousand parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(784, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    )


def strided_network() -> nn.Sequential:
    """Return a network of strided convolutions and GELUs for one-channel 28 × 28 images, 34 thousand parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(1024, 10),
    )


class Block(nn.Module):
    """A pre-norm transformer block with causal attention."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states after the block, shape (batch, time, width)."""
        batch, time, width = hidden.shape
        packed = self.query_key_value(self.attention_norm(hidden)).view(batch, time, 3, self.num_heads, -1)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.projection(mixed.transpose(1, 2).reshape(batch, time, width))
        return hidden + self.network(self.network_norm(hidden))


class LanguageModel(nn.Module):
    """A character-level transformer, 0.84 million parameters with its defaults."""

    def __init__(self, vocabulary: int = 128, width: int = 128, depth: int = 4, num_heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, num_heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits, shape (batch, time, vocabulary)."""
        hidden = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return self.head(self.norm(self.blocks(hidden)))


def small_convolutional_network() -> nn.Sequential:
    """Return two convolutions and a dense layer for one-channel 8 × 8 images, 2.5 thousand parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 14, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(56, 20),
        nn.ReLU(),
        nn.Linear(20, 10),
    )


def tiny(*, num_steps: int = 100) -> Case:
    """Return a 64-20-20-10 network on digits, small enough for a dense Hessian."""
    images, labels = _digits()
    with _seeded():
        module = multilayer_perceptron(64, 20, 20, 10)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        _train(module, _shuffled(images.flatten(1), labels, size=64), optimizer, num_steps=num_steps)
    return Case("tiny", module, [(images[:256].flatten(1), labels[:256])])


def digits_perceptron(batch_size: int) -> Case:
    """Return a 64-32-10 network on one batch of digits."""
    images, labels = _digits()
    with _seeded():
        module = multilayer_perceptron(64, 32, 10)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        _train(module, _shuffled(images.flatten(1), labels, size=64), optimizer, num_steps=200)
    return Case("digits", module, [(images[:batch_size].flatten(1), labels[:batch_size])])


def small_convolutional() -> Case:
    """Return a convolutional network on digits of 8 × 8 pixels, small enough for a dense Hessian."""
    images, labels = _digits()
    with _seeded():
        module = small_convolutional_network()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
        _train(module, _shuffled(images, labels, size=64), optimizer, num_steps=200)
    return Case("small CNN", module, [(images[:256], labels[:256])])


def perceptron() -> Case:
    """Return a 784-512-512-10 network on digits of 28 × 28 pixels."""
    images, labels = _digits(pixels=28)
    with _seeded():
        module = multilayer_perceptron(784, 512, 512, 10)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
        _train(module, _shuffled(images.flatten(1), labels, size=64), optimizer, num_steps=50)
    return Case("MLP", module, [(images[:256].flatten(1), labels[:256])])


def convolutional() -> Case:
    """Return a convolutional network on digits of 28 × 28 pixels."""
    images, labels = _digits(pixels=28)
    with _seeded():
        module = convolutional_network()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
        _train(module, _shuffled(images, labels, size=64), optimizer, num_steps=100)
    return Case("CNN", module, [(images[:256], labels[:256])])


def strided() -> Case:
    """Return a convolutional network of another kind on digits of 28 × 28 pixels."""
    images, labels = _digits(pixels=28)
    with _seeded():
        module = strided_network()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
        _train(module, _shuffled(images, labels, size=64), optimizer, num_steps=100)
    return Case("strided", module, [(images[:256], labels[:256])])


def language_model(*, sgd: bool = False) -> Case:
    """Return a character-level transformer on Python's language reference, trained by AdamW or by SGD."""
    text = torch.tensor([min(ord(c), 127) for c in "".join(pydoc_data.topics.topics.values())[:200_000]])
    windows = text[: len(text) // CONTEXT * CONTEXT].view(-1, CONTEXT)
    with _seeded():
        module = LanguageModel()
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
        if sgd:
            optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
        _train(module, _shuffled(windows[:, :-1], windows[:, 1:], size=8), optimizer, num_steps=100)
    return Case("GPT-SGD" if sgd else "GPT", module, [(windows[:8, :-1], windows[:8, 1:])])


def unequal_batches() -> Case:
    """Return the tiny network on three batches of 200, 50 and 6 samples."""
    case = tiny()
    inputs, targets = case.batches[0]
    batches = list(zip(inputs.split([200, 50, 6]), targets.split([200, 50, 6]), strict=True))
    return Case("unequal", case.module, batches)


CASES: dict[str, Callable[[], Case]] = {
    "tiny": tiny,
    "MLP": perceptron,
    "CNN": convolutional,
    "strided": strided,
    "GPT": language_model,
    "GPT-SGD": lambda: language_model(sgd=True),
    "unequal": unequal_batches,
}


def _digits(*, pixels: int = 8) -> Batch:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
    if pixels != 8:
        images = functional.interpolate(images, size=pixels, mode="bilinear")
    return images, torch.tensor(data.target)


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _shuffled(inputs: Tensor, targets: Tensor, *, size: int) -> Iterator[Batch]:
    while True:
        for indices in torch.randperm(len(inputs)).split(size):
            yield inputs[indices], targets[indices]


def _train(module: nn.Module, batches: Iterator[Batch], optimizer: torch.optim.Optimizer, *, num_steps: int) -> None:
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss(module, next(batches)).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
