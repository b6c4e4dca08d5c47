"""The English part of C4, streamed."""

from __future__ import annotations

from typing import Any, Literal

from lightning_regimes.datamodules.packed_sequences import permutation

_FILES = {"train": 1024, "validation": 8}


def open_c4(split: Literal["train", "validation"], *, seed: int = 0) -> Any:
    """Return the documents of a part of C4, ``{"text": str, …}``, without a download of more than is read.

    Args:
        split: ``"train"``, 365 million documents in 1024 files, or ``"validation"``, 365 thousand in 8.
        seed: of the order of the training files; within a file the order is that of the publication, which is random.

    Returns:
        An ``IterableDataset`` of the package ``datasets``.

    Raises:
        ModuleNotFoundError: ``datasets`` is not installed.

    References:
        C. Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", JMLR 21,
        2020, arXiv:1910.10683, section 2.2.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "streaming C4 needs the package `datasets`: pip install 'lightning-regimes[llm]'"
        ) from None
    count = _FILES[split]
    # Shuffling by `datasets` itself keeps documents in a buffer that its state leaves out.
    order = permutation(count, seed=seed, index=0).tolist() if split == "train" else range(count)
    files = [f"en/c4-{split}.{number:05d}-of-{count:05d}.json.gz" for number in order]
    return datasets.load_dataset("allenai/c4", data_files={split: files}, split=split, streaming=True)
