"""Computed samples: resumed, checked, and the same however they are computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lightning_regimes.datamodules.darcy_samples import DarcySamples
from lightning_regimes.datamodules.field_cache import FieldCache
from lightning_regimes.datamodules.generated_fields import generated_fields
from lightning_regimes.pde import DarcyFlow

CALLS: list[list[int]] = []


@dataclass(frozen=True)
class Squares:
    """Sample i is i² + offset; remembers which were computed, and fails at a number."""

    offset: float = 0.0

    def __call__(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        if FAIL_AT and FAIL_AT[0] in indices:
            raise KeyboardInterrupt
        CALLS.append(list(indices))
        return {"x": torch.tensor([[float(i) ** 2 + self.offset] for i in indices], dtype=torch.float64)}


FAIL_AT: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()
    FAIL_AT.clear()


def squares(folder: Path, count: int, **options: object) -> list[float]:
    (fields,) = generated_fields(
        [(Squares(**options), count)],  # type: ignore[arg-type]
        folder=folder,
        chunk_size=4,
        progress=False,
    )
    assert fields["x"].dtype == torch.float32
    return fields["x"].squeeze(1).tolist()


def test_samples_are_computed_once(tmp_path: Path) -> None:
    expected = [float(i * i) for i in range(10)]
    assert squares(tmp_path, 10) == expected
    assert CALLS == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert squares(tmp_path, 10) == expected
    assert squares(tmp_path, 6) == expected[:6]
    assert len(CALLS) == 3
    # More samples: the last chunk was not full, and is computed again.
    assert squares(tmp_path, 13) == [float(i * i) for i in range(13)]
    assert CALLS[3:] == [[8, 9, 10, 11], [12]]
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("*.npz"))) == 4
    assert (folder / "recipe.txt").read_text() == "Squares(offset=0.0)\n"


def test_another_parameter_is_another_folder(tmp_path: Path) -> None:
    squares(tmp_path, 3)
    assert squares(tmp_path, 3, offset=1.0) == [1.0, 2.0, 5.0]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    FAIL_AT.append(9)
    with pytest.raises(KeyboardInterrupt):
        squares(tmp_path, 12)
    assert CALLS == [[0, 1, 2, 3], [4, 5, 6, 7]]
    FAIL_AT.clear()
    assert squares(tmp_path, 12) == [float(i * i) for i in range(12)]
    assert CALLS[2:] == [[8, 9, 10, 11]]


@pytest.mark.parametrize("damage", ["flip", "shorten", "empty"])
def test_a_damaged_chunk_is_computed_again(tmp_path: Path, damage: str) -> None:
    expected = squares(tmp_path, 12)
    (chunk,) = tmp_path.glob("*/00000004-*.npz")
    content = bytearray(chunk.read_bytes())
    before = bytes(content)
    if damage == "flip":
        content[len(content) // 2] ^= 1
    chunk.write_bytes({"flip": content, "shorten": content[:-40], "empty": b""}[damage])
    CALLS.clear()
    with pytest.warns(UserWarning, match=f"{chunk.name} is damaged"):
        assert squares(tmp_path, 12) == expected
    assert CALLS == [[4, 5, 6, 7]]
    assert chunk.read_bytes() == before


def test_a_half_written_file_is_no_chunk(tmp_path: Path) -> None:
    squares(tmp_path, 4)
    (folder,) = tmp_path.iterdir()
    (folder / ".00000004-00000008-abc.npz").write_bytes(b"half")
    assert squares(tmp_path, 8) == [float(i * i) for i in range(8)]


def test_a_chunk_replaces_those_that_start_there(tmp_path: Path) -> None:
    cache = FieldCache(tmp_path)
    cache.write(0, {"x": torch.zeros(2)})
    cache.write(0, {"x": torch.ones(3)})
    assert len(list(tmp_path.iterdir())) == 1
    found = cache.read(0, 2)
    assert found is not None
    assert {name: field.tolist() for name, field in found.items()} == {"x": [1.0, 1.0]}
    assert cache.read(0, 4) is None
    assert cache.read(1, 2) is None
    # Another process that needs fewer samples leaves the longer chunk alone.
    cache.write(0, {"x": torch.zeros(1)})
    assert len(list(tmp_path.iterdir())) == 1
    assert cache.read(0, 3) is not None


@pytest.mark.slow
def test_processes_compute_the_same_files(tmp_path: Path) -> None:
    recipe = DarcySamples(DarcyFlow(), (9, 17), None, 20, (0, 0))
    alone, together = (
        generated_fields(
            [(recipe, 5), (recipe, 3)],
            folder=tmp_path / str(num_workers),
            chunk_size=2,
            num_workers=num_workers,
            progress=False,
        )
        for num_workers in (0, 2)
    )
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == {"x_9", "y_9", "x_17", "y_17"}
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(alone[1]["y_17"], alone[0]["y_17"][:3])
    names = [sorted(path.name for path in (tmp_path / part).glob("*/*")) for part in ("0", "2")]
    assert names[0] == names[1]


def test_threads_are_as_before(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        squares(tmp_path, 1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
