"""Whatever multiplies vectors is an operator."""

import numpy as np
import pytest
import scipy.sparse
import torch

from lightning_regimes.curvature import from_scipy
from lightning_regimes.spectral import as_operator

MATRIX = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]], dtype=torch.float64)
VECTOR = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)


@pytest.mark.parametrize(
    "operator",
    [
        MATRIX,
        MATRIX.to_sparse_coo(),
        MATRIX.numpy(),
        scipy.sparse.csr_array(MATRIX.numpy()),
        from_scipy(MATRIX.numpy()),
    ],
    ids=["dense", "sparse", "array", "scipy", "operator"],
)
def test_forms_of_a_matrix_multiply_alike_and_count(operator):
    made = as_operator(operator)
    torch.testing.assert_close(made @ VECTOR, MATRIX @ VECTOR)
    both = torch.stack([VECTOR, -VECTOR], 1)
    torch.testing.assert_close(made @ both, MATRIX @ both)
    assert made.num_matvecs == 3
    assert made.shape == (3, 3)


def test_a_function_is_an_operator_of_the_size_that_is_given():
    made = as_operator(lambda vector: MATRIX @ vector, size=3)
    torch.testing.assert_close(made @ torch.eye(3, dtype=torch.float64), MATRIX)
    assert made.num_matvecs == 3
    single = as_operator(lambda vector: vector, size=2, dtype=torch.float32)
    with pytest.raises(TypeError, match="float32"):
        single @ VECTOR


def test_what_is_none_is_said():
    with pytest.raises(ValueError, match="`size` says"):
        as_operator(lambda vector: vector)
    with pytest.raises(TypeError, match="a matrix, an operator or a function"):
        as_operator(3)
    with pytest.raises(ValueError, match="square"):
        as_operator(torch.ones(2, 3))
    with pytest.raises(ValueError, match="real"):
        as_operator(np.eye(2, dtype=complex))
