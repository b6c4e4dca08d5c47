"""An interrupted surface, resumed, is the same as one in one go."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes import LossProbe
from lightning_regimes.landscape import LossSurface, directions, evaluate_surface
from lightning_regimes.landscape.evaluation_backend import Evaluator
from lightning_regimes.landscape.evaluation_loop import LoopEvaluation


class Interrupted(Exception):
    pass


class Loss:
    """A squared error that counts its evaluations and gives up after some."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.limit = limit
        self.calls = 0

    def __call__(self, module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.calls += 1
        if self.calls > self.limit:
            raise Interrupted
        error = functional.mse_loss(module(batch[0]), batch[1])
        return (error - 1.6).sqrt()  # NaN at some of the points


def probe_with(loss: Loss, *, seed: int = 0, shift: float = 0.0, **options: Any) -> LossProbe:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    generator = torch.Generator().manual_seed(3)
    batch = torch.randn(12, 4, generator=generator) + shift, torch.randn(12, 2, generator=generator)
    return LossProbe(network, [batch], loss=loss, **options)


def surface(loss: Loss, path: Path | None, **options: Any) -> LossSurface:
    probe = probe_with(loss)
    axes = directions(probe_with(Loss()), "random", 2)
    return evaluate_surface(probe, axes, **{"points": 13, "span": 2.0, "resume": path, **options})


@pytest.mark.parametrize(
    "options", [{"backend": "loop"}, {"backend": "loop", "chunk_size": 5}, {"backend": "vmap", "chunk_size": 16}]
)
def test_resumed_is_uninterrupted_to_the_last_bit(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "folder" / "surface.npz"
    whole = surface(Loss(), None, **options)
    assert 0 < whole.num_nonfinite < whole.num_points
    total = Loss()
    surface(total, None, **options)
    interrupted = Loss(limit=total.calls * 2 // 3)
    with pytest.raises(Interrupted):
        surface(interrupted, path, **options)
    rest = Loss()
    resumed = surface(rest, path, **options)
    assert rest.calls < total.calls
    assert resumed.values.tobytes() == whole.values.tobytes()
    assert resumed.center_loss == whole.center_loss
    assert resumed.metadata == whole.metadata
    done = Loss()
    assert surface(done, path, **options).values.tobytes() == whole.values.tobytes()
    assert done.calls == 0  # values that are NaN count as found


@pytest.mark.parametrize("faster", ["loop", "vmap"])
def test_the_fastest_backend_is_not_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: str) -> None:
    timed = Evaluator.timed
    preferred = faster

    def as_preferred(self: Evaluator, evaluation: Any, start: int, stop: int) -> tuple[Any, float]:
        values, _ = timed(self, evaluation, start, stop)
        is_loop = isinstance(evaluation, LoopEvaluation)
        return values, 1e-5 if is_loop == (preferred == "loop") else 2e-5

    monkeypatch.setattr(Evaluator, "timed", as_preferred)
    path = tmp_path / "surface.npz"
    total = Loss()
    whole = surface(total, None)
    assert whole.metadata["backend"] == faster
    # The loss is so short that the largest chunk that fits into the 169 points is tried first.
    assert whole.metadata["chunk_size"] == (16 if faster == "loop" else 64)
    with pytest.raises(Interrupted):
        surface(Loss(limit=total.calls - 2), path)
    with np.load(path) as file:
        assert 0 < file["done"].sum() < 169
    preferred = "loop" if faster == "vmap" else "vmap"
    resumed = surface(Loss(), path)
    assert resumed.metadata == whole.metadata
    assert resumed.values.tobytes() == whole.values.tobytes()


def test_values_of_another_surface_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "surface.npz"
    first = probe_with(Loss())
    axes = directions(first, "random", 2)
    evaluate_surface(first, axes, points=3, resume=path)
    other_axes = directions(first, "random", 2, seed=1)
    for probe, chosen, options, differing in [
        (probe_with(Loss(), seed=1), axes, {}, "the parameters"),
        (probe_with(Loss(), shift=1.0), axes, {}, "the batches"),
        (probe_with(Loss(), mode="train"), axes, {}, "the loss"),
        (first, other_axes, {}, "the directions"),
        (first, axes, {"span": 0.2}, "the axes"),
        (first, axes, {"backend": "loop"}, "the options"),
    ]:
        with pytest.raises(ValueError, match=f"it differs in {differing}.*; delete the file"):
            evaluate_surface(probe, chosen, **{"points": 3, "resume": path, **options})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it differs in the axes"):
        evaluate_surface(first, axes, points=5, resume=path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    probe = probe_with(Loss())
    path = tmp_path / "surface.npz"
    found = evaluate_surface(probe, directions(probe, "random", 1), points=3)
    found.save(path)
    arrays = tmp_path / "array.npz"
    with arrays.open("wb") as file:
        np.save(file, np.zeros(3))
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    empty = tmp_path / "empty.npz"
    empty.touch()
    for other in (path, arrays, text, empty, tmp_path):
        with pytest.raises(ValueError, match=f"`resume` names {other}, which is no surface in progress"):
            evaluate_surface(probe, directions(probe, "random", 1), points=3, resume=other)


@dataclasses.dataclass
class Sentence:
    text: str
    length: int


@pytest.mark.parametrize(
    "pair",
    [
        ({"text": ["a"]}, {"text": ["aaaa"]}),
        ({"count": 1}, {"count": 1.0}),
        ({"a": 1}, {"b": 1}),
        ([True, None], [None, True]),
        ([[1], 2], [[1, 2]]),
        ((Sentence("a", 1),), (Sentence("a", 2),)),
        ({"mask": np.arange(3)}, {"mask": np.arange(3)[::-1]}),
        ({"kinds": {"a", "b"}}, {"kinds": {"a", "c"}}),
    ],
)
def test_what_a_batch_holds_beside_tensors_counts(tmp_path: Path, pair: tuple[Any, Any]) -> None:
    def loss(module: Any, batch: Any) -> Tensor:
        return module.weight.square().sum()

    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    first, same, other = (
        LossProbe(network, [[torch.ones(2), plain]], loss=loss) for plain in (pair[0], copy.deepcopy(pair[0]), pair[1])
    )
    axes = directions(first, "random", 1)
    path = tmp_path / "surface.npz"
    found = evaluate_surface(first, axes, points=3, resume=path)
    assert evaluate_surface(same, axes, points=3, resume=path).values.tobytes() == found.values.tobytes()
    with pytest.raises(ValueError, match="it differs in the batches"):
        evaluate_surface(other, axes, points=3, resume=path)
