import struct
import zlib
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

from lightning_regimes.dashboard import read_wandb_file


def history(step: int, text: str = "") -> bytes:
    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    for key, value in (("loss", f"{step}.5"), ("note", f'"{text}"')):
        record.history.item.add(nested_key=[key], value_json=value)
    record.history.item.add(nested_key=["map", "width"], value_json="3")
    return record.SerializeToString()


def chunk(kind: int, data: bytes) -> bytes:
    return struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data


def wandb_file(path: Path, *payloads: bytes) -> bytes:
    """Write the format as LevelDB specifies it: chunks never cross a block of 32 KiB, short tails are zeros."""
    out = bytearray(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
    for payload in payloads:
        first = True
        while first or payload:
            if (left := 32768 - len(out) % 32768) < 7:
                out += bytes(left)
                left = 32768
            part, payload = payload[: left - 7], payload[left - 7 :]
            kind = (1 if not payload else 2) if first else (4 if not payload else 3)
            out += chunk(kind, part)
            first = False
    path.write_bytes(out)
    return bytes(out)


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    wandb_file(path, *(history(step) for step in range(3)))
    assert read_wandb_file(path).history == [{"loss": step + 0.5, "note": "", "map": {"width": 3}} for step in range(3)]


@pytest.mark.parametrize("size", [10, 32_700, 32_710, 32_720, 32_768, 100_000])
def test_records_cross_blocks(tmp_path: Path, size: int) -> None:
    path = tmp_path / "run.wandb"
    texts = ["a" * size, "b", "c" * size]
    wandb_file(path, *(history(step, text) for step, text in enumerate(texts)))
    assert [row["note"] for row in read_wandb_file(path).history] == texts


def test_configuration_is_read(tmp_path: Path) -> None:
    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    record.config.update.add(nested_key=["model", "width"], value_json="5")
    path = tmp_path / "run.wandb"
    wandb_file(path, record.SerializeToString())
    assert read_wandb_file(path).config == {"model": {"width": 5}}


def test_cut_file_yields_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    whole = wandb_file(path, *(history(step) for step in range(3)))
    two = len(wandb_file(tmp_path / "two.wandb", history(0), history(1)))
    for length in range(two + 1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.warns(UserWarning, match="read what came before"):
            assert len(read_wandb_file(path).history) == 2


def test_flipped_bit_yields_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    whole = bytearray(wandb_file(path, *(history(step) for step in range(3))))
    one = len(wandb_file(tmp_path / "one.wandb", history(0)))
    whole[one + 20] ^= 1
    path.write_bytes(whole)
    with pytest.warns(UserWarning, match="checksum"):
        assert len(read_wandb_file(path).history) == 1


def test_missing_middle_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    path.write_bytes(struct.pack("<4sHB", b":W&B", 0xBEE1, 0) + chunk(4, history(0)))
    with pytest.warns(UserWarning, match="out of order"):
        assert read_wandb_file(path).history == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.wandb"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not a W&B run file"):
        read_wandb_file(path)
