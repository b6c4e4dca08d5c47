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
class _Search:
    """A search that has been made: at which moment, on which loss, how far, by whom, and what it found."""

    moment: tuple[int, int, str | None]
    loss: tuple[Any, ...]
    batches: list[Any]
    tol: float
    certify: bool
    resolve_opposite: bool
    owner: str
    eigenpairs: Eigenpairs


_SEARCHES: WeakKeyDictionary[Any, _Search] = WeakKeyDictionary()


def dominant_eigenpairs(
    diagnostic: Diagnostic,
    trainer: L.Trainer,
    operator: LinearOperator,
    k: int,
    *,
    tol: float,
    start: Tensor | None = None,
    certify: bool = False,
    resolve_opposite: bool = False,
) -> tuple[Eigenpairs, str]:
    """Return the k largest eigenpairs, and the name of the diagnostic that searched for them.

    Another diagnostic's are taken where they are at least as many and as good, were found in the same hook of the same
    step, and belong to the same loss on the same batches; ``operator`` is then not applied. Otherwise this diagnostic
    searches, as :func:`~lightning_regimes.curvature.eigsh` does, and offers what it finds.
    """
    moment, loss = _moment(trainer), (diagnostic.mode, diagnostic._dtype, *diagnostic._sources.values())
    held = _SEARCHES.get(trainer)
    if (
        held is not None
        and (held.moment, held.loss) == (moment, loss)
        and held.tol <= tol
        and held.certify >= certify
        and held.resolve_opposite >= resolve_opposite
        and held.eigenpairs.vectors.shape[1] >= k
        and same_tensors(held.batches, diagnostic.batches.kept)
    ):
        return _first(held.eigenpairs, k), held.owner
    eigenpairs = eigsh(operator, k, tol=tol, start=start, certify=certify, resolve_opposite=resolve_opposite)
    owner = type(diagnostic).__name__
    _SEARCHES[trainer] = _Search(
        moment, loss, diagnostic.batches.kept, tol, certify, resolve_opposite, owner, eigenpairs
    )
    return eigenpairs, owner


def forget_eigenpairs(trainer: L.Trainer, *, unless_current: bool = False) -> None:
    """Let go of what is shared; with ``unless_current``, only of what was found in another hook or step."""
    held = _SEARCHES.get(trainer)
    if held is not None and not (unless_current and held.moment == _moment(trainer)):
        del _SEARCHES[trainer]


def _moment(trainer: Any) -> tuple[int, int, str | None]:
    # Between two hooks the module may change its objective at the same weights, between two batches its buffers.
    batches = trainer.fit_loop.epoch_loop.batch_progress.total.ready
    return trainer.global_step, batches, trainer.lightning_module._current_fx_name


def _first(eigenpairs: Eigenpairs, k: int) -> Eigenpairs:
    return replace(
        eigenpairs,
        values=eigenpairs.values[:k],
        vectors=eigenpairs.vectors[:, :k],
        residuals=eigenpairs.residuals[:k],
        num_matvecs=0,
    )
