"""Training by spectra alone: it lowers the loss, resumes to the bit, leaves out broken steps and measures."""

import math

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_regimes.datamodules import SyntheticSpectra
from lightning_regimes.modules import AutoSpec
from lightning_regimes.optim import AdamFactory
from lightning_regimes.spectral.solve_loss import unrolled_cg_loss
from lightning_regimes.spectral.spectrum_batch import draw_spectra

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def data(**options):
    small = {"batch_size": 8, "size": 48, "steps_per_epoch": 4, "num_validation": 8, "validation": ("bcsstk01",)}
    return SyntheticSpectra(**small | options)


def trainer(tmp_path, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        **{"enable_checkpointing": False} | quiet | options,
    )


def parameters(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.engine.parameters()])


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    # After five of twelve steps, in the middle of the second epoch.
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=5, save_top_k=-1)
    whole = AutoSpec(width=16)
    trainer(tmp_path, max_epochs=3, callbacks=[saving], enable_checkpointing=True).fit(whole, data())
    resumed = AutoSpec(width=16)
    trainer(tmp_path, max_epochs=3).fit(resumed, data(), ckpt_path=tmp_path / "step=5.ckpt")
    assert torch.equal(parameters(resumed), parameters(whole))
    assert not torch.equal(parameters(whole), parameters(AutoSpec(width=16)))


@pytest.mark.parametrize(("num_steps", "target"), [(3, 1e-8), (12, 1e-2)])
def test_the_loss_is_the_logarithm_of_the_iterations_of_conjugate_gradients(num_steps, target):
    batch = draw_spectra(6, seed=1, size=40)
    options = {"num_steps": num_steps, "target": target, "positivity": 0.0}
    with torch.no_grad():
        recurrence = AutoSpec()(batch.probe)
        found = float(unrolled_cg_loss(recurrence, *batch[:2], batch.upper, **options))
    logarithms = []
    for values, vector, inverse in zip(*batch[:2], recurrence.inverse(batch.eigenvalues), strict=True):
        # The error of conjugate gradients is the least over the Krylov space, here by dense algebra.
        root = values.sqrt()
        errors, space = [1.0], [inverse * vector]
        for _ in range(num_steps):
            basis = torch.linalg.qr(root[:, None] * torch.stack(space, 1)).Q
            left = vector / root - basis @ (basis.T @ (vector / root))
            errors.append(float(left.norm() / (vector / root).norm()))
            step = inverse * values * basis[:, -1] / root
            space.append(step / step.norm())
        heights = [math.log(error / target) for error in errors]
        if heights[-1] > 0:
            # Not there yet: on at the mean rate.
            count = num_steps * heights[0] / (heights[0] - heights[-1])
        else:
            last = next(k for k, height in enumerate(heights) if height <= 0)
            count = last - 1 + heights[last - 1] / (heights[last - 1] - heights[last])
        logarithms.append(math.log(count))
    assert found == pytest.approx(sum(logarithms) / 6, rel=1e-4)


def test_the_penalty_is_of_inverses_that_are_not_positive():
    batch = draw_spectra(4, seed=2, size=40)
    recurrence = AutoSpec()(batch.probe)
    free = unrolled_cg_loss(recurrence, *batch[:2], batch.upper, num_steps=3, positivity=0.0)
    assert torch.equal(free, unrolled_cg_loss(recurrence, *batch[:2], batch.upper, num_steps=3))
    beyond = unrolled_cg_loss(recurrence, *batch[:2], 1.3 * batch.upper, num_steps=3)
    assert float(beyond.detach()) > float(free.detach()) + 0.2
    assert float(AutoSpec()._task.loss(AutoSpec().engine, batch).detach()) < float(AutoSpec().trivial_loss(batch))


def test_an_inverse_that_is_not_positive_has_finite_gradients():
    batch = draw_spectra(4, seed=2, size=40)
    batch = batch._replace(upper=0.5 * batch.upper)
    module = AutoSpec()
    module.diagnostic_loss(batch).backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in module.engine.parameters())


def test_a_step_without_a_finite_gradient_is_left_out_and_counted(tmp_path):
    class Broken(AutoSpec):
        def training_step(self, batch, batch_idx=0):
            loss = super().training_step(batch, batch_idx)
            return loss * torch.nan if batch_idx == 1 else loss

    module = Broken(width=16)
    trainer(tmp_path, max_epochs=1).fit(module, data(validation=()))
    assert int(module.num_skipped) == 1
    assert bool(torch.isfinite(parameters(module)).all())


def test_it_measures_real_operators_and_begins_at_its_base(tmp_path):
    module = AutoSpec(width=16)
    (metrics, *_) = trainer(tmp_path).validate(module, data(validation=("bcsstk01", "lund_b")), verbose=False)
    metrics = {key: float(value) for key, value in trainer_metrics(module).items()}
    assert metrics["val/ratio_to_base"] == 1
    assert metrics["val/loss"] == metrics["val/base_loss"]
    product = metrics["val/reduction/bcsstk01"] * metrics["val/reduction/lund_b"]
    assert metrics["val/reduction"] == pytest.approx(math.sqrt(product), rel=1e-5)
    assert metrics["val/efficiency"] == pytest.approx(metrics["val/reduction"] / 8, rel=1e-5)
    assert 2 < metrics["val/reduction/bcsstk01"] < 4


def trainer_metrics(module):
    return module.trainer.callback_metrics


def test_training_lowers_the_loss_below_the_classical_rule(tmp_path):
    module = AutoSpec(width=32, steps=12)
    spectra = SyntheticSpectra(
        batch_size=32, size=64, steps_per_epoch=60, num_validation=128, validation=(), families=["low_outliers"]
    )
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(module, spectra)
    assert float(fitted.callback_metrics["val/loss"]) < float(fitted.callback_metrics["val/base_loss"]) - 0.005


def test_what_is_out_of_range_is_said():
    with pytest.raises(ValueError, match="`task` is one of"):
        AutoSpec("invert")
    with pytest.raises(ValueError, match="`steps` is at least 1"):
        AutoSpec(steps=0)


@pytest.mark.parametrize(("task", "probe_size"), [("function", 12), ("filter", 10)])
def test_the_other_tasks_begin_at_their_base_and_lower_their_loss(task, probe_size, tmp_path):
    module = AutoSpec(task, degree=10, probe_size=probe_size, width=32, optimizer=AdamFactory(lr=1e-3))
    spectra = SyntheticSpectra(
        batch_size=32,
        size=64,
        steps_per_epoch=200,
        probe_size=probe_size,
        probe_noise=0.0,
        condition_max=1e4,
        num_validation=128,
        families=["power_decay", "low_outliers"],
        validation=("bcsstk01",),
    )
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.validate(module, spectra, verbose=False)
    before = {key: float(value) for key, value in fitted.callback_metrics.items()}
    assert before["val/loss"] == before["val/base_loss"]
    ratio = "ratio_to_base" if task == "function" else "products_to_base"
    assert before[f"val/{ratio}"] == 1
    fitted.fit(module, spectra)
    assert float(fitted.callback_metrics["val/loss"]) < before["val/base_loss"] - 0.0005
    if task == "filter":
        assert float(fitted.callback_metrics["val/products_to_jackson"]) < 0.5
