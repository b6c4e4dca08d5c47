"""Before training an engine is the classical rule; it scales, takes shorter probes and survives a file."""

from dataclasses import replace

import pytest
import torch

from lightning_regimes.spectral import (
    RecurrenceEngine,
    SpectralProbe,
    as_operator,
    clipped,
    lanczos_probe,
    load_engine,
    save_engine,
    smoothing,
)
from lightning_regimes.spectral.spectrum_batch import draw_spectra


def disturbed(**options):
    engine = RecurrenceEngine(**options)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in engine.network[-1].parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return engine


@pytest.mark.parametrize(("base", "rule"), [("clipped", clipped), ("smoothing", smoothing)])
@pytest.mark.parametrize("degree", [1, 4, 8, 16])
def test_untrained_it_is_the_rule(base, rule, degree):
    probe = draw_spectra(32, seed=3).probe
    found, expected = RecurrenceEngine(degree, base=base)(probe), rule(probe, degree)
    torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.beta, expected.beta, rtol=1e-12, atol=1e-15)


def test_its_residual_is_one_at_zero_whatever_it_has_learned():
    found = disturbed()(draw_spectra(32, seed=4).probe)
    zero = torch.zeros(32, 1, dtype=torch.float64)
    assert float((found.residual(zero) - 1).detach().abs().max()) <= 1e-14


def test_it_scales_with_the_operator():
    engine, probe = disturbed(), draw_spectra(8, seed=5).probe
    found, scaled = engine(probe), engine(probe.scaled(1e-6))
    torch.testing.assert_close(scaled.alpha, 1e6 * found.alpha, rtol=1e-10, atol=0)
    torch.testing.assert_close(scaled.beta, found.beta, rtol=1e-10, atol=0)


def test_a_probe_of_fewer_values_is_filled_up():
    engine = disturbed()
    probe = lanczos_probe(as_operator(torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))))
    assert probe.size == 3
    found = engine(probe)
    zeros = torch.zeros(7, dtype=torch.float64)
    full = SpectralProbe(
        torch.cat([probe.ritz[:1].expand(7), probe.ritz]),
        torch.cat([zeros, probe.weights]),
        torch.cat([zeros, probe.residuals]),
        probe.upper,
        3,
    )
    torch.testing.assert_close(engine(full).alpha, found.alpha, rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="at most 10 values, got 12"):
        engine(lanczos_probe(as_operator(torch.linspace(1, 2, 12, dtype=torch.float64).diag()), num_steps=12))


def test_the_dimension_is_seen_up_to_a_few_thousand_and_taken_for_large_where_it_is_not_known():
    engine, probe = disturbed(), draw_spectra(8, seed=5).probe
    alpha = {n: engine(replace(probe, dimension=n)).alpha for n in (64, 256, 4096, 10**7, None)}
    assert torch.equal(alpha[256], engine(probe).alpha)
    assert not torch.equal(alpha[256], alpha[64])
    assert torch.equal(alpha[4096], alpha[10**7])
    assert torch.equal(alpha[4096], alpha[None])


def test_a_file_holds_the_weights_to_single_precision(tmp_path):
    engine = disturbed(degree=5, probe_size=7, width=16, base="smoothing")
    save_engine(engine, tmp_path / "engine.safetensors")
    loaded = load_engine(tmp_path / "engine.safetensors")
    assert loaded.settings == engine.settings
    probe = draw_spectra(4, seed=6, probe_size=7).probe
    torch.testing.assert_close(loaded(probe).alpha, engine(probe).alpha, rtol=1e-5, atol=0)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_another_degree_or_file_is_an_error(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match="of degree 8, got 4"):
        RecurrenceEngine()(draw_spectra(1, seed=0).probe, 4)
    with pytest.raises(ValueError, match="`base` is one of"):
        RecurrenceEngine(base="exact")
    with pytest.raises(ValueError, match="at least 1"):
        RecurrenceEngine(0)
    save_file({"a": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="holds no engine"):
        load_engine(tmp_path / "other.safetensors")
