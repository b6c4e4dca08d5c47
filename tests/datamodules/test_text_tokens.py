import gzip
import itertools
import json
import math
import sys
import types

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_regimes.datamodules import TextTokens, c4
from lightning_regimes.datamodules.bpe_tokenizer import BPETokenizer
from lightning_regimes.datamodules.byte_tokenizer import ByteTokenizer
from lightning_regimes.datamodules.text_corpus import python_text
from lightning_regimes.datamodules.token_file import open_token_file, write_atomically
from lightning_regimes.datamodules.token_stream import TokenStream


def counting_file(folder, count=1013, dtype=np.uint16, suffix=".bin"):
    path = folder / f"tokens{suffix}"
    tokens = np.arange(count, dtype=dtype)
    tokens.tofile(path) if suffix == ".bin" else np.save(path, tokens)
    return str(path)


def counting(folder, **options):
    defaults = {"vocab_size": 1013, "sequence_length": 10, "batch_size": 4, "validation_share": 0.2}
    data = TextTokens(source=counting_file(folder), **{**defaults, **options})
    data.setup("fit")
    return data


class Watched(L.LightningModule):
    """Remembers the batches that it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.clone())
        return self.weight.square()

    def configure_optimizers(self):
        # It sets up the loaders before a checkpoint is restored.
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, data, checkpoint=None, **options):
    saving = ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1, every_n_train_steps=3)
    model = Watched()
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        callbacks=[saving],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model, data, ckpt_path=checkpoint)
    return model.seen


def same(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_token_but_the_first_is_a_target_once_and_nothing_is_padded(tmp_path):
    data = counting(tmp_path)
    batches = list(data.train_dataloader())
    assert len(batches) == len(data.train_dataloader()) == 20
    rows = torch.cat(batches)
    assert rows.shape == (80, 11)
    assert rows.dtype == torch.int64
    assert torch.equal(rows.diff(dim=1), torch.ones(80, 10, dtype=torch.int64))
    # The training part has 810 tokens.
    assert sorted(rows[:, 1:].flatten().tolist()) == list(range(1, 801))


def test_validation_is_the_end_of_the_tokens_in_their_order(tmp_path):
    data = counting(tmp_path)
    rows = torch.cat(list(data.val_dataloader()))
    assert torch.equal(rows[:, 0], torch.arange(810, 1010, 10))


def test_the_order_depends_on_seed_and_pass_only(tmp_path):
    orders = []
    for seed, manual in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(manual)
        state = torch.get_rng_state()
        orders.append(torch.cat(list(counting(tmp_path, seed=seed).train_dataloader())))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    epochs = torch.stack(fit(tmp_path, counting(tmp_path), max_epochs=2)).flatten(1).split(20)
    assert torch.equal(epochs[0], orders[0].view(20, -1))
    assert not torch.equal(epochs[1], epochs[0])
    assert torch.equal(epochs[1][:, ::11].flatten().sort()[0], epochs[0][:, ::11].flatten().sort()[0])


@pytest.mark.parametrize("step", [3, 21, 27, 39])
def test_a_resumed_run_sees_the_batches_that_the_other_would_have_seen(tmp_path, step):
    whole = fit(tmp_path, counting(tmp_path), max_steps=45)
    resumed = fit(tmp_path, counting(tmp_path), tmp_path / f"step={step}.ckpt", max_steps=45)
    assert same(resumed, whole[step:])


def test_short_epochs_go_on_where_they_ended_and_overfitted_ones_do_not(tmp_path):
    whole = fit(tmp_path, counting(tmp_path), max_epochs=2)
    assert same(fit(tmp_path, counting(tmp_path, steps_per_epoch=7), max_steps=40), whole)
    assert same(fit(tmp_path, counting(tmp_path), max_epochs=2, limit_train_batches=3), whole[:6])
    assert same(fit(tmp_path, counting(tmp_path), max_epochs=2, overfit_batches=3), whole[:3] * 2)


def test_processes_share_a_batch(tmp_path, monkeypatch):
    whole = counting(tmp_path, batch_size=6)
    parts = [counting(tmp_path, batch_size=3) for _ in range(2)]
    for rank, data in enumerate(parts):
        monkeypatch.setattr(type(data), "_processes", property(lambda self: self.place))
        data.place = (rank, 2)
    whole.place = (0, 1)
    for both in zip(whole.train_dataloader(), *(data.train_dataloader() for data in parts), strict=True):
        assert torch.equal(both[0], torch.cat(both[1:]))
    heldout = [torch.cat(list(data.val_dataloader())) for data in (*parts, whole)]
    assert torch.equal(torch.stack(heldout[:2], dim=1).flatten(0, 1), heldout[2])


def test_entropy_is_that_of_the_training_tokens(tmp_path):
    tokens = np.repeat([0, 1, 2, 3], [100, 200, 100, 100]).astype(np.uint32)
    np.save(tmp_path / "t.npy", tokens)
    data = TextTokens(source=str(tmp_path / "t.npy"), vocab_size=4, validation_share=0.2, sequence_length=5)
    data.setup("fit")
    assert data.unigram_entropy == pytest.approx(1.5 * math.log(2), rel=1e-12)


def test_bytes_and_their_text(tmp_path):
    documents = ["Grüße, 世界\n", "", "x = 1"]
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode(documents)
    assert tokenizer.decode(tokens).split("\0") == [*documents, ""]
    (tmp_path / "text.txt").write_text("ab" * 400, encoding="utf-8")
    data = TextTokens(source=str(tmp_path / "text.txt"), sequence_length=4, cache_dir=str(tmp_path))
    data.setup("fit")
    assert data.vocab_size == 256
    assert data.unigram_entropy == pytest.approx(math.log(2), rel=1e-3)
    assert set(torch.cat(list(data.train_dataloader())).unique().tolist()) == {97, 98}


def test_text_of_python_is_real_mixed_and_of_the_size_that_was_asked_for():
    documents = python_text(300_000)
    assert sum(len(document.encode()) for document in documents) == pytest.approx(300_000, abs=3)
    assert documents == python_text(300_000)
    assert documents[:-1] == python_text(400_000)[: len(documents) - 1]
    text = "".join(documents)
    assert text.count("def ") > 50
    assert text.count("\n") > 3000
    assert "Copyright" in text or "import" in text


def test_tokens_are_written_once_and_whole(tmp_path, monkeypatch):
    options = {"max_bytes": 60_000, "sequence_length": 16, "cache_dir": str(tmp_path / "cache")}
    first = TextTokens(**options)
    first.prepare_data()
    (file,) = (tmp_path / "cache").iterdir()
    before = file.stat().st_mtime_ns
    second = TextTokens(**options)
    second.setup("fit")
    assert file.stat().st_mtime_ns == before
    assert isinstance(second._tokens["train"], np.memmap)
    TextTokens(**{**options, "max_bytes": 50_000}).prepare_data()
    assert len(list((tmp_path / "cache").iterdir())) == 2

    def fails(path):
        path.write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_atomically(tmp_path / "other" / "file.npy", fails)
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(("dtype", "suffix"), [("uint16", ".bin"), ("uint32", ".bin"), ("uint32", ".npy")])
def test_token_files_are_mapped(tmp_path, dtype, suffix):
    path = counting_file(tmp_path, dtype=dtype, suffix=suffix)
    tokens = open_token_file(path, dtype=dtype)
    assert isinstance(tokens, np.memmap)
    assert np.array_equal(tokens, np.arange(1013))


class Documents:
    """A stream as `datasets` makes it, of numbered words."""

    def __init__(self, count=40):
        self.count = count
        self.next = 0

    def __iter__(self):
        for number in range(self.next, self.count):
            self.next = number + 1
            yield {"text": f"document {number} " * (number % 7), "url": "-"}

    def state_dict(self):
        return {"next": self.next}

    def load_state_dict(self, state):
        self.next = state["next"]


@pytest.fixture
def stubbed(monkeypatch):
    stub = types.ModuleType("datasets")
    stub.asked = []

    def load_dataset(name, *, data_files, split, streaming):
        stub.asked.append((name, data_files, split, streaming))
        return Documents(40 if split == "train" else 12)

    stub.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", stub)
    return stub


def streamed(**options):
    defaults = {"sequence_length": 16, "batch_size": 3, "steps_per_epoch": 8, "validation_sequences": 5}
    return TextTokens(source="c4", **{**defaults, **options})


def test_a_stream_is_cut_without_padding_and_shuffled_in_blocks():
    stream = TokenStream(Documents, ByteTokenizer(), sequence_length=16, block_size=4)
    rows = torch.stack(list(itertools.islice(stream.sequences(), 40)))
    expected = torch.as_tensor(ByteTokenizer().encode([entry["text"] for entry in Documents()]).astype(np.int64))
    expected = expected.repeat(2)[: 40 * 16 + 1].unfold(0, 17, 16)
    assert not torch.equal(rows, expected)
    for block in range(10):
        ours, theirs = rows[4 * block :][:4], expected[4 * block :][:4]
        assert sorted(ours.tolist()) == sorted(theirs.tolist())


@pytest.mark.parametrize("position", [0, 1, 7, 8, 29, 64])
def test_a_stream_goes_on_exactly_from_its_state(position):
    def stream():
        return TokenStream(Documents, ByteTokenizer(), sequence_length=16, block_size=8, seed=3)

    first = stream()
    whole = list(itertools.islice(first.sequences(), 90))
    interrupted = stream()
    list(itertools.islice(interrupted.sequences(), position))
    state = interrupted.state_dict(position)
    resumed = stream()
    resumed.load_state_dict(state)
    assert same(list(itertools.islice(resumed.sequences(position), 90 - position)), whole[position:])
    # The same object continues as well, and goes back to the beginning.
    assert same(list(itertools.islice(first.sequences(85), 5)), whole[85:])
    assert same(list(itertools.islice(first.sequences(), 5)), whole[:5])


@pytest.mark.parametrize("step", [3, 6, 9, 15])
def test_a_run_on_c4_resumes_exactly(tmp_path, stubbed, step):
    whole = fit(tmp_path, streamed(), max_steps=20)
    assert len(whole) == 20
    assert len({tuple(row.tolist()) for row in torch.cat(whole)}) > 50
    resumed = fit(tmp_path, streamed(), tmp_path / f"step={step}.ckpt", max_steps=20)
    assert same(resumed, whole[step:])


def test_c4_is_asked_for_in_a_shuffled_order_of_its_files(stubbed):
    data = streamed(seed=1)
    data.setup("fit")
    assert torch.cat(list(data.val_dataloader())).shape == (5, 17)
    assert 1.5 < data.unigram_entropy < 4
    next(iter(data.train_dataloader()))
    (_, validation, _, _), (name, files, split, streaming) = stubbed.asked[:2]
    assert (name, split, streaming) == ("allenai/c4", "train", True)
    assert validation["validation"] == [f"en/c4-validation.{i:05d}-of-00008.json.gz" for i in range(8)]
    assert files["train"] != sorted(files["train"])
    assert sorted(files["train"]) == [f"en/c4-train.{i:05d}-of-01024.json.gz" for i in range(1024)]


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModuleNotFoundError, match=r"`datasets`.*lightning-regimes\[llm\]"):
        streamed().setup("fit")
    with pytest.raises(ModuleNotFoundError, match=r"`tokenizers`.*lightning-regimes\[llm\]"):
        TextTokens(tokenizer="bpe", max_bytes=5000, cache_dir=str(tmp_path)).prepare_data()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sequence_length": 0}, ValueError, "`sequence_length`"),
        ({"steps_per_epoch": 0}, ValueError, "`steps_per_epoch`"),
        ({"validation_share": 1.0}, ValueError, "`validation_share`"),
        ({"source": "tokens.bin"}, ValueError, "set `vocab_size`"),
        ({"source": "none.bin", "vocab_size": 5}, FileNotFoundError, "none.bin"),
        ({"source": "nothing.txt"}, FileNotFoundError, "'nothing.txt'"),
        ({"source": "c4", "tokenizer": "bpe"}, ValueError, "can't be trained"),
    ],
)
def test_unusable_options_are_named(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        TextTokens(cache_dir=str(tmp_path), **options).setup("fit")


def test_unusable_token_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"the id 1000, and `vocab_size` is 50|the id \d+, and `vocab_size` is 50"):
        next(iter(counting(tmp_path, vocab_size=50).train_dataloader()))
    with pytest.raises(ValueError, match="lower `batch_size`"):
        counting(tmp_path, batch_size=500).train_dataloader()
    with pytest.raises(ValueError, match="raise `validation_share`"):
        counting(tmp_path, validation_share=0.005)
    (tmp_path / "odd.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="3 bytes"):
        open_token_file(tmp_path / "odd.bin")
    np.save(tmp_path / "real.npy", np.zeros(4))
    with pytest.raises(ValueError, match="vector of integers"):
        open_token_file(tmp_path / "real.npy")


@pytest.mark.peer
def test_a_trained_bpe_packs_more_into_a_token_and_loses_nothing(tmp_path):
    pytest.importorskip("tokenizers")
    options = {"max_bytes": 200_000, "sequence_length": 32, "cache_dir": str(tmp_path)}
    data = TextTokens(tokenizer="bpe", vocab_size=1024, **options)
    data.prepare_data()
    data.setup("fit")
    assert data.vocab_size == 1024
    tokens = np.concatenate([data._tokens["train"], data._tokens["val"]])
    assert len(tokens) < 200_000 / 2.5
    documents = "".join(data.tokenizer.decode(part) for part in np.split(tokens, np.where(tokens == 0)[0]))
    assert documents == "".join(python_text(200_000))
    again = TextTokens(tokenizer="bpe", vocab_size=1024, **options)
    again.setup("fit")
    assert np.array_equal(again._tokens["train"], data._tokens["train"])
    (path,) = tmp_path.glob("*.json")
    assert BPETokenizer.load(str(path)).end_of_document == 0
    with pytest.raises(ValueError, match="`vocab_size`"):
        BPETokenizer.train(["text"], 100)


@pytest.mark.peer
def test_real_streams_of_datasets_resume_exactly(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    files = []
    for shard in range(3):
        files.append(str(tmp_path / f"part-{shard}.json.gz"))
        with gzip.open(files[-1], "wt") as handle:
            for entry in list(Documents(40))[shard::3]:
                handle.write(json.dumps(entry) + "\n")

    def open_documents(split, *, seed=0):
        return datasets.load_dataset("json", data_files={split: files}, split=split, streaming=True)

    assert next(iter(open_documents("train")))["text"] == ""
    monkeypatch.setattr("lightning_regimes.datamodules.text_tokens.open_c4", open_documents)
    whole = fit(tmp_path, streamed(), max_steps=20)
    for step in (3, 9, 15):
        resumed = fit(tmp_path, streamed(), tmp_path / f"step={step}.ckpt", max_steps=20)
        assert same(resumed, whole[step:])
    assert c4.open_c4 is not open_documents
