"""Refinement of a frozen operator: its loss, what it logs, checkpoints, diagnostics, and what can't work."""

import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lightning_regimes.callbacks import FieldSnapshot, HessianSpectrum, LossLandscape, RefinementCurve, RegimeDetection
from lightning_regimes.metrics import variance_scaled_errors
from lightning_regimes.modules import IRNO, NeuralOperator
from lightning_regimes.modules.heldout_fields import heldout_fields
from lightning_regimes.modules.operator_checks import check_periodic
from lightning_regimes.modules.spectral_loss import spectral_loss
from lightning_regimes.networks import RefinementConvNeXt, RefinementUNet
from lightning_regimes.optim import AdamFactory
from lightning_regimes.recording import describe, read_records

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_fields.py")))
ShiftedFields, small_fno = SYNTHETIC["ShiftedFields"], SYNTHETIC["small_fno"]
trained_operator, trainer = SYNTHETIC["trained_operator"], SYNTHETIC["trainer"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def data():
    return ShiftedFields()


@pytest.fixture(scope="module")
def base(data):
    return trained_operator(data)


def small(base, **options):
    torch.manual_seed(1)
    return IRNO(base, RefinementUNet(hidden_channels=4, depth=1), **{"num_steps": 2, "random_steps": None, **options})


def test_the_loss_is_that_of_the_formula(base, data):
    module = small(base, spectral_weight=0.7, fixed_point_weight=0.3)
    batch = data.part("val", 16)
    x, y = module.input_scaling.normalize(batch["x"]), module.output_scaling.normalize(batch["y"])
    state = module.output_scaling.normalize(base(batch["x"]))
    expected = 0.3 * module.refinement(torch.cat([x, y], dim=1)).square().mean()
    for exponent in (1.0, 2.0):
        state = state + 0.25 * module.refinement(torch.cat([x, state], dim=1))
        spectral = spectral_loss(state, y, kind="complex", exponent=exponent)
        expected = expected + 0.5 * ((state - y).square().mean() + 0.7 * spectral)
    assert module.diagnostic_loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(module(batch["x"]), module.output_scaling.denormalize(state), atol=1e-5)
    refined = variance_scaled_errors(module(batch["x"]), batch["y"])
    assert module.plain_loss(batch).item() == pytest.approx(refined.square().mean().item(), rel=1e-6)
    assert module.trivial_loss(batch).item() == pytest.approx(1, abs=0.3)


def test_training_refines_and_leaves_the_base_alone(base, data):
    before = {name: entry.clone() for name, entry in base.state_dict().items()}
    module = small(base, optimizer=AdamFactory(lr=1e-2))
    runner = trainer(max_epochs=12, check_val_every_n_epoch=12, num_sanity_val_steps=0)
    runner.fit(module, data)
    assert all(torch.equal(entry, before[name]) for name, entry in base.state_dict().items())
    assert not base.training
    logged = runner.callback_metrics
    assert logged["val/vrmse"] < 0.9 * logged["val/vrmse_base"]
    curve = [logged[f"val/step_vrmse/{step}"].item() for step in range(7)]
    assert curve[0] == pytest.approx(logged["val/vrmse_base"].item())
    assert curve[2] == pytest.approx(logged["val/vrmse"].item())
    assert min(curve) == pytest.approx(logged["val/vrmse_best"].item())
    assert curve[int(logged["val/best_step"])] == min(curve)
    batch = data.part("val", 16)
    assert curve[2] == pytest.approx(variance_scaled_errors(module(batch["x"]), batch["y"]).mean().item(), rel=1e-5)
    assert curve[6] == pytest.approx(
        variance_scaled_errors(module(batch["x"], num_steps=6), batch["y"]).mean().item(), rel=1e-5
    )
    assert [logged[f"val/step_{band}/0"].item() for band in ("low", "mid", "high")] == [1.0] * 3
    assert 0 < logged["val/contraction_rate"] <= logged["val/contraction_norm"] * 1.5
    assert logged["val/nonfinite_samples"] == 0


def test_heldout_samples_are_those_of_the_datamodule(base):
    class WithFields(ShiftedFields):
        def fields(self, part):
            return self.part(part, 16)

    for module, error in ((NeuralOperator(small_fno(), periodic=True), "rel_l2"), (small(base), "vrmse")):
        runner = trainer(max_epochs=1, num_sanity_val_steps=0)
        runner.fit(module, WithFields())
        assert module.reference_error().item() == pytest.approx(
            runner.callback_metrics[f"val/{error}"].item(), rel=1e-5
        )
        batch = WithFields().part("val", 16)
        assert module.heldout_loss().item() == pytest.approx(module.plain_loss(batch).item(), rel=1e-6)
    assert small(base).heldout_loss() is None
    assert small(base).reference_error() is None


def test_heldout_samples_are_spread_evenly():
    fields = {"x": torch.arange(9.0).view(9, 1, 1), "y": -torch.arange(9.0).view(9, 1, 1), "times": torch.arange(3)}
    found = heldout_fields(SimpleNamespace(fields={"val": fields}.get), max_samples=3)
    assert {name: field.flatten().tolist() for name, field in found.items()} == {"x": [0, 4, 8], "y": [0, -4, -8]}
    for others in (None, SimpleNamespace(), SimpleNamespace(fields=lambda part: {"x": fields["x"]})):
        assert heldout_fields(others) is None


def test_random_steps_depend_on_the_step_alone(base, monkeypatch):
    module = small(base, random_steps=(2, 5))
    state = torch.get_rng_state()
    drawn = [module._drawn_steps() for _ in range(3)]
    assert len(set(drawn)) == 1
    assert torch.equal(torch.get_rng_state(), state)

    numbers = set()
    for step in range(60):
        monkeypatch.setattr(IRNO, "global_step", step)
        numbers.add(module._drawn_steps())
    assert numbers == {2, 3, 4, 5}


def test_a_checkpoint_alone_rebuilds_both_networks(base, data, tmp_path):
    module = small(base, tolerance=1e-3)
    runner = trainer(max_epochs=1)
    runner.fit(module, data)
    runner.save_checkpoint(tmp_path / "refined.ckpt")
    again = IRNO.load_from_checkpoint(tmp_path / "refined.ckpt", weights_only=True)
    fields = data.part("test", 16)["x"]
    assert torch.equal(again(fields), module.eval()(fields))
    assert again.random_steps is None
    assert again.tolerance == 1e-3


def test_a_base_comes_from_a_checkpoint_or_a_directory(base, data, tmp_path):
    runner = trainer(max_epochs=0)
    runner.fit(base.requires_grad_(True), data)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    runner.save_checkpoint(path)
    base.requires_grad_(False)
    fields = data.part("test", 16)["x"]
    for source in (path, tmp_path / "run"):
        module = IRNO(base_checkpoint=source)
        assert torch.equal(module.base(fields), base(fields))
        assert torch.equal(module.output_scaling.std, base.output_scaling.std)
    # The network alone, from a module that has it as a part.
    module = IRNO(small_fno(), base_checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(module.base.parameters(), base.operator.parameters(), strict=True))
    with pytest.raises(FileNotFoundError, match="train an operator first"):
        IRNO(base_checkpoint=tmp_path / "missing")
    with pytest.raises(ValueError, match="doesn't hold the weights"):
        IRNO(small_fno(n_layers=5), base_checkpoint=path)
    with pytest.raises(ValueError, match="`base_checkpoint`"):
        IRNO()


@pytest.mark.parametrize("kind", ["unet", "convnext", "fno", "dictionary"])
def test_any_network_refines_any_network(data, kind):
    refinement = {
        "unet": RefinementUNet(hidden_channels=4, depth=1, normalization="batch"),
        "convnext": RefinementConvNeXt(hidden_channels=4, num_blocks=1),
        "fno": small_fno(in_channels=2),
        "dictionary": {
            "class_path": "lightning_regimes.networks.RefinementUNet",
            "init_args": {"hidden_channels": 4, "depth": 1},
        },
    }[kind]
    module = IRNO(nn.Conv2d(1, 1, 3, padding=1), refinement, num_steps=1, random_steps=(1, 2))
    runner = trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=1, num_sanity_val_steps=0)
    runner.fit(module, data)
    assert runner.callback_metrics["val/vrmse"].isfinite()
    assert runner.callback_metrics["val/contraction_rate"].isfinite()


def test_predictions_stop_on_their_own_with_a_tolerance(base, data):
    module = small(base, tolerance=0.5).eval()
    fields = data.part("val", 16)["x"]
    assert torch.equal(module(fields), module(fields, num_steps=1))  # the first update is small enough
    (found,) = trainer().validate(module, data, verbose=False)
    assert found["val/adaptive_steps"] == 1
    assert found["val/vrmse_adaptive"] == pytest.approx(found["val/step_vrmse/1"], rel=1e-5)


class Broken(RefinementUNet):
    """Not finite where the first entry of a field is large."""

    def forward(self, fields):
        wrong = (fields[:, :1, :1, :1] > 1e3) * 1.0
        return super().forward(fields.clamp(-10, 10)) / (1 - wrong)


def test_batches_that_are_not_finite_are_counted_and_told_of(base, data):
    class Spoiled(type(data)):
        def part(self, part, size):
            fields = super().part(part, size)
            fields["x"][0, 0, 0, 0] = 1e9
            return fields

    module = IRNO(base, Broken(hidden_channels=4, depth=1), num_steps=1, random_steps=None)
    module.output_scaling.copy(base.output_scaling)
    runner = trainer(max_epochs=2, num_sanity_val_steps=0)
    with pytest.warns(RuntimeWarning, match="isn't finite in 2 batches"):
        runner.fit(module, Spoiled())
    assert module.num_nonfinite_batches == 2
    assert runner.callback_metrics["train/nonfinite_batches"] == 2
    assert runner.callback_metrics["val/nonfinite_samples"] == pytest.approx(1 / 16)
    assert not runner.callback_metrics["val/vrmse"].isfinite()
    assert all(parameter.isfinite().all() for parameter in module.refinement.parameters())


def test_all_diagnostics_run_on_operators_and_refinements(base, data, tmp_path):
    options = {"at_end": True, "overhead_budget": 0.0, "on_error": "raise"}

    def callbacks():
        return [
            HessianSpectrum(k=2, tol=0.05, num_trace_samples=0, **options),
            LossLandscape(points=5, **options),
            RegimeDetection(error_metric="val/vrmse", **options),
            FieldSnapshot(on_error="raise"),
        ]

    refining = [*callbacks(), RefinementCurve(on_error="raise")]
    for name, module, chosen in (
        ("operator", NeuralOperator(small_fno(), periodic=True), callbacks()),
        ("refinement", small(base), refining),
    ):
        runner = trainer(max_epochs=1, default_root_dir=tmp_path / name, callbacks=chosen)
        runner.fit(module, data)
        (path,) = (tmp_path / name).rglob("records.jsonl")
        records = {record.diagnostic: record for record in read_records(path.parent.parent)}
        assert {"hessian", "landscape", "regime", "field"} <= records.keys()
        assert records["regime"].text["regime/label"] in {"UNDER_TRAINED", "WELL_TRAINED", "OVER_TRAINED"}
        assert records["regime"].context["reference_source"] == "trivial_loss"
        for record in records.values():
            for key in (*record.scalars, *record.arrays, *record.text):
                assert describe(key).meaning
    found = records["refinement"]
    assert found.scalars["refinement/vrmse_base"] > 0
    figures = chosen[-1].measure(None, runner, module).figures
    assert {name: type(draw()).__name__ for name, draw in figures.items()} == {
        "refinement/curve": "Figure",
        "refinement/spectrum": "Figure",
    }


def test_complex_weights_have_the_hessian_of_their_real_parts():
    from lightning_regimes import LossProbe
    from lightning_regimes.curvature import HessianOperator

    torch.manual_seed(0)
    data = ShiftedFields(count=4, size=8)
    operator = small_fno(n_modes=(2, 2), hidden_channels=2, n_layers=1, lifting_channel_ratio=0)
    module = NeuralOperator(operator, periodic=True)
    trainer(max_epochs=1, limit_val_batches=0).fit(module, data)
    batch = data.part("train", 8)
    probe = LossProbe(module, [batch], parameters="operator.fno_blocks.convs.*")
    hessian = HessianOperator(probe)
    names = list(probe.parameters)
    shapes = {name: leaf.shape for name, leaf in probe.parameters.items()}

    def loss(flat):
        given, offset = {}, 0
        for name in names:
            count = shapes[name].numel()
            entry = flat[offset : offset + count].view(shapes[name])
            own = dict(module.named_parameters())[name]
            given[name] = torch.view_as_complex(entry.contiguous()) if own.is_complex() else entry
            offset += count
        predicted = torch.func.functional_call(module, given, (batch["x"],))
        difference = (predicted - batch["y"]).flatten(1).norm(dim=1)
        return (difference / batch["y"].flatten(1).norm(dim=1)).mean()

    flat = torch.cat([leaf.reshape(-1) for leaf in probe.parameters.values()]).detach()
    dense = torch.autograd.functional.hessian(loss, flat)
    product = hessian @ torch.eye(len(flat))
    assert torch.allclose(product, dense, atol=2e-4 * dense.abs().max().item())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"step_size": 0.0}, "step_size"),
        ({"spectral_loss": "phase"}, "spectral_loss"),
        ({"spectral_weight": -1.0}, "spectral_weight"),
        ({"random_steps": (3, 2)}, "random_steps"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_unusable_options_are_named(base, options, message):
    with pytest.raises(ValueError, match=message):
        IRNO(base, **options)


def test_data_that_does_not_fit_is_one_sentence(base, data):
    fields = torch.ones(2, 1, 16, 16)
    with pytest.raises(ValueError, match="in_channels=2 and out_channels=1, got 3 and 1"):
        IRNO(base, RefinementUNet(3, 1))(fields)
    with pytest.raises(ValueError, match="trained on other data"):
        small(base).diagnostic_loss({"x": fields, "y": torch.ones(2, 2, 16, 16)})
    slope = torch.linspace(0, 1, 16).expand(8, 1, 16, 16) + 0.01 * torch.randn(8, 1, 16, 16)
    with pytest.raises(ValueError, match="isn't periodic along axis 1"):
        IRNO(base)(slope)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IRNO(base, RefinementUNet(padding="replicate"))(slope)
        check_periodic(data.part("train", 16)["x"])
        check_periodic(slope[:1])
    with pytest.raises(RuntimeError, match="validation data"):
        small(base).refinement_curve()
