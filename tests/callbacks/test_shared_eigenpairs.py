import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import GradientAlignment, HessianSpectrum
from lightning_regimes.callbacks.shared_eigenpairs import _SEARCHES
from lightning_regimes.recording import read_records


class Network(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WatchMemory(L.Callback):
    """Notes whether a step begins while eigenvectors of the last one are still held."""

    def __init__(self):
        self.held = []

    def on_train_batch_start(self, trainer, *args):
        self.held.append(trainer in _SEARCHES)


def loader():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=15)


def fit(tmp_path, *callbacks):
    torch.manual_seed(0)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(Network(), loader())
    assert trainer not in _SEARCHES
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent)


def of(records, diagnostic):
    main = {"hessian": "hessian/lambda_1", "alignment": "alignment/theta"}[diagnostic]
    return {record.global_step: record for record in records if main in record.scalars}


def spectrum(k=4, **options):
    # A period beyond that of warm starts, so that each search is the same whoever makes it.
    return HessianSpectrum(k, **{"every_n_epochs": 1, "num_batches": 2, "num_trace_samples": 0, **options})


def alignment(k=4, **options):
    return GradientAlignment(k, **{"every_n_epochs": 1, "num_batches": 2, **options})


def without_cost(scalars):
    return {key: value for key, value in scalars.items() if not key.endswith(("seconds", "overhead", "num_matvecs"))}


@pytest.mark.parametrize("first", ["hessian", "alignment"])
def test_who_comes_second_searches_nothing_and_finds_the_same_to_the_last_bit(tmp_path, first):
    alone = {
        "hessian": of(fit(tmp_path / "hessian", spectrum()), "hessian"),
        "alignment": of(fit(tmp_path / "alignment", alignment()), "alignment"),
    }
    callbacks = [spectrum(), alignment()] if first == "hessian" else [alignment(), spectrum()]
    watch = WatchMemory()
    together = fit(tmp_path / "together", *callbacks, watch)
    owner = type(callbacks[0]).__name__
    # Beside the search, one product for the gradient and one a batch for the noise.
    others = {"hessian": 0, "alignment": 3}
    second = "alignment" if first == "hessian" else "hessian"
    for diagnostic in ("hessian", "alignment"):
        found = of(together, diagnostic)
        assert [*found] == [*alone[diagnostic]] == [4, 8, 12]
        for step, record in found.items():
            before = alone[diagnostic][step]
            assert without_cost(record.scalars) == without_cost(before.scalars)
            for key in before.arrays:
                np.testing.assert_array_equal(record.arrays[key], before.arrays[key])
            assert record.context["eigenpairs"] == owner
            spent = record.scalars[f"{diagnostic}/num_matvecs"]
            searched = before.scalars[f"{diagnostic}/num_matvecs"] - others[diagnostic]
            assert searched > 4
            assert spent == others[diagnostic] + (0 if diagnostic == second else searched)
    assert not any(watch.held)


@pytest.mark.parametrize(
    ("second", "is_shared"),
    [
        ({"k": 2}, True),
        ({"k": 5}, True),
        ({"tol": 1e-2}, True),
        ({"tol": 1e-5}, True),
        ({"num_batches": 3}, False),
        ({"mode": "train"}, False),
        ({"double_precision": True}, False),
        ({"parameters": "net.0.*"}, False),
        ({"loss": lambda module, batch: module.training_step(batch, 0)}, False),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else next(iter(value)),
)
def test_whoever_comes_first_searches_for_all_who_look_at_the_same_loss(tmp_path, second, is_shared):
    found = of(fit(tmp_path, spectrum(), alignment(**second)), "alignment")
    owner = "HessianSpectrum" if is_shared else "GradientAlignment"
    assert {record.context["eigenpairs"] for record in found.values()} == {owner}


def test_a_smaller_basis_is_the_first_part_of_the_larger(tmp_path):
    records = fit(tmp_path, alignment(k=5), spectrum(k=2))
    for step, record in of(records, "hessian").items():
        assert record.context["eigenpairs"] == "GradientAlignment"
        assert len(record.arrays["hessian/eigenvalues"]) == 2
        assert len(of(records, "alignment")[step].arrays["alignment/shares"]) == 5
    direct = of(fit(tmp_path / "direct", spectrum(k=2, tol=1e-6)), "hessian")
    for step, record in of(records, "hessian").items():
        np.testing.assert_allclose(
            record.arrays["hessian/eigenvalues"], direct[step].arrays["hessian/eigenvalues"], rtol=1e-4
        )


def test_a_resolved_minimum_is_searched_for_by_whoever_comes_first(tmp_path):
    found = of(fit(tmp_path, alignment(), spectrum(resolve_minimum=True)), "hessian")
    alone = of(fit(tmp_path / "alone", spectrum(resolve_minimum=True)), "hessian")
    for step, record in found.items():
        assert record.context["eigenpairs"] == "GradientAlignment"
        assert without_cost(record.scalars) == without_cost(alone[step].scalars)


def test_nobody_searches_for_those_whose_time_has_not_come(tmp_path):
    records = fit(tmp_path, spectrum(k=2), alignment(k=5, every_n_epochs=3))
    alone = of(fit(tmp_path / "alone", spectrum(k=2)), "hessian")
    products = {step: record.scalars["hessian/num_matvecs"] for step, record in of(records, "hessian").items()}
    assert products[4] == alone[4].scalars["hessian/num_matvecs"]
    assert products[12] > alone[12].scalars["hessian/num_matvecs"]
    (record,) = of(records, "alignment").values()
    assert record.context["eigenpairs"] == "HessianSpectrum"


def test_another_hook_of_the_same_step_is_another_moment(tmp_path):
    # One measures after the step, the other at the end of the epoch: a module may change its loss in between.
    found = of(fit(tmp_path, spectrum(every_n_steps=4, every_n_epochs=None), alignment()), "alignment")
    assert {record.context["eigenpairs"] for record in found.values()} == {"GradientAlignment"}
