import lightning as L
import numpy as np
import pytest
import torch

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import HessianSpectrum
from lightning_regimes.curvature import HessianOperator
from lightning_regimes.datamodules import LinearTeacher
from lightning_regimes.modules import DeepLinear
from lightning_regimes.recording import read_records

# Mean dominant over mean bulk eigenvalue of the default network after 1000 steps, from the exact dynamics of its modes.
RATIOS = {2: 1.994, 3: 2.908, 4: 3.697, 5: 4.378, 6: 4.974, 7: 5.501}


def fit(tmp_path, module, *, max_steps, callbacks=(), teacher=None):
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=max_steps,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, teacher or LinearTeacher())
    return trainer


def measured(tmp_path, depth, max_steps):
    callback = HessianSpectrum(105, certify=True, num_trace_samples=0, every_n_steps=max_steps)
    fit(tmp_path, DeepLinear(depth), max_steps=max_steps, callbacks=[callback])
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent)[-1]


@pytest.mark.parametrize("depth", [3, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (2, 4, 5, 6, 7))])
def test_measured_spectrum_of_a_training_parts_as_the_modes_do(tmp_path, depth):
    record = measured(tmp_path, depth, 1000)
    assert record.scalars["hessian/bifurcation_ratio"] == pytest.approx(RATIOS[depth], abs=2e-3)
    assert record.scalars["hessian/theory_bifurcation_ratio"] == pytest.approx(RATIOS[depth], abs=2e-3)
    assert record.scalars["hessian/converged"] == 1
    np.testing.assert_allclose(
        record.arrays["hessian/eigenvalues"], record.arrays["hessian/theory_eigenvalues"], atol=1e-3
    )


@pytest.mark.slow
def test_dominant_and_bulk_values_of_three_layers_after_two_thousand_steps(tmp_path):
    scalars = measured(tmp_path, 3, 2000).scalars
    assert scalars["hessian/dominant_mean"] == pytest.approx(3.0, abs=2e-3)
    assert scalars["hessian/bulk_mean"] == pytest.approx(1.0224, abs=2e-3)
    assert scalars["hessian/bifurcation_ratio"] == pytest.approx(2.934, abs=2e-3)


@pytest.mark.parametrize("inputs", ["identity", "whitened"])
def test_theory_is_the_dense_hessian_on_whitened_inputs(tmp_path, inputs):
    module = DeepLinear(3, width=6, input_size=5, output_size=4)
    teacher = LinearTeacher(input_size=5, output_size=4, rank=2, inputs=inputs, num_samples=12)
    fit(tmp_path, module, max_steps=30, teacher=teacher)
    (batch,) = set(teacher.train_dataloader())
    probe = LossProbe(module, [batch], dtype=torch.float64)
    dense = HessianOperator(probe) @ torch.eye(probe.num_parameters, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(dense).flip(0)
    torch.testing.assert_close(module.theoretical_eigenvalues(), expected, atol=1e-5, rtol=0)
    assert module.expected_multiplicities() == (4, 10)


def test_nothing_is_known_without_alignment_or_with_an_activation(tmp_path):
    for module in (DeepLinear(aligned=False), DeepLinear(activation="tanh")):
        fit(tmp_path, module, max_steps=2)
        assert module.theoretical_eigenvalues() is None
    assert DeepLinear(activation="tanh").reference_error() is None


def test_nothing_is_known_on_inputs_that_are_white_only_on_average(tmp_path):
    module = DeepLinear()
    fit(tmp_path, module, max_steps=1, teacher=LinearTeacher(inputs="gaussian"))
    assert module.theoretical_eigenvalues() is None


def test_a_resumed_training_keeps_its_weights(tmp_path):
    module = DeepLinear()
    fit(tmp_path, module, max_steps=5)
    before = module.network.product().detach().clone()
    fit(tmp_path, module, max_steps=0)
    assert torch.equal(module.network.product(), before)


def test_what_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="`depth`"):
        DeepLinear(0)
    with pytest.raises(ValueError, match="`target` has shape"):
        fit(tmp_path, DeepLinear(input_size=4), max_steps=1)
    with pytest.raises(ValueError, match="`aligned` needs a datamodule"):
        L.Trainer(logger=False, barebones=True).fit(DeepLinear(), [torch.eye(16)])
