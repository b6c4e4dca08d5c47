"""A datamodule of random periodic fields, and the networks that the tests of operators train on it."""

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_regimes.modules import NeuralOperator


class FieldRows(torch.utils.data.Dataset):
    def __init__(self, fields: dict[str, Tensor]) -> None:
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields["x"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: field[index] for name, field in self.fields.items()}


class Normalizer:
    def __init__(self, fields: Tensor) -> None:
        self.mean, self.std = fields.mean(dim=(0, 2, 3)), fields.std(dim=(0, 2, 3))


def smooth_fields(count: int, size: int, seed: int, channels: int = 1) -> Tensor:
    """Random waves of numbers up to 3, the same functions on every grid."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = torch.randn(count, channels, 7, 7, 2, generator=generator)
    place = torch.arange(size) / size
    waves = 2 * torch.pi * torch.arange(-3, 4)[:, None] * place
    cosine, sine = waves.cos(), waves.sin()
    real = torch.einsum("bcij,ix,jy->bcxy", amplitude[..., 0], cosine, cosine)
    return 2 + (real + torch.einsum("bcij,ix,jy->bcxy", amplitude[..., 1], sine, cosine)) / 7


class ShiftedFields(L.LightningDataModule):
    """y is x moved by a quarter of the domain and squared."""

    def __init__(
        self, *, count: int = 16, size: int = 16, others: tuple[int, ...] = (), rollouts: bool = False
    ) -> None:
        super().__init__()
        self.count, self.sizes, self.rollouts = count, (size, *others), rollouts
        x = self.part("train", size)["x"]
        self.normalizers = {"x": Normalizer(x), "y": Normalizer(self.truth(x))}

    @staticmethod
    def truth(fields: Tensor) -> Tensor:
        return 0.5 * fields.roll(fields.shape[-1] // 4, dims=-1).square()

    def part(self, part: str, size: int) -> dict[str, Tensor]:
        x = smooth_fields(self.count, size, seed=("train", "val", "test").index(part))
        return {"x": x, "y": self.truth(x)}

    def dataloader_names(self, part: str) -> tuple[str, ...]:
        return (*map(str, self.sizes), *(("rollout",) if self.rollouts else ()))

    def residual(self, x: Tensor, prediction: Tensor) -> Tensor:
        return prediction - self.truth(x)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(FieldRows(self.part("train", self.sizes[0])), batch_size=8, shuffle=True)

    def val_dataloader(self) -> list[DataLoader]:
        loaders = [DataLoader(FieldRows(self.part("val", size)), batch_size=5) for size in self.sizes]
        if self.rollouts:
            fields = self.part("val", self.sizes[0])
            frames = [fields["y"]]
            for _ in range(2):
                frames.append(self.truth(frames[-1]))
            loaders.append(DataLoader(FieldRows({**fields, "trajectory": torch.cat(frames, dim=1)}), batch_size=5))
        return loaders

    def test_dataloader(self) -> list[DataLoader]:
        return self.val_dataloader()


class Exact(nn.Module):
    """The truth of the fields, scaled as a module scales them, plus an offset that can be trained."""

    def __init__(self, data: ShiftedFields) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        self.scales = [(n.mean.view(1, -1, 1, 1), n.std.view(1, -1, 1, 1)) for n in data.normalizers.values()]

    def forward(self, fields: Tensor) -> Tensor:
        (mean_x, std_x), (mean_y, std_y) = self.scales
        return (ShiftedFields.truth(fields * std_x + mean_x) - mean_y) / std_y + self.offset


def small_fno(**options: object) -> nn.Module:
    from neuralop.models import FNO

    return FNO(**{"n_modes": (4, 4), "in_channels": 1, "out_channels": 1, "hidden_channels": 4, **options})


def trainer(**options: object) -> L.Trainer:
    return L.Trainer(
        **{
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            **options,
        }
    )


def trained_operator(data: ShiftedFields, epochs: int = 1) -> NeuralOperator:
    torch.manual_seed(0)
    module = NeuralOperator(small_fno(), periodic=True)
    trainer(max_epochs=epochs, num_sanity_val_steps=0).fit(module, data)
    return module
