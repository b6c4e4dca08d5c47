import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import GaussianNoise


class Collecting(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append(batch)
        return self.weight.square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def collect(tmp_path, data):
    module = Collecting()
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    L.Trainer(default_root_dir=tmp_path, accelerator="cpu", max_epochs=2, enable_model_summary=False, **options).fit(
        module, datamodule=data
    )
    return torch.cat(module.batches)


def test_the_noise_has_its_moments_and_is_new_in_every_epoch_but_the_same_in_every_run(tmp_path):
    first, second = (
        collect(tmp_path, GaussianNoise(size=400, standard_deviation=0.5, steps_per_epoch=50)) for _ in range(2)
    )
    assert first.shape == (100, 400)
    assert torch.equal(first, second)
    assert not torch.equal(first[:50], first[50:])
    # Four standard errors of 40000 numbers.
    assert abs(first.mean().item()) < 4 * 0.5 / 200
    assert abs(first.var().item() - 0.25) < 4 * 0.25 * (2 / 40000) ** 0.5


@pytest.mark.parametrize("option", [{"size": 0}, {"steps_per_epoch": 0}, {"standard_deviation": 0.0}])
def test_numbers_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}`"):
        GaussianNoise(**option)
