import lightning as L
import numpy as np
import pytest
import torch

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import GradientAlignment
from lightning_regimes.callbacks.gradient_alignment import noise_of
from lightning_regimes.datamodules import GaussianNoise
from lightning_regimes.modules import NoisyQuadratic
from lightning_regimes.recording import read_records
from lightning_regimes.theory import quadratic_sgd, steady_alignment


class Positions(L.Callback):
    def __init__(self):
        self.seen = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen[trainer.global_step] = pl_module.x.detach().double().clone()


def fit(tmp_path, module, data, callback, *, max_steps):
    positions = Positions()
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=max_steps,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[positions, callback],
    )
    trainer.fit(module, data)
    (path,) = tmp_path.rglob("records.jsonl")
    records = [record for record in read_records(path.parent.parent) if "alignment/theta" in record.scalars]
    return records, positions.seen


def test_alignment_is_that_of_the_true_gradient_and_theory_stands_beside_it(tmp_path):
    module = NoisyQuadratic(size=60, num_dominant=6)
    callback = GradientAlignment(6, every_n_steps=5, num_batches=3)
    records, positions = fit(tmp_path, module, GaussianNoise(size=60), callback, max_steps=20)
    assert len(records) == 4
    values = module.eigenvalues.double()
    for record in records:
        x = positions[record.global_step]
        state = quadratic_sgd(values, x, 0.25, num_dominant=6)
        squares = (values * x).square()
        assert record.scalars["alignment/theta"] == pytest.approx(float(squares[:6].sum() / squares.sum()), rel=1e-4)
        assert record.scalars["alignment/theory_critical_step_size"] == pytest.approx(state.critical_step_size)
        steady = steady_alignment(values, 0.25, num_dominant=6, step_size=0.003)
        assert record.scalars["alignment/theory_theta"] == pytest.approx(steady)


def test_gradients_of_batches_differ_from_the_full_one_by_their_noise():
    module, data = NoisyQuadratic(size=40, num_dominant=4), GaussianNoise(size=40, steps_per_epoch=3)
    batches = list(data.train_dataloader())
    probe = LossProbe(module, batches)
    noisy = probe.with_loss(lambda module, batch: module.stochastic_loss(batch)).batch_gradients()
    torch.testing.assert_close(noisy - probe.gradient()[:, None], torch.cat(batches).T, atol=1e-4, rtol=0)


@pytest.mark.reproduction
def test_alignment_falls_and_then_settles_where_theory_says(tmp_path):
    module = NoisyQuadratic()
    callback = GradientAlignment(50, every_n_steps=25)
    records, _ = fit(tmp_path, module, GaussianNoise(), callback, max_steps=3000)
    theta = np.array([record.scalars["alignment/theta"] for record in records])
    steady = records[-1].scalars["alignment/theory_theta"]
    assert steady == pytest.approx(0.7172, abs=1e-4)
    assert theta[:8].min() < 0.25 * steady
    assert theta[-40:].mean() == pytest.approx(steady, abs=0.01)


def test_noise_has_its_deviation_and_differs_between_epochs():
    data = GaussianNoise(size=1000, standard_deviation=0.5, steps_per_epoch=20)
    noise = torch.cat(list(data.train_dataloader()))
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    data.trainer = type("Trainer", (), {"current_epoch": 1})()
    assert not torch.equal(torch.cat(list(data.train_dataloader())), noise)


def test_noise_around_an_estimated_mean_has_the_variance_of_single_gradients():
    weights = (0.1, 0.2, 0.7)
    columns = torch.randn(40_000, 3, generator=torch.Generator().manual_seed(0))
    noise = noise_of(columns, columns @ torch.tensor(weights), weights)
    torch.testing.assert_close(noise.square().mean(0), torch.ones(3), atol=0.03, rtol=0)


@pytest.mark.parametrize(("options", "message"), [({"gap": 1.0}, "`gap`"), ({"num_dominant": 500}, "`num_dominant`")])
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NoisyQuadratic(**options)
