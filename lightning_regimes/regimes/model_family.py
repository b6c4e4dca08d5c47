"""What kind of model is trained, as far as advice depends on it."""

from __future__ import annotations

import enum
from typing import Any


class ModelFamily(enum.StrEnum):
    """Kinds of models that differ in what helps them."""

    PHYSICS_INFORMED = "physics_informed"
    """A network trained on the residual of a differential equation."""
    OPERATOR = "operator"
    """A network that maps functions to functions, trained on pairs."""
    NEURAL_ODE = "neural_ode"
    """A network inside an ordinary differential equation."""
    CLASSIFIER = "classifier"
    LANGUAGE_MODEL = "language_model"
    GENERAL = "general"
    """Anything else: only what helps any model is offered."""


def model_family(module: Any) -> ModelFamily:
    """Return the family that a module names in its attribute ``model_family``, otherwise :attr:`ModelFamily.GENERAL`.

    Raises:
        ValueError: the attribute names no family.
    """
    named = getattr(module, "model_family", None)
    if named is None:
        return ModelFamily.GENERAL
    try:
        return ModelFamily(named)
    except ValueError:
        raise ValueError(
            f"`model_family` of {type(module).__name__} is one of {', '.join(ModelFamily)}, got {named!r}"
        ) from None
