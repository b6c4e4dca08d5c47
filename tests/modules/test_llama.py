import math
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection
from lightning_regimes.cli import main
from lightning_regimes.curvature import HessianOperator
from lightning_regimes.datamodules import TextTokens
from lightning_regimes.modules import Llama
from lightning_regimes.modules.token_rate import TokenRate
from lightning_regimes.networks import LlamaConfiguration
from lightning_regimes.optim import AdamFactory, OptimizerFactory, cosine_with_warmup
from lightning_regimes.recording import read_records

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = LlamaConfiguration(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, vocab_size=256)


@pytest.fixture
def data(tmp_path):
    return TextTokens(max_bytes=40_000, sequence_length=16, batch_size=8, cache_dir=str(tmp_path / "tokens"))


def trainer(folder, **options):
    defaults = {"max_steps": 5, "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        **{"limit_val_batches": 4, **defaults, **options},
    )


def test_loss_and_perplexity_are_those_of_the_next_token(tmp_path, data):
    torch.manual_seed(0)
    model = Llama(SMALL)
    with torch.no_grad():
        model.network.lm_head.weight.mul_(30)
    metrics = trainer(tmp_path).validate(model, data, verbose=False)[0]
    total, count = 0.0, 0
    for batch in list(data.val_dataloader())[:4]:
        logits = model(batch[:, :-1]).detach().double().log_softmax(-1)
        for row, targets in zip(logits, batch[:, 1:], strict=True):
            total -= sum(float(row[t, target]) for t, target in enumerate(targets))
            count += len(targets)
    assert metrics["val/loss"] == pytest.approx(total / count, rel=1e-5)
    assert metrics["val/perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)


def test_unequal_batches_weigh_by_their_tokens(tmp_path):
    model = Llama(SMALL, warmup=None)
    batches = [torch.randint(256, (count, length)) for count, length in ((4, 9), (1, 3))]
    metrics = trainer(tmp_path).test(model, DataLoader(batches, batch_size=None), verbose=False)[0]
    losses = [F.cross_entropy(model(b[:, :-1]).transpose(1, 2), b[:, 1:]).item() for b in batches]
    assert metrics["test/loss"] == pytest.approx((32 * losses[0] + 2 * losses[1]) / 34, rel=1e-5)


def test_the_loss_of_half_precision_is_summed_in_single(tmp_path, data):
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    model = Llama(SMALL).bfloat16()
    logits = model(batch[:, :-1]).detach()
    assert logits.dtype == torch.bfloat16
    expected = F.cross_entropy(logits.double().transpose(1, 2), batch[:, 1:]).item()
    metrics = trainer(tmp_path, precision="bf16-true").validate(
        model, DataLoader([batch], batch_size=None), verbose=False
    )
    assert metrics[0]["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_the_learning_rate_rises_over_a_tenth_and_ends_at_a_tenth(tmp_path, data):
    rates = []

    class Watch(L.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])

    trainer(tmp_path, max_steps=20, callbacks=[Watch()]).fit(Llama(SMALL), data)
    expected = [5e-4, 1e-3, *(1e-3 * (0.55 + 0.45 * math.cos(math.pi * t / 18)) for t in range(18))]
    assert rates == pytest.approx(expected, rel=1e-9)


def test_a_schedule_of_the_factory_is_left_alone_and_none_is_none(tmp_path, data):
    own = Llama(SMALL, optimizer=AdamFactory(lr_scheduler=lambda o: cosine_with_warmup(o, total_steps=7)))
    first = trainer(tmp_path)
    first.fit(own, data)
    assert [config.scheduler.total_steps for config in first.lr_scheduler_configs] == [7]
    second = trainer(tmp_path)
    second.fit(Llama(SMALL, warmup=None), data)
    assert second.lr_scheduler_configs == []
    with pytest.raises(ValueError, match="max_steps"):
        trainer(tmp_path, max_steps=-1, max_epochs=-1).fit(Llama(SMALL), data)


def test_tokens_per_second_count_targets_over_time(tmp_path, data, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("lightning_regimes.modules.token_rate.time.perf_counter", lambda: next(clock))
    rate = TokenRate(window=2)
    assert [rate.add(10), rate.add(30), rate.add(30)] == [10, 20, 30]
    fitted = trainer(tmp_path, limit_val_batches=0)
    fitted.fit(Llama(SMALL), data)
    assert fitted.callback_metrics["train/tokens_per_second"] == 8 * 16


def test_the_trivial_predictor_knows_how_often_tokens_occur(tmp_path, data):
    model = Llama(SMALL)
    batch = torch.zeros(2, 5, dtype=torch.int64)
    assert model.trivial_loss(batch).item() == pytest.approx(math.log(256))
    trainer(tmp_path).fit(model, data)
    counts = torch.bincount(torch.as_tensor(data._tokens["train"].astype("int64"))).double()
    frequencies = counts[counts > 0] / counts.sum()
    assert model.trivial_loss(batch).item() == pytest.approx(-(frequencies * frequencies.log()).sum().item(), rel=1e-6)


def test_a_vocabulary_that_is_not_that_of_the_data_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r"`vocab_size` of the network is 32000, the data has 256 tokens"):
        trainer(tmp_path).fit(Llama("20M"), data)


def test_unusable_arguments_and_batches_are_named():
    with pytest.raises(ValueError, match="no preset '7B'"):
        Llama("7B")
    with pytest.raises(ValueError, match="`warmup`"):
        Llama(SMALL, warmup=1.0)
    with pytest.raises(ValueError, match="`min_lr_ratio`"):
        Llama(SMALL, min_lr_ratio=2.0)
    model = Llama(SMALL, vocab_size=40, tie_embeddings=True)
    assert model.configuration.vocab_size == 40
    assert model.configuration.tie_embeddings
    for batch in (torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), (torch.zeros(3, 4, dtype=torch.int64),)):
        with pytest.raises(ValueError, match="a batch is integer token ids"):
            model.training_step(batch)


def test_hessian_products_are_those_of_the_dense_hessian():
    torch.manual_seed(0)
    tiny = LlamaConfiguration(hidden_size=4, num_layers=1, num_heads=1, intermediate_size=5, vocab_size=7)
    model = Llama(tiny).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    batch = torch.randint(7, (3, 6))
    operator = HessianOperator(LossProbe(model, [batch]), engine="reverse")
    names = [name for name, _ in model.named_parameters()]
    sizes = [parameter.numel() for parameter in model.parameters()]

    def dense_loss(flat):
        pieces = zip(names, flat.split(sizes), model.parameters(), strict=True)
        values = {name: piece.view_as(parameter) for name, piece, parameter in pieces}
        network = {name.removeprefix("network."): value for name, value in values.items()}
        logits = torch.func.functional_call(model.network, network, (batch[:, :-1],))
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    flat = nn.utils.parameters_to_vector(model.parameters()).detach()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        dense = torch.autograd.functional.hessian(dense_loss, flat)
    found = operator @ torch.eye(len(flat), dtype=torch.float64)
    torch.testing.assert_close(found, dense, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("activation_checkpointing", [False, True])
def test_diagnostics_measure_it(tmp_path, data, activation_checkpointing):
    callbacks = [HessianSpectrum(k=1, every_n_steps=4, num_trace_samples=0), RegimeDetection(every_n_steps=4)]
    model = Llama(SMALL, activation_checkpointing=activation_checkpointing)
    fitted = trainer(tmp_path, max_steps=8, callbacks=callbacks, val_check_interval=4)
    fitted.fit(model, data)
    (path,) = tmp_path.rglob("records.jsonl")
    records = read_records(path.parent.parent)
    spectra = [record.scalars for record in records if record.diagnostic == "hessian"]
    assert len(spectra) == 2
    assert all(scalars["hessian/lambda_1"] > 0 for scalars in spectra)
    (*_, last) = [record for record in records if record.diagnostic == "regime"]
    assert last.context["reference_source"] == "trivial_loss"
    assert last.context["evidence_source"] == "val/loss"
    assert last.scalars["regime/reference_loss"] == pytest.approx(data.unigram_entropy, rel=1e-6)


def test_activation_checkpointing_trains_the_same_network(tmp_path, data):
    weights = []
    for activation_checkpointing in (False, True):
        L.seed_everything(0)
        model = Llama(SMALL, activation_checkpointing=activation_checkpointing)
        trainer(tmp_path).fit(model, data)
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)


@pytest.mark.parametrize("path", sorted((CONFIGS / "llm").glob("*.yaml")), ids=lambda path: path.name)
def test_configurations_that_need_a_download_parse_with_all_their_options(path, capsys, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    text = path.read_text()
    assert "What to see:" in text
    lines = [line.lstrip("# ").split() for line in text.splitlines() if line.startswith("#   --")]
    assert len(lines) >= 3
    for options in [[], *lines]:
        assert main(["fit", "-c", str(path), *options, "--print_config"]) == 0, options
        printed = yaml.safe_load(capsys.readouterr().out)
        factory = printed["model"]["init_args"]["optimizer"]["class_path"].rpartition(".")[2]
        assert factory in options[0] if "optimizer" in "".join(options[:1]) else factory == "AdamFactory"
    settings = yaml.safe_load(text)
    batch = settings["data"]["init_args"]["batch_size"] * settings["trainer"]["accumulate_grad_batches"]
    assert batch * settings["data"]["init_args"]["sequence_length"] == 131_072


def test_any_factory_makes_the_optimizer():
    class Recording(OptimizerFactory):
        def __call__(self, module):
            return {"made": module}

    model = Llama(SMALL, optimizer=Recording())
    assert model.configure_optimizers() == {"made": model}
