"""Files of token ids, mapped into memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

TokenType = Literal["uint16", "uint32"]
Tokens = npt.NDArray[np.integer]


def open_token_file(path: str | os.PathLike[str], *, dtype: TokenType = "uint16") -> Tokens:
    """Return the token ids in a file, mapped into memory.

    Args:
        path: ``.npy``, a vector of any integer type; or ``.bin``, the bare numbers.
        dtype: of the numbers in a ``.bin``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a vector of integers, or its length isn't a multiple of a number's.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"the token file {os.fspath(path)!r} does not exist")
    if dtype not in get_args(TokenType):
        raise ValueError(f"`dtype` is one of {', '.join(get_args(TokenType))}, got {dtype!r}")
    if file.suffix == ".npy":
        tokens = np.load(file, mmap_mode="r")
        if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(f"a token file is a vector of integers, got {tokens.dtype} {tokens.shape} in {file}")
        return tokens
    size = file.stat().st_size
    if size == 0 or size % np.dtype(dtype).itemsize:
        raise ValueError(f"{file} has {size} bytes, which is no number of {dtype}; set `token_dtype`")
    return np.memmap(file, dtype=dtype, mode="r")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let a function write a file of which others see all or nothing.

    Args:
        path: the file; folders above it are made.
        write: writes to the path that it is given, which has the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(name))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def cache_directory() -> Path:
    """Return where token files are kept: ``$XDG_CACHE_HOME/lightning-regimes``, below ``~/.cache`` by default."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning-regimes"
