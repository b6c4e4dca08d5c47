"""Read the file that W&B writes for an offline run, without an account and without a network."""

import json
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_HEADER = struct.Struct("<4sHB")
_IDENT, _MAGIC = b":W&B", 0xBEE1
_CHUNK = struct.Struct("<IHB")
_BLOCK_SIZE = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class WandbRun:
    """What an offline run logged.

    Attributes:
        config: The run's configuration.
        history: The logged rows, in order, W&B's own ``_step``, ``_runtime`` and ``_timestamp`` included.
        files: Names of the media files that came with the rows, relative to the run's ``files`` folder.
        finished: Whether the run has ended; W&B writes the last rows some time after ``finish()`` has returned.
        alerts: The alerts that the run asked for, each with title, text and level.
        artifacts: The artifacts that it logged, each with name, type, aliases and the paths of its files.
        summarized: How the summary of each quantity is formed where that was defined, such as ``{"min", "last"}``.
    """

    config: dict[str, Any]
    history: list[dict[str, Any]]
    files: list[str]
    finished: bool
    alerts: list[dict[str, str]]
    artifacts: list[dict[str, Any]]
    summarized: dict[str, set[str]]


def read_wandb_file(path: str | os.PathLike[str]) -> WandbRun:
    """Read ``run-<id>.wandb``; of a damaged file, everything before the damage, with a warning.

    The file is a sequence of LevelDB log records, each a protocol buffer: a header of 7 bytes, then blocks of 32 KiB
    of chunks, each headed by the CRC-32 of its type and payload, its length and its type (whole, first, middle, last).

    Args:
        path: The ``.wandb`` file.

    Raises:
        ValueError: If the file is not a W&B run.
    """
    # The schema of the payload is W&B's own; only this reader needs it.
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    data = Path(path).read_bytes()
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[:2] != (_IDENT, _MAGIC):
        raise ValueError(f"{os.fspath(path)!r} is not a W&B run file; give the run-<id>.wandb of an offline run.")
    run = WandbRun(config={}, history=[], files=[], finished=False, alerts=[], artifacts=[], summarized={})
    try:
        for position, payload in _payloads(data):
            try:
                run = _extended(run, Record.FromString(payload))
            # What is no protocol buffer, no JSON, or puts a value under a value.
            except (DecodeError, ValueError, TypeError, AttributeError, RecursionError) as error:
                raise _DamagedError(f"the record at byte {position} cannot be read ({error})") from error
    except _DamagedError as damage:
        warnings.warn(f"{os.fspath(path)}: {damage}; read what came before.", stacklevel=2)
    return run


class _DamagedError(Exception):
    """The bytes stop making sense."""


def _extended(run: WandbRun, record: Any) -> WandbRun:
    """Add a record to the run, which is left as it is if the record cannot be read."""
    kind = record.WhichOneof("record_type")
    if kind == "history":
        run.history.append(_row(record.history.item))
    elif kind == "run":
        run.config.update(_row(record.run.config.update))
    elif kind == "config":
        run.config.update(_row(record.config.update))
    elif kind == "files":
        run.files.extend(file.path for file in record.files.files)
    elif kind == "alert":
        run.alerts.append({name: getattr(record.alert, name) for name in ("title", "text", "level")})
    elif kind == "artifact":
        artifact = record.artifact
        paths = [entry.path for entry in artifact.manifest.contents]
        run.artifacts.append(
            {"name": artifact.name, "type": artifact.type, "aliases": list(artifact.aliases), "paths": paths}
        )
    elif kind == "metric":
        if formed := {field.name for field, _ in record.metric.summary.ListFields()}:
            run.summarized[record.metric.name] = formed
    elif kind == "exit":
        return replace(run, finished=True)
    return run


def _row(items: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in items:
        # A histogram or an image comes as one item per entry, under the path to it.
        *outer, last = item.nested_key or (item.key,)
        place = row
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return row


def _payloads(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The payload of each record, with the position at which its last chunk begins."""
    position = _HEADER.size
    parts: list[bytes] = []
    while position < len(data):
        left = _BLOCK_SIZE - position % _BLOCK_SIZE
        if left < _CHUNK.size:
            position += left
            continue
        if position + _CHUNK.size > len(data):
            raise _DamagedError(f"the file ends inside a chunk header at byte {position}")
        checksum, length, kind = _CHUNK.unpack_from(data, position)
        start, end = position + _CHUNK.size, position + _CHUNK.size + length
        if end > len(data):
            raise _DamagedError(f"the file ends inside a chunk at byte {position}")
        if zlib.crc32(data[start:end], zlib.crc32(bytes([kind]))) != checksum:
            raise _DamagedError(f"the checksum at byte {position} does not match")
        if (kind in (_FULL, _FIRST)) == bool(parts) or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise _DamagedError(f"a chunk of type {kind} at byte {position} is out of order")
        parts.append(data[start:end])
        if kind in (_FULL, _LAST):
            yield position, b"".join(parts)
            parts = []
        position = end
    if parts:
        raise _DamagedError("the file ends inside a record")
