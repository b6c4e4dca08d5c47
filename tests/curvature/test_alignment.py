import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_regimes import LossProbe
from lightning_regimes.curvature import (
    HessianOperator,
    SubspaceTerms,
    alignment_report,
    critical_step_size,
    dominant_alignment,
    eigsh,
    predict_update,
    subspace_overlap,
)


class Quadratic(nn.Module):
    """½ (x − x₀)ᵀ A (x − x₀) with A = Q diag(λ) Qᵀ."""

    def __init__(self, eigenvalues, coordinates, rotation):
        super().__init__()
        self.matrix = rotation @ torch.diag(eigenvalues) @ rotation.T
        self.x = nn.Parameter(rotation @ coordinates)


def state(seed, size=30, k=4):
    """Eigenvalues with a gap after k, coordinates, noise in the eigenbasis, and a rotation; in float64."""
    generator = torch.Generator().manual_seed(seed)
    bulk = torch.rand(size - k, generator=generator, dtype=torch.float64) + 0.1
    dominant = torch.rand(k, generator=generator, dtype=torch.float64) * 5 + 5
    eigenvalues = torch.cat([dominant, bulk]).sort(descending=True).values
    coordinates = torch.randn(size, generator=generator, dtype=torch.float64)
    noise = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    return eigenvalues, coordinates, noise, rotation


def probed(eigenvalues, coordinates, rotation, k=4):
    module = Quadratic(eigenvalues, coordinates, rotation)
    probe = LossProbe(module, [None], loss=lambda m, _: 0.5 * m.x @ m.matrix @ m.x)
    operator = HessianOperator(probe)
    return probe, operator, eigsh(operator, k, tol=1e-9)


def coordinate_terms(eigenvalues, coordinates, noise, part):
    """The sums of the paper, over the eigenvalues of one subspace."""
    values, c, xi = eigenvalues[part], coordinates[part], noise[part]
    return {
        "s": float((values**2 * c**2).sum()),
        "tau": float((values**3 * c**2).sum()),
        "q": float((values**4 * c**2).sum()),
        "n": float((values[:, None] * xi**2).sum(0).mean()),
        "e": float((values[:, None] ** 2 * xi**2).sum(0).mean()),
    }


@pytest.mark.parametrize("seed", range(5))
def test_operator_form_equals_coordinate_form(seed):
    eigenvalues, coordinates, noise, rotation = state(seed)
    probe, operator, pairs = probed(eigenvalues, coordinates, rotation)
    before = operator.num_matvecs
    report = alignment_report(operator, pairs, probe.gradient(), noise=rotation @ noise)
    assert operator.num_matvecs - before == report.num_matvecs == 4
    d = coordinate_terms(eigenvalues, coordinates, noise, slice(0, 4))
    b = coordinate_terms(eigenvalues, coordinates, noise, slice(4, None))
    assert report.theta == pytest.approx(d["s"] / (d["s"] + b["s"]), rel=1e-6)
    assert report.chi == pytest.approx(math.sqrt(report.theta))
    assert report.chance == 4 / 30
    for terms, expected in ((report.dominant, d), (report.bulk, b)):
        assert terms.critical_loss_step_size == pytest.approx(
            2 * expected["s"] / (expected["tau"] + expected["n"]), rel=1e-6
        )
    expected = 2 * (b["s"] * d["tau"] - d["s"] * b["tau"]) / (b["s"] * (d["q"] + d["e"]) - d["s"] * (b["q"] + b["e"]))
    if expected > 0:
        assert report.critical_step_size == pytest.approx(expected, rel=1e-6)
        assert not report.is_self_correcting
    else:
        assert report.is_self_correcting


@pytest.mark.parametrize("seed", range(5))
def test_expected_alignment_changes_its_sign_at_the_critical_step_size(seed):
    eigenvalues, coordinates, noise, rotation = state(seed)
    coordinates = coordinates * torch.cat([torch.full((4,), 0.02), torch.ones(26)]).double()  # far from dominated
    probe, operator, pairs = probed(eigenvalues, coordinates, rotation)
    report = alignment_report(operator, pairs, probe.gradient(), noise=rotation @ noise)

    def next_theta(step_size):
        # E‖·‖² of the next gradient λ(c − η(λc + ξ)), by subspace, with independent zero-mean noise.
        mean = eigenvalues * (1 - step_size * eigenvalues) * coordinates
        square = mean**2 + (step_size * eigenvalues) ** 2 * (noise**2).mean(1)
        return float(square[:4].sum() / square.sum())

    critical = report.critical_step_size
    assert math.isfinite(critical)
    assert next_theta(critical) == pytest.approx(report.theta, rel=1e-6)
    assert next_theta(0.9 * critical) < report.theta < next_theta(1.1 * critical)


def test_a_dominated_gradient_corrects_itself():
    terms = SubspaceTerms(1.0, 5.0, 25.0, 0.0, 0.0)
    assert critical_step_size(terms, SubspaceTerms(1e-6, 1e-6, 1.0, 0.0, 1.0)) == math.inf
    assert SubspaceTerms(1.0, -5.0, 25.0, 0.0, 0.0).critical_loss_step_size == math.inf


@pytest.mark.parametrize("seed", range(3))
def test_predicted_update_is_exact_on_a_quadratic(seed):
    eigenvalues, coordinates, noise, rotation = state(seed)
    probe, operator, pairs = probed(eigenvalues, coordinates, rotation)
    gradient, update = probe.gradient(), 0.1 * rotation @ noise[:, 0]
    prediction = predict_update(operator, pairs, gradient, update)

    def loss(c):
        return 0.5 * float((eigenvalues * c**2).sum())

    moved = coordinates + 0.1 * noise[:, 0]
    mixed = torch.cat([moved[:4], coordinates[4:]])
    assert prediction.dominant == pytest.approx(loss(mixed) - loss(coordinates), rel=1e-6)
    assert prediction.dominant + prediction.bulk == pytest.approx(loss(moved) - loss(coordinates), rel=1e-6)
    square = (eigenvalues * moved) ** 2
    assert prediction.theta == pytest.approx(float(square[:4].sum() / square.sum()), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_projected_steps_lower_the_expected_loss_exactly_below_their_critical_size(seed):
    eigenvalues, coordinates, noise, rotation = state(seed)
    probe, operator, pairs = probed(eigenvalues, coordinates, rotation)
    report = alignment_report(operator, pairs, probe.gradient(), noise=rotation @ noise)
    for terms in (report.dominant, report.bulk):
        critical = terms.critical_loss_step_size
        assert terms.expected_loss_change(critical * (1 - 1e-8)) < 0 < terms.expected_loss_change(critical * (1 + 1e-8))


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_alignment_is_invariant_to_scale_and_basis_and_complements_to_one(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    vector = torch.randn(12, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    theta = dominant_alignment(vector, basis[:, :4])
    assert dominant_alignment(scale * vector, basis[:, :4] @ turn) == pytest.approx(theta, abs=1e-12)
    assert theta + dominant_alignment(vector, basis[:, 4:]) == pytest.approx(1.0, abs=1e-12)
    assert subspace_overlap(basis[:, :4], basis[:, :4] @ turn) == pytest.approx(1.0, abs=1e-12)
    assert subspace_overlap(basis[:, :4], basis[:, 4:8]) == pytest.approx(0.0, abs=1e-12)


def test_what_does_not_fit_is_named():
    _, operator, pairs = probed(*[state(0)[i] for i in (0, 1, 3)])
    good = torch.ones(30, dtype=torch.float64)
    with pytest.raises(ValueError, match="`gradient` has shape"):
        alignment_report(operator, pairs, good[:5])
    with pytest.raises(ValueError, match="`noise` has shape"):
        alignment_report(operator, pairs, good, noise=good)
    with pytest.raises(ValueError, match="zero gradient"):
        alignment_report(operator, pairs, 0 * good)
    with pytest.raises(ValueError, match="`gradient` and `update`"):
        predict_update(operator, pairs, good, good[:3])
    with pytest.raises(ValueError, match="one shape"):
        subspace_overlap(pairs.vectors, pairs.vectors[:, :2])
    with pytest.raises(ValueError, match="`eigenvectors` has shape"):
        dominant_alignment(good[:3], pairs.vectors)
