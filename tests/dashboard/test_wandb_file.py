import struct
import warnings
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wandb.proto import wandb_internal_pb2

from lightning_regimes.dashboard import WandbRun, read_wandb_file


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


def test_alerts_artifacts_and_summaries_are_read(tmp_path: Path) -> None:
    payloads = []
    for fill in (fill_alert, fill_artifact, fill_metric):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        fill(record)
        payloads.append(record.SerializeToString())
    path = tmp_path / "run.wandb"
    wandb_file(path, *payloads)
    run = read_wandb_file(path)
    assert run.alerts == [{"title": "Training diverged", "text": "At step 3.", "level": "ERROR"}]
    assert run.artifacts == [
        {"name": "loss-surface-id", "type": "loss-surface", "aliases": ["step-3"], "paths": ["surface.npz"]}
    ]
    assert run.summarized == {"hessian/seconds": {"min", "last"}}


def fill_alert(record: wandb_internal_pb2.Record) -> None:  # type: ignore[name-defined]
    record.alert.title, record.alert.text, record.alert.level = "Training diverged", "At step 3.", "ERROR"


def fill_artifact(record: wandb_internal_pb2.Record) -> None:  # type: ignore[name-defined]
    record.artifact.name, record.artifact.type = "loss-surface-id", "loss-surface"
    record.artifact.aliases.append("step-3")
    record.artifact.manifest.contents.add(path="surface.npz")


def fill_metric(record: wandb_internal_pb2.Record) -> None:  # type: ignore[name-defined]
    record.metric.name = "hessian/seconds"
    record.metric.summary.min = record.metric.summary.last = True


def unreadable(kind: str) -> bytes:
    """A record that its checksum confirms and nobody can make sense of."""
    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    if kind == "no protocol buffer":
        return b"\xff\xff\xff"
    if kind == "no JSON":
        record.history.item.add(key="loss", value_json="{1")
    elif kind == "value under a value":
        record.history.item.add(nested_key=["loss"], value_json="1.0")
        record.history.item.add(nested_key=["loss", "part"], value_json="1.0")
    else:
        record.history.item.add(key="loss", value_json="[" * 100_000)
    payload: bytes = record.SerializeToString()
    return payload


@pytest.mark.parametrize("kind", ["no protocol buffer", "no JSON", "value under a value", "too deep"])
def test_a_record_without_meaning_is_damage(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.wandb"
    wandb_file(path, history(0), unreadable(kind), history(1))
    with pytest.warns(UserWarning, match="cannot be read"):
        assert len(read_wandb_file(path).history) == 1


class Damaged:
    """A real sequence of records, and what is left of it after damage."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.wandb"
        payloads = [history(step, "x" * size) for step, size in enumerate((0, 5, 40_000, 3, 0))]
        for fill in (fill_alert, fill_artifact, fill_metric):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            fill(record)
            payloads.append(record.SerializeToString())
        self.whole = wandb_file(self.path, *payloads)
        self.run = read_wandb_file(self.path)

    def read(self, data: bytes) -> WandbRun | None:
        """What is read of these bytes, None if they are refused as no W&B run at all."""
        self.path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return read_wandb_file(self.path)
            except ValueError as error:
                assert "is not a W&B run file" in str(error)  # noqa: PT017
                assert data[:6] != self.whole[:6] or len(data) < 7
                return None

    def check(self, run: WandbRun | None, *, rows: int = 0) -> None:
        """Nothing but the beginning of what was written, and at least so many rows of it."""
        if run is None:
            return
        assert run.history == self.run.history[: len(run.history)]
        assert len(run.history) >= rows
        assert run.alerts in ([], self.run.alerts)
        assert run.artifacts in ([], self.run.artifacts)
        assert run.summarized in ({}, self.run.summarized)
        assert run.config == {}
        assert run.files == []
        assert not run.finished

    def rows_before(self, position: int) -> int:
        """How many rows lie whole before a byte."""
        return len(run.history) if (run := self.read(self.whole[:position])) else 0


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("damaged"))


_FUZZ = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def positions(damaged: Damaged) -> st.SearchStrategy[int]:
    """Bytes of the file; those where chunks begin and end as often as all the others."""
    size = len(damaged.whole)
    edges = [*range(80), *range(32_740, 32_800), *range(size - 300, size)]
    return st.sampled_from(edges) | st.integers(0, size - 1)


@_FUZZ
@given(data=st.data())
def test_a_file_cut_anywhere_yields_its_beginning(damaged: Damaged, data: st.DataObject) -> None:
    damaged.check(damaged.read(damaged.whole[: data.draw(positions(damaged))]))


@_FUZZ
@given(data=st.data())
def test_flipped_bytes_yield_what_lies_before_the_first(damaged: Damaged, data: st.DataObject) -> None:
    flips = data.draw(st.dictionaries(positions(damaged), st.integers(1, 255), min_size=1, max_size=4))
    changed = bytearray(damaged.whole)
    for position, mask in flips.items():
        changed[position] ^= mask
    damaged.check(damaged.read(bytes(changed)), rows=damaged.rows_before(min(flips)))


@_FUZZ
@given(data=st.data())
def test_bytes_put_in_or_taken_out_yield_what_lies_before_them(damaged: Damaged, data: st.DataObject) -> None:
    position = data.draw(positions(damaged))
    length = data.draw(st.integers(0, 20))
    put_in = data.draw(st.binary(max_size=20))
    changed = damaged.whole[:position] + put_in + damaged.whole[position + length :]
    rows = damaged.rows_before(position)
    damaged.check(damaged.read(changed), rows=rows)


@_FUZZ
@given(tail=st.binary(max_size=200))
def test_anything_after_a_header_is_read_without_an_error(damaged: Damaged, tail: bytes) -> None:
    run = damaged.read(damaged.whole[:7] + tail)
    assert run is not None
    assert run.history == []
