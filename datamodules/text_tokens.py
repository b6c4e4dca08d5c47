"""Text as packed sequences of token ids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.datamodules.byte_tokenizer import Tokenizer
from lightning_regimes.datamodules.c4 import open_c4
from lightning_regimes.datamodules.packed_sequences import entropy_of_tokens, num_sequences, permutation, sequences
from lightning_regimes.datamodules.resumable_steps import ResumableSteps
from lightning_regimes.datamodules.text_corpus import python_text
from lightning_regimes.datamodules.token_file import Tokens, TokenType, cache_directory, open_token_file
from lightning_regimes.datamodules.token_stream import TokenStream, first_tokens
from lightning_regimes.datamodules.tokenized_text import named_tokenizer, tokenized_text


class TextTokens(L.LightningDataModule):
    """Sequences of token ids from a text, packed without padding: a batch is ``(B, T + 1)`` int64.

    Sources are ``"python"``, text that ships with Python (its language reference and its standard library); a text
    file; a token file, ``.bin`` or ``.npy``, which is mapped into memory; and ``"c4"``, which the package ``datasets``
    streams and which is tokenized on the way. C4 has a validation part of its own; of the others the last part of the
    tokens is for validation. Their text is tokenized once, and kept under a hash of it and of the tokenizer.

    Training sequences come in a random order that is new in each pass over them, in batches that are all full. The
    order depends on ``seed`` only, and a resumed run continues with the batch that comes next, whatever the source.
    With several processes each gets its part of a batch of so many times ``batch_size``; of C4, each reads everything.

    Args:
        source: ``"python"``, ``"c4"``, or the path of a text or token file.
        tokenizer: ``"bytes"``, 256 tokens; ``"bpe"``, trained on the training part of the text; the path of a
            ``tokenizer.json``; or the name of one on the Hugging Face hub, such as ``"t5-base"``. All but bytes need
            the package ``tokenizers``. Unused with a token file.
        vocab_size: number of token ids: of a token file, which doesn't say it; of a BPE that is trained, 4096 by
            default; otherwise by default the tokenizer's.
        sequence_length: T, targets in a sequence.
        batch_size: sequences in a batch of a process.
        validation_share: part of the tokens for validation.
        max_bytes: of Python's text that is taken.
        token_dtype: of the numbers in a ``.bin``, "uint16" or "uint32".
        steps_per_epoch: batches that make an epoch, the next of which goes on where it ended; by default those of a
            pass, and 1000 of C4.
        validation_sequences: of C4.
        seed: of the order of sequences.
        cache_dir: where token files are kept; by default ``~/.cache/lightning-regimes``.

    Raises:
        ValueError: a number is out of range, or the text is too short for a batch.
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: ``tokenizers`` or ``datasets`` is needed and not installed.
    """

    def __init__(
        self,
        *,
        source: str = "python",
        tokenizer: str = "bytes",
        vocab_size: int | None = None,
        sequence_length: int = 256,
        batch_size: int = 16,
        validation_share: float = 0.05,
        max_bytes: int = 4_000_000,
        token_dtype: TokenType = "uint16",
        steps_per_epoch: int | None = None,
        validation_sequences: int = 2048,
        seed: int = 0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("sequence_length", sequence_length),
            ("batch_size", batch_size),
            ("max_bytes", max_bytes),
            ("steps_per_epoch", 1 if steps_per_epoch is None else steps_per_epoch),
            ("validation_sequences", validation_sequences),
        ):
            if value < 1:
                raise ValueError(f"`{name}` is at least 1, got {value}")
        if not 0 < validation_share < 1:
            raise ValueError(f"`validation_share` lies between 0 and 1, got {validation_share}")
        self._is_token_file = Path(source).suffix in (".bin", ".npy")
        if self._is_token_file and vocab_size is None:
            raise ValueError("a token file doesn't say how many token ids there are: set `vocab_size`")
        if vocab_size is not None and vocab_size < 2:
            raise ValueError(f"`vocab_size` is at least 2, got {vocab_size}")
        self.save_hyperparameters()
        self.source = source
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.seed = seed
        self._vocab_size = vocab_size
        self._tokens: dict[str, Tokens] = {}
        self._stream: TokenStream | None = None
        self._stream_state: dict[str, Any] | None = None
        #: Encodes and decodes text; None with a token file, and before ``setup``.
        self.tokenizer: Tokenizer | None = None

    @property
    def vocab_size(self) -> int | None:
        """Number of token ids; None as long as it isn't known, before ``setup``."""
        if self._vocab_size is not None and self.hparams["tokenizer"] != "bpe":
            return self._vocab_size
        return self._vocab_size if self.tokenizer is None else self.tokenizer.vocab_size

    @cached_property
    def unigram_entropy(self) -> float:
        """The loss of predicting training tokens by how often they occur, in nats; of C4, validation tokens."""
        tokens = self._tokens["val" if self.source == "c4" else "train"]
        return entropy_of_tokens(tokens, int(self.vocab_size or 0))

    def prepare_data(self) -> None:
        """Tokenize the text, unless that has been done."""
        if not self._is_token_file and self.source != "c4":
            self._tokenized()

    def setup(self, stage: str) -> None:
        """Map the tokens into memory, or start the stream."""
        if self._tokens:
            return
        if self.source == "c4":
            self._set_up_stream()
            return
        if self._is_token_file:
            tokens = open_token_file(self.source, dtype=self.hparams["token_dtype"])
        else:
            tokens = self._tokenized()
        boundary = int(len(tokens) * (1 - self.hparams["validation_share"]))
        self._tokens = {"train": tokens[:boundary], "val": tokens[boundary:]}
        if num_sequences(self._tokens["val"], self.sequence_length) < 1:
            raise ValueError(
                f"the validation part has {len(tokens) - boundary} tokens, too few for a sequence of "
                f"{self.sequence_length}; raise `validation_share`"
            )

    def train_dataloader(self) -> ResumableSteps:
        """Return the training batches of an epoch."""
        batches = self._shuffled_batches if self._stream is None else self._streamed_batches
        return ResumableSteps(self._steps_per_epoch(), batches)

    def val_dataloader(self) -> ResumableSteps:
        """Return all validation sequences in their order."""
        rank, num_processes = self._processes
        count = num_sequences(self._tokens["val"], self.sequence_length) // num_processes
        parts = (torch.arange(count) * num_processes + rank).split(self.batch_size)
        return ResumableSteps(len(parts), lambda: (self._sequences("val", part) for part in parts))

    def test_dataloader(self) -> ResumableSteps:
        """Return the validation sequences."""
        return self.val_dataloader()

    def predict_dataloader(self) -> ResumableSteps:
        """Return the validation sequences."""
        return self.val_dataloader()

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream is; there is nothing to remember of other sources."""
        if self._stream is None:
            return {}
        return {"stream": self._stream.state_dict(self._batches_done() * self.batch_size * self._processes[1])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the stream of a checkpoint."""
        self._stream_state = state_dict.get("stream")
        if self._stream is not None and self._stream_state is not None:
            self._stream.load_state_dict(self._stream_state)

    @property
    def _processes(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _batches_done(self) -> int:
        # Counted by the trainer, so that a resumed run goes on where the uninterrupted one would be.
        if self.trainer is None:
            return 0
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(total.processed)

    def _shuffled_batches(self) -> Iterator[Tensor]:
        rank, num_processes = self._processes
        count = num_sequences(self._tokens["train"], self.sequence_length)
        size = self.batch_size * num_processes
        start = self._batches_done()
        repeated = None
        if self.trainer is not None and getattr(self.trainer, "overfit_batches", 0) > 0:
            repeated = int(self.trainer.num_training_batches)
        order, of_pass = torch.empty(0, dtype=torch.int64), -1
        for number in range(start, start + self._steps_per_epoch()):
            index, batch = divmod(number if repeated is None else number % repeated, count // size)
            if index != of_pass:
                order, of_pass = permutation(count, seed=self.seed, index=index), index
            yield self._sequences("train", order[batch * size + rank * self.batch_size :][: self.batch_size])

    def _streamed_batches(self) -> Iterator[Tensor]:
        assert self._stream is not None
        rank, num_processes = self._processes
        size = self.batch_size * num_processes
        arriving = self._stream.sequences(self._batches_done() * size)
        for _ in range(self._steps_per_epoch()):
            batch = list(itertools.islice(arriving, size))
            yield torch.stack(batch[rank * self.batch_size :][: self.batch_size])

    def _steps_per_epoch(self) -> int:
        given = self.hparams["steps_per_epoch"]
        if self._stream is not None:
            return int(given or 1000)
        num_processes = self._processes[1]
        count = num_sequences(self._tokens["train"], self.sequence_length)
        in_pass = count // (self.batch_size * num_processes)
        if in_pass < 1:
            raise ValueError(
                f"the training part has {count} sequences, fewer than a batch of {self.batch_size} in each of "
                f"{num_processes} processes; lower `batch_size` or `sequence_length`"
            )
        return int(given or in_pass)

    def _sequences(self, part: str, indices: Tensor) -> Tensor:
        batch = sequences(self._tokens[part], self.sequence_length, indices)
        if int(batch.max()) >= int(self.vocab_size or 0):
            raise ValueError(f"the tokens have the id {int(batch.max())}, and `vocab_size` is {self.vocab_size}")
        return batch

    def _set_up_stream(self) -> None:
        if self.hparams["tokenizer"] == "bpe":
            raise ValueError("`tokenizer` of a stream can't be trained on it; name one, such as 't5-base'")
        self.tokenizer = named_tokenizer(self.hparams["tokenizer"])
        count = self.hparams["validation_sequences"] * self.sequence_length + 1
        self._tokens = {"val": first_tokens(lambda: open_c4("validation"), self.tokenizer, count)}
        self._stream = TokenStream(
            lambda: open_c4("train", seed=self.seed),
            self.tokenizer,
            sequence_length=self.sequence_length,
            vocab_size=self._vocab_size,
            seed=self.seed,
        )
        if self._stream_state is not None:
            self._stream.load_state_dict(self._stream_state)

    def _tokenized(self) -> Tokens:
        if self.source == "python":
            documents = python_text(self.hparams["max_bytes"])
        elif Path(self.source).is_file():
            documents = [Path(self.source).read_text(encoding="utf-8", errors="replace")]
        else:
            raise FileNotFoundError(f"`source` is 'python', 'c4' or a file, and there is no file {self.source!r}")
        self.tokenizer, tokens = tokenized_text(
            documents,
            tokenizer=self.hparams["tokenizer"],
            vocab_size=self._vocab_size or 4096,
            training_share=1 - self.hparams["validation_share"],
            folder=Path(self.hparams["cache_dir"] or cache_directory()),
        )
        return tokens
