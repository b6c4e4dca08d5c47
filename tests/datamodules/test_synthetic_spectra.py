"""Spectra follow from the seed and the number of a batch, and real operators are what they are called."""

import pytest
import torch

from lightning_regimes.datamodules import SyntheticSpectra
from lightning_regimes.spectral.spectrum_families import FAMILIES


def small(**options):
    return SyntheticSpectra(**{"batch_size": 4, "size": 64, "steps_per_epoch": 3, "validation": ()} | options)


def test_batches_are_the_same_for_the_same_number_and_differ_otherwise():
    first, again, other = small().training_batch(5), small().training_batch(5), small().training_batch(6)
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
    assert not torch.equal(small(seed=1).training_batch(5).eigenvalues, first.eigenvalues)
    assert len(list(small().train_dataloader())) == 3
    assert torch.equal(next(iter(small().train_dataloader())).eigenvalues, small().training_batch(0).eigenvalues)


def test_sizes_are_in_their_range_one_for_each_batch():
    data = small(size=(32, 200))
    sizes = [data.training_batch(number).eigenvalues.shape for number in range(30)]
    assert all(count == 4 and 32 <= size <= 200 for count, size in sizes)
    assert min(sizes)[1] < 60 < 110 < max(sizes)[1]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_has_its_condition_number_at_most_and_ends_at_one(family):
    for seed in range(5):
        for condition in (10.0, 1e5):
            generator = torch.Generator().manual_seed(seed)
            values = FAMILIES[family](64, condition, generator)
            assert values.shape == (64,)
            assert bool((values.diff() >= 0).all())
            assert float(values[-1]) == 1
            # An anisotropic Laplacian on so many points is worse conditioned than an isotropic one.
            assert float(values[0]) >= 0.999 / condition / (1000 if family == "laplacian" else 1)


def test_power_decay_and_laplacians_are_the_formulas():
    values = FAMILIES["power_decay"](100, 1e4, torch.Generator())
    torch.testing.assert_close(values, (torch.arange(1, 101, dtype=torch.float64) / 100) ** 2, rtol=1e-12, atol=0)
    seen = FAMILIES["laplacian"](64, 100.0, torch.Generator().manual_seed(3))
    assert float(seen[-1] / seen[0]) > 30


def test_half_of_the_probes_are_off_by_no_more_than_the_noise():
    exact, noisy = small(batch_size=200, probe_noise=0.0), small(batch_size=200, probe_noise=0.05)
    ritz, off = exact.training_batch(0).ritz, noisy.training_batch(0).ritz
    changed = (ritz != off).any(-1)
    assert 70 < int(changed.sum()) < 130
    # Values may change places, so compare what is in order.
    assert float((off / ritz - 1).abs().max()) <= 0.0501


def test_validation_has_real_operators_of_unit_diagonal():
    data = small(validation=("bcsstk01", "poisson_7"))
    spectra, operators = data.val_dataloader()
    (batch,) = spectra
    assert batch.eigenvalues.shape == (256, 64)
    samples = list(operators)
    assert [sample.name for sample in samples] == ["bcsstk01", "poisson_7"]
    assert [sample.operator.shape[0] for sample in samples] == [48, 49]
    for sample in samples:
        matrix = sample.operator @ torch.eye(sample.operator.shape[0], dtype=torch.float64)
        torch.testing.assert_close(matrix, matrix.T)
        torch.testing.assert_close(matrix.diagonal(), torch.ones(len(matrix), dtype=torch.float64))
    # The smallest eigenvalue of the Laplacian on a square is known; its diagonal is 4.
    smallest = torch.linalg.eigvalsh(matrix)[0]
    assert float(smallest) == pytest.approx((2 - 2 * torch.cos(torch.tensor(torch.pi / 8)).item()) * 2 / 4, rel=1e-6)


def test_what_is_out_of_range_is_said():
    with pytest.raises(ValueError, match="`families` are among"):
        small(families=["uniform"])
    with pytest.raises(ValueError, match="`size` is at least `probe_size` = 65"):
        small(probe_size=65)
    with pytest.raises(ValueError, match="`condition_min` is above 1"):
        small(condition_min=1.0)
    with pytest.raises(ValueError, match="path of a Matrix Market file"):
        small(validation=("nos9",))
    with pytest.raises(ValueError, match="`batch_size` is at least 1"):
        small(batch_size=0)
    with pytest.raises(ValueError, match="`probe_noise`"):
        small(probe_noise=0.5)
