import math
import sys

import numpy as np
import pytest
import torch

from lightning_regimes.optim import row_dominance


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def by_loops(matrix):
    gram = matrix @ matrix.T
    rows = len(gram)
    return np.array(
        [gram[i, i] / np.mean([abs(gram[i, j]) for j in range(rows) if j != i]) for i in range(rows) if gram[i, i] > 0]
    )


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6), (4, 3, 2, 2)])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e18])
def test_ratios_and_cosine_are_their_definitions(shape, scale):
    x = gaussian(*shape)
    found = row_dominance(x * scale)
    matrix = x.flatten(1).double().numpy()
    np.testing.assert_allclose(found.ratios.numpy(), by_loops(matrix), rtol=1e-5)
    assert found.minimum == float(found.ratios.min())
    assert found.mean == pytest.approx(by_loops(matrix).mean(), rel=1e-5)
    assert found.maximum == float(found.ratios.max())
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    polar, rows = left @ right, matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosine = (polar * rows).sum() / np.linalg.norm(polar) / np.linalg.norm(rows)
    assert found.cosine == pytest.approx(cosine, abs=1e-4)


def test_rows_at_right_angles_have_both_updates_in_common():
    q = torch.linalg.qr(gaussian(8, 8, dtype=torch.float64)).Q
    found = row_dominance(torch.arange(1.0, 9.0)[:, None] * q)
    assert found.minimum > 1e10
    assert found.cosine == pytest.approx(1, abs=1e-12)
    assert row_dominance(torch.eye(3)).ratios.tolist() == [math.inf] * 3


def test_parallel_rows_are_as_far_from_it_as_can_be():
    found = row_dominance(torch.ones(4, 9))
    torch.testing.assert_close(found.ratios, torch.ones(4, dtype=torch.float64))
    # Both are the same matrix of rank one; the polar factor invents nothing in its null space.
    assert found.cosine == pytest.approx(1, abs=1e-6)


def test_rows_of_zeros_and_half_precision():
    x = gaussian(6, 10)
    x[2] = 0
    found = row_dominance(x)
    np.testing.assert_allclose(found.ratios.numpy(), by_loops(x.double().numpy()), rtol=1e-5)
    assert len(found.ratios) == 5
    nothing = row_dominance(torch.zeros(3, 3))
    assert [math.isnan(value) for value in (nothing.minimum, nothing.mean, nothing.maximum, nothing.cosine)] == [
        True
    ] * 4
    half = gaussian(6, 10, dtype=torch.float16)
    assert row_dominance(half).cosine == pytest.approx(row_dominance(half.double()).cosine, abs=1e-4)


def test_some_rows_are_taken_with_all_others(monkeypatch):
    x = gaussian(50, 7)
    every = row_dominance(x).ratios
    torch.testing.assert_close(row_dominance(x, max_rows=8).ratios, every[[0, 7, 14, 21, 28, 35, 42, 49]])
    monkeypatch.setattr(sys.modules[row_dominance.__module__], "_MOST_ENTRIES", 120)
    torch.testing.assert_close(row_dominance(x).ratios, every, rtol=1e-13, atol=0)


def test_wrong_arguments():
    for x, options, message in (
        (torch.ones(3), {}, "`x` is a matrix"),
        (torch.ones(1, 3), {}, "two rows or more"),
        (torch.ones(3, 3), {"max_rows": 0}, "`max_rows` is at least 1"),
        (torch.full((3, 3), math.nan), {}, "finite entries"),
        (torch.ones(3, 3, dtype=torch.complex64), {}, "real floating-point"),
    ):
        with pytest.raises(ValueError, match=message):
            row_dominance(x, **options)
