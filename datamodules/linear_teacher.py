"""Targets that a matrix of low rank makes of whitened inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal, get_args

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.datamodules.collocation import Steps

Inputs = Literal["identity", "whitened", "gaussian"]


class LinearTeacher(L.LightningDataModule):
    r"""One full batch :math:`(X, X T^T)` with :math:`T = U V^T` of rank r and unit singular values.

    Args:
        input_size: :math:`d_0`, columns of X and T.
        output_size: :math:`d_L`, rows of T.
        rank: r.
        inputs: ``"identity"`` for X = I; ``"whitened"`` for random X with :math:`X^T X = I`; ``"gaussian"`` for
            independent entries of variance 1/N, for which that holds on average.
        num_samples: N, rows of X; ``"identity"`` has ``input_size``.
        steps_per_epoch: how often an epoch shows the batch.
        seed: of the private generator of X, U and V.

    Raises:
        ValueError: a number is out of range.

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation, arXiv:2602.00545;
        sizes, rank and inputs are those of its published code.
    """

    def __init__(
        self,
        *,
        input_size: int = 16,
        output_size: int = 10,
        rank: int = 5,
        inputs: Inputs = "identity",
        num_samples: int = 64,
        steps_per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if inputs not in get_args(Inputs):
            raise ValueError(f"`inputs` is one of {', '.join(get_args(Inputs))}, got {inputs!r}")
        if not 1 <= rank <= min(input_size, output_size):
            raise ValueError(f"`rank` lies between 1 and the smaller size, got {rank} of {input_size}, {output_size}")
        if inputs == "whitened" and num_samples < input_size:
            raise ValueError(
                f"`num_samples` of whitened inputs is at least `input_size`={input_size}, got {num_samples}"
            )
        if num_samples < 1 or steps_per_epoch < 1:
            raise ValueError("`num_samples` and `steps_per_epoch` are at least 1")
        self.save_hyperparameters()
        self.steps_per_epoch = steps_per_epoch
        generator = torch.Generator().manual_seed(seed)
        left, right = (_orthonormal(size, rank, generator) for size in (output_size, input_size))
        #: T, shape (output_size, input_size), float64.
        self.target = left @ right.T
        if inputs == "identity":
            samples = torch.eye(input_size, dtype=torch.float64)
        elif inputs == "whitened":
            samples = _orthonormal(num_samples, input_size, generator)
        else:
            samples = _normal(num_samples, input_size, generator) / num_samples**0.5
        #: Whether the inputs are white exactly, as the closed form of the spectrum asks for.
        self.is_whitened = inputs != "gaussian"
        self._samples = samples

    def train_dataloader(self) -> Steps:
        """Return the same batch again and again."""
        dtype = torch.get_default_dtype()
        batch = self._samples.to(dtype), (self._samples @ self.target.T).to(dtype)

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            return itertools.repeat(batch, self.steps_per_epoch)

        return Steps(self.steps_per_epoch, batches)


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Random orthonormal columns."""
    return torch.linalg.qr(_normal(rows, columns, generator)).Q
