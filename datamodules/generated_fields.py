"""Samples of a differential equation: computed in chunks, by several processes, and kept on disk."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from rich.progress import Progress

from lightning_regimes.datamodules.field_cache import FieldCache, Fields
from lightning_regimes.datamodules.token_file import cache_directory

# Changes when the same recipe gives other samples.
_FORMAT = 1


class Recipe(Protocol):
    """How samples are computed: a frozen dataclass whose ``repr`` says all that decides them."""

    def __call__(self, indices: Sequence[int]) -> Fields:
        """Return the samples with these numbers, each of which depends on its number and the recipe only."""


def generated_fields(
    requests: Sequence[tuple[Recipe, int]],
    *,
    folder: Path | None = None,
    chunk_size: int = 64,
    num_workers: int = 0,
    progress: bool = True,
) -> list[Fields]:
    """Return the samples ``0 … count − 1`` of each recipe in float32, from disk as far as they are there.

    Chunks are kept under a hash of the recipe as soon as they are computed: an interrupted call goes on where it was,
    a larger count adds to what there is, and a damaged chunk is computed again.

    Args:
        requests: recipes, each with the number of samples.
        folder: of all recipes; by default ``~/.cache/lightning-regimes/fields``.
        chunk_size: samples in a chunk, computed together.
        num_workers: processes that compute; 0 computes here. The samples are the same.
        progress: show a bar while samples are computed.
    """
    wanted = [list(_chunks(*request, folder or cache_directory() / "fields", chunk_size)) for request in requests]
    found = {chunk: chunk.cache.read(chunk.first, chunk.end) for chunks in wanted for chunk in chunks}
    missing = [chunk for chunk, fields in found.items() if fields is None]
    if missing:
        with Progress(transient=True, disable=not progress) as bar:
            task = bar.add_task("samples", total=sum(chunk.size for chunk in missing))
            for chunk in _computed(missing, num_workers):
                found[chunk] = chunk.cache.read(chunk.first, chunk.end)
                bar.advance(task, chunk.size)
    return [_joined([found[chunk] for chunk in chunks]) for chunks in wanted]


@dataclass(frozen=True)
class _Chunk:
    """Samples of a recipe that are computed together."""

    recipe: Recipe
    first: int
    end: int
    cache: FieldCache

    @property
    def size(self) -> int:
        return self.end - self.first

    def compute(self) -> None:
        with _one_thread():
            fields = self.recipe(range(self.first, self.end))
        self.cache.write(self.first, {name: field.float() for name, field in fields.items()})


def _chunks(recipe: Recipe, count: int, folder: Path, chunk_size: int) -> Iterator[_Chunk]:
    content = repr((_FORMAT, type(recipe).__qualname__, recipe, chunk_size))
    cache = FieldCache(folder / hashlib.sha256(content.encode()).hexdigest()[:32])
    for first in range(0, count, chunk_size):
        yield _Chunk(recipe, first, min(first + chunk_size, count), cache)


def _computed(chunks: Sequence[_Chunk], num_workers: int) -> Iterator[_Chunk]:
    """Compute chunks, and yield each when it's on disk."""
    for chunk in {chunk.cache: chunk for chunk in chunks}.values():
        chunk.cache.describe(repr(chunk.recipe))
    if num_workers == 0:
        for chunk in chunks:
            chunk.compute()
            yield chunk
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(num_workers, len(chunks)), mp_context=context) as pool:
        waiting = {pool.submit(chunk.compute): chunk for chunk in chunks}
        try:
            for done in as_completed(waiting):
                done.result()
                yield waiting[done]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _joined(chunks: Sequence[Fields | None]) -> Fields:
    whole = [chunk for chunk in chunks if chunk is not None]
    if len(whole) < len(chunks):
        raise OSError("samples that were just written can't be read back: is the cache folder being cleared?")
    return {name: torch.cat([chunk[name] for chunk in whole]) for name in whole[0]}


@contextmanager
def _one_thread() -> Iterator[None]:
    # The order of a sum may depend on the number of threads, and samples may not.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
