import random

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from lightning_regimes.callbacks import HessianSpectrum, RandomState, RegimeDetection


class Noisy(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        return self.net(batch + 0.1 * float(np.random.rand()) + 0.1 * random.random()).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


def train(folder, callbacks, *, epochs=4, ckpt_path=None, shuffle=True):
    L.seed_everything(5, verbose=False)
    model = Noisy()
    checkpoint = ModelCheckpoint(folder / "checkpoints", save_top_k=-1, filename="{step}", every_n_train_steps=2)
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, checkpoint],
    )
    data = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    if ckpt_path is not None:  # a resumed process has drawn something else by now
        torch.randn(7), np.random.rand(7), random.random()
    trainer.fit(model, DataLoader(data, 10, shuffle=shuffle), ckpt_path=ckpt_path)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach()


# A shuffled epoch is resumed from its start, so that within one only an unshuffled loader can continue.
@pytest.mark.parametrize(("step", "shuffle"), [(8, True), (8, False)])
def test_a_resumed_run_draws_what_the_uninterrupted_one_draws(tmp_path, step, shuffle):
    whole = train(tmp_path / "whole", [RandomState()], shuffle=shuffle)
    checkpoint = tmp_path / "whole" / "checkpoints" / f"step={step}.ckpt"
    assert torch.equal(train(tmp_path / "resumed", [RandomState()], ckpt_path=checkpoint, shuffle=shuffle), whole)
    assert not torch.equal(train(tmp_path / "forgetful", [], ckpt_path=checkpoint, shuffle=shuffle), whole)


def test_within_an_epoch_the_generators_continue_at_the_next_batch(tmp_path):
    states = {}

    class Watch(L.Callback):
        def __init__(self, name):
            self.name = name

        def on_train_batch_start(self, trainer, *_):
            states.setdefault(self.name, {})[trainer.global_step] = torch.get_rng_state(), random.getstate()

    train(tmp_path / "whole", [RandomState(), Watch("whole")])
    checkpoint = tmp_path / "whole" / "checkpoints" / "step=6.ckpt"
    train(tmp_path / "resumed", [RandomState(), Watch("resumed")], ckpt_path=checkpoint)
    assert min(states["resumed"]) == 6
    assert torch.equal(states["resumed"][6][0], states["whole"][6][0])
    assert states["resumed"][6][1] == states["whole"][6][1]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_resumed_run_with_diagnostics_is_the_resumed_run_without(tmp_path):
    watching = lambda: [HessianSpectrum(2, every_n_steps=3), RegimeDetection(every_n_steps=2)]  # noqa: E731
    train(tmp_path / "part", watching(), epochs=2)
    checkpoint = tmp_path / "part" / "checkpoints" / "step=8.ckpt"
    bare = train(tmp_path / "bare", [], ckpt_path=checkpoint)
    assert torch.equal(train(tmp_path / "watched", watching(), ckpt_path=checkpoint), bare)
