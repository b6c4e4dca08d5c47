"""The table of remedies, and what it offers to whom."""

from types import SimpleNamespace

import pytest

from lightning_regimes.regimes import (
    GUIDANCE_TABLE,
    ModelFamily,
    Regime,
    Remedy,
    classify,
    guidance,
    model_family,
    remedies,
)

UNDER = classify(0.1, reference_loss=1.0)
OVER = classify(0.001, reference_loss=1.0, error=0.5)
WELL = classify(0.001, reference_loss=1.0, error=0.01)
OF_EQUATIONS = {
    Remedy.CURRICULUM,
    Remedy.AUGMENTED_LAGRANGIAN,
    Remedy.MORE_POINTS,
    Remedy.REGION_SAMPLING,
    Remedy.QUASI_NEWTON,
    Remedy.NEWTON,
}


@pytest.mark.parametrize("family", [ModelFamily.CLASSIFIER, ModelFamily.LANGUAGE_MODEL, ModelFamily.GENERAL])
@pytest.mark.parametrize("regime", Regime)
def test_no_remedy_of_differential_equations_is_offered_to_other_models(family, regime):
    rows = remedies(regime, family)
    assert not OF_EQUATIONS & {row.remedy for row in rows}
    words = " ".join(row.advice for row in rows).lower()
    assert not any(word in words for word in ("collocation", "coefficient", "lagrangian", "l-bfgs", "trajector"))


@pytest.mark.parametrize("family", ModelFamily)
@pytest.mark.parametrize("regime", set(Regime) - {Regime.WELL_TRAINED})
def test_every_family_has_a_remedy_in_every_regime_that_needs_one(family, regime):
    assert remedies(regime, family)


def test_physics_informed_networks_get_theirs_and_what_helps_most_first():
    physics = ModelFamily.PHYSICS_INFORMED
    assert [row.remedy for row in remedies(Regime.UNDER_TRAINED, physics)][:4] == [
        Remedy.CURRICULUM,
        Remedy.QUASI_NEWTON,
        Remedy.SOAP,
        Remedy.AUGMENTED_LAGRANGIAN,
    ]
    assert remedies(Regime.OVER_TRAINED, physics)[0].remedy is Remedy.MORE_POINTS
    assert Remedy.MORE_DATA not in {row.remedy for row in remedies(Regime.OVER_TRAINED, physics)}
    assert Remedy.LONGER_HORIZON in {row.remedy for row in remedies(Regime.OVER_TRAINED, ModelFamily.NEURAL_ODE)}


def test_high_confidence_rests_on_numbers_or_on_the_definition():
    for row in GUIDANCE_TABLE:
        assert row.evidence
        if row.confidence == "high" and row.regime in (Regime.WELL_TRAINED, Regime.UNDER_TRAINED, Regime.OVER_TRAINED):
            assert "arXiv" in row.evidence
            assert "relative L2 error" in row.evidence


def test_guidance_says_what_its_rows_say():
    for report in (UNDER, OVER, WELL):
        for family in ModelFamily:
            found = guidance(report, family=family)
            assert found.rows == remedies(report.label, family)
            assert all(row.advice in str(found) for row in found.rows)
    assert str(guidance(WELL)) == "Nothing has to change."
    assert str(guidance(OVER)).startswith("A better optimizer will not help. Add data")
    moving = classify(0.1, reference_loss=1.0, loss_trend=-0.3)
    assert str(guidance(moving)).startswith("The loss is still moving: train on before judging.")
    with pytest.raises(ValueError, match=r"`family` is one of .*classifier.*, got 'tree'"):
        guidance(WELL, family="tree")


def test_a_module_names_its_family():
    from lightning_regimes.modules import PINN, Classifier, Llama
    from lightning_regimes.pde import Convection

    assert model_family(object()) is ModelFamily.GENERAL
    assert model_family(PINN(Convection())) is ModelFamily.PHYSICS_INFORMED
    assert model_family(Classifier) is ModelFamily.CLASSIFIER
    assert model_family(Llama) is ModelFamily.LANGUAGE_MODEL
    assert model_family(SimpleNamespace(model_family="classifier")) is ModelFamily.CLASSIFIER
    with pytest.raises(ValueError, match="got 'tree'"):
        model_family(SimpleNamespace(model_family="tree"))
