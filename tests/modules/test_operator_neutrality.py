"""Diagnostics leave the training of an operator and of its refinement as it is, to the last bit."""

import copy
import random
import runpy
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from lightning_regimes.callbacks import HessianSpectrum, LossLandscape, RefinementCurve, RegimeDetection
from lightning_regimes.modules import IRNO, NeuralOperator
from lightning_regimes.networks import RefinementUNet

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_fields.py")))
ShiftedFields, small_fno = SYNTHETIC["ShiftedFields"], SYNTHETIC["small_fno"]
trainer = SYNTHETIC["trainer"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

OUR_KEYS = ("hessian/", "landscape/", "regime/", "refinement/")
CALLBACKS = {
    "spectrum": lambda: HessianSpectrum(1, tol=0.3, num_trace_samples=0, every_n_steps=3, on_error="raise"),
    "landscape": lambda: LossLandscape(points=5, every_n_steps=3, on_error="raise"),
    "regime": lambda: RegimeDetection(every_n_steps=2, on_error="raise"),
    "curve": lambda: RefinementCurve(every_n_epochs=1, on_error="raise"),
}


class HeldOutFields(ShiftedFields):
    def fields(self, part):
        return self.part(part, self.sizes[0])


def operator():
    return NeuralOperator(small_fno(n_modes=(2, 2), n_layers=1), periodic=True)


def refinement():
    # Batch normalisation has statistics that an evaluation in the wrong mode would change.
    network = RefinementUNet(hidden_channels=4, depth=1, normalization="batch")
    return IRNO(operator(), network, num_steps=1, random_steps=(1, 3))


def trained(make, callbacks):
    """Train, and return everything that must not depend on the callbacks."""
    L.seed_everything(0, verbose=False)
    module, runner = make(), trainer(max_epochs=2, callbacks=callbacks, log_every_n_steps=1, num_sanity_val_steps=0)
    runner.fit(module, HeldOutFields(size=8))
    logged = {name: value for name, value in runner.callback_metrics.items() if not name.startswith(OUR_KEYS)}
    tensors = [*module.state_dict().values(), *logged.values(), torch.get_rng_state()]
    for state in runner.optimizers[0].state_dict()["state"].values():
        tensors += [entry for entry in state.values() if isinstance(entry, torch.Tensor)]
    numbers = (
        list(logged),
        np.random.get_state()[1].tolist(),
        random.getstate(),
        [m.training for m in module.modules()],
    )
    return copy.deepcopy(tensors), numbers, runner.callback_metrics


@pytest.mark.parametrize(
    ("make", "names"),
    [(operator, ("spectrum", "landscape", "regime")), (refinement, ("spectrum", "landscape", "regime", "curve"))],
)
def test_training_is_bitwise_the_same(tmp_path, monkeypatch, make, names):
    monkeypatch.chdir(tmp_path)
    expected, expected_numbers, _ = trained(make, [])
    watched, numbers, logged = trained(make, [CALLBACKS[name]() for name in names])
    assert numbers == expected_numbers
    assert all(torch.equal(a, b) for a, b in zip(watched, expected, strict=True))
    measured = {key for key in logged if key.startswith(OUR_KEYS)}
    assert {"hessian/lambda_1", "regime/test_error", "regime/heldout_loss"} <= measured
    assert make is operator or "refinement/vrmse_base" in measured
