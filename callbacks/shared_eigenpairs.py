"""One eigenbasis for all diagnostics that look at the same Hessian at the same moment of a training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import lightning as L
from torch import Tensor

from lightning_regimes.batches import same_tensors
from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.curvature import Eigenpairs, LinearOperator, eigsh


@dataclass(frozen=True)
class EigenpairsNeeded:
    """What a diagnostic needs of the eigenpairs with the largest eigenvalues; it says so in ``eigenpairs_needed``.

    Attributes:
        k: how many.
        tol: relative residual, as all others as for :func:`~lightning_regimes.curvature.eigsh`.
        certify: find multiple eigenvalues as often as they are there.
        resolve_opposite: let the other end of the spectrum converge as well.
    """

    k: int
    tol: float
    certify: bool = False
    resolve_opposite: bool = False

    def covers(self, other: EigenpairsNeeded) -> bool:
        """Whether what serves this need serves the other one."""
        return self == self.joined(other)

    def joined(self, other: EigenpairsNeeded) -> EigenpairsNeeded:
        """Return what serves both."""
        return EigenpairsNeeded(
            max(self.k, other.k),
            min(self.tol, other.tol),
            self.certify or other.certify,
            self.resolve_opposite or other.resolve_opposite,
        )


@dataclass(frozen=True)
class _Search:
    """A search that has been made: at which moment, on which loss, how far, by whom, and what it found."""

    moment: tuple[int, int, str | None]
    loss: tuple[Any, ...]
    batches: list[Any]
    need: EigenpairsNeeded
    owner: str
    eigenpairs: Eigenpairs


_SEARCHES: WeakKeyDictionary[Any, _Search] = WeakKeyDictionary()


def dominant_eigenpairs(
    diagnostic: Diagnostic, trainer: L.Trainer, operator: LinearOperator, *, start: Tensor | None = None
) -> tuple[Eigenpairs, str]:
    """Return the eigenpairs that a diagnostic needs, and the name of the diagnostic that searched for them.

    Another diagnostic's are taken where they are at least as many and as good, were found in the same hook of the same
    step, and belong to the same loss on the same batches; ``operator`` is then not applied. Otherwise this diagnostic
    searches, as :func:`~lightning_regimes.curvature.eigsh` does, for what those need as well that the schedule will
    call at this very moment, and offers what it finds.
    """
    need: EigenpairsNeeded = diagnostic.eigenpairs_needed  # type: ignore[attr-defined]
    moment, loss = _moment(trainer), _loss(diagnostic)
    held = _SEARCHES.get(trainer)
    if (
        held is not None
        and (held.moment, held.loss) == (moment, loss)
        and held.need.covers(need)
        and same_tensors(held.batches, diagnostic.batches.kept)
    ):
        return _first(held.eigenpairs, need.k, num_matvecs=0), held.owner
    widened = need
    for other in trainer.callbacks:  # type: ignore[attr-defined]
        if other is not diagnostic and isinstance(other, Diagnostic) and _shares(other, diagnostic, trainer):
            widened = widened.joined(other.eigenpairs_needed)  # type: ignore[attr-defined]
    eigenpairs = eigsh(
        operator,
        min(widened.k, operator.shape[0]),
        tol=widened.tol,
        start=start,
        certify=widened.certify,
        resolve_opposite=widened.resolve_opposite,
    )
    owner = type(diagnostic).__name__
    _SEARCHES[trainer] = _Search(moment, loss, diagnostic.batches.kept, widened, owner, eigenpairs)
    return _first(eigenpairs, need.k, num_matvecs=eigenpairs.num_matvecs), owner


def forget_eigenpairs(trainer: L.Trainer, *, unless_current: bool = False) -> None:
    """Let go of what is shared; with ``unless_current``, only of what was found in another hook or step."""
    held = _SEARCHES.get(trainer)
    if held is not None and not (unless_current and held.moment == _moment(trainer)):
        del _SEARCHES[trainer]


def _moment(trainer: Any) -> tuple[int, int, str | None]:
    # Between two hooks the module may change its objective at the same weights, between two batches its buffers.
    batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    return trainer.global_step, batches, trainer.lightning_module._current_fx_name


def _loss(diagnostic: Diagnostic) -> tuple[Any, ...]:
    return diagnostic.mode, diagnostic._dtype, *diagnostic._sources.values()


def _shares(other: Diagnostic, diagnostic: Diagnostic, trainer: L.Trainer) -> bool:
    """Whether another diagnostic is going to ask for eigenpairs of the same loss at this moment."""
    return (
        getattr(other, "eigenpairs_needed", None) is not None
        and _loss(other) == _loss(diagnostic)
        and other.is_due(trainer)
        and same_tensors(other.batches.kept, diagnostic.batches.kept)
    )


def _first(eigenpairs: Eigenpairs, k: int, *, num_matvecs: int) -> Eigenpairs:
    return replace(
        eigenpairs,
        values=eigenpairs.values[:k],
        vectors=eigenpairs.vectors[:, :k],
        residuals=eigenpairs.residuals[:k],
        num_matvecs=num_matvecs,
    )
