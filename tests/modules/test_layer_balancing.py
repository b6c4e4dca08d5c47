"""Training with balanced layers follows theory, step by step."""

import lightning as L
import pytest
import torch

from lightning_regimes.callbacks import LayerSplit
from lightning_regimes.datamodules import LinearTeacher
from lightning_regimes.modules import LayerBalancing
from lightning_regimes.recording import read_records

WIDTH = 40


class Losses(L.Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        metrics = trainer.callback_metrics
        self.values.append((float(metrics["train/loss"]), float(metrics["theory/loss"])))


def fit(folder, module, *callbacks, max_steps=5, width=WIDTH, **options):
    trainer = L.Trainer(
        default_root_dir=folder,
        max_steps=max_steps,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(module, datamodule=LinearTeacher(input_size=width, output_size=width, rank=width))
    return trainer


@pytest.mark.parametrize(("first_share", "balance_steps"), [(0.5, 1), (0.02, 1), (0.2, 3)])
def test_loss_is_that_of_theory_at_each_step(tmp_path, first_share, balance_steps):
    losses = Losses()
    module = LayerBalancing(WIDTH, first_share=first_share, balance_steps=balance_steps)
    fit(tmp_path, module, losses)
    measured, theory = torch.tensor(losses.values).T
    torch.testing.assert_close(measured, theory, rtol=1e-4, atol=1e-7)
    assert measured[0] > 20 * measured[-1] or first_share == 0.5
    torch.testing.assert_close(theory.double(), module.theoretical_losses(4), rtol=1e-6, atol=0)
    assert module.reference_error() == pytest.approx((2 * float(module.theoretical_losses(5)[-1])) ** 0.5, rel=1e-3)


def test_one_unequal_step_is_faster_than_equal_rates(tmp_path):
    after = {}
    for share in (0.02, 0.5):
        module = LayerBalancing(WIDTH, first_share=share)
        fit(tmp_path, module, max_steps=4)
        after[share] = module.reference_error()
    assert after[0.02] < 0.7 * after[0.5]


def test_split_before_training_has_theory_beside_it(tmp_path):
    """And later there is none: theory knows the start alone."""
    module = LayerBalancing(200)
    fit(tmp_path, module, LayerSplit(num_batches=1, every_n_steps=2), max_steps=2, width=200)
    (path,) = tmp_path.rglob("records.jsonl")
    first, later = read_records(path.parent.parent)
    torch.testing.assert_close(
        torch.from_numpy(first.arrays["layer_split/losses"]),
        torch.from_numpy(first.arrays["layer_split/theory_losses"]),
        rtol=1e-5,
        atol=0,
    )
    assert first.scalars["layer_split/best_share_1"] in (0.0, 1.0)
    assert first.scalars["layer_split/best_share_2"] == 0.5
    assert "layer_split/theory_losses" not in later.arrays


def test_what_is_wrong_is_said(tmp_path):
    for options, message in (
        ({"width": 1}, "`width` is at least 2"),
        ({"scaled_sum": 0.0}, "`scaled_sum` is positive"),
        ({"first_share": 1.5}, "`first_share` is between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            LayerBalancing(**options)
    with pytest.raises(ValueError, match=r"needs a `target` of shape \(10, 10\)"):
        fit(tmp_path, LayerBalancing(10))
