"""Training of operators: losses against formulas, what is logged, checkpoints, and what can't work."""

import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_regimes.modules import NeuralOperator
from lightning_regimes.modules.rollout import rollout
from lightning_regimes.optim import AdamFactory, LBFGSFactory

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_fields.py")))
Exact, ShiftedFields, small_fno = SYNTHETIC["Exact"], SYNTHETIC["ShiftedFields"], SYNTHETIC["small_fno"]
trained_operator, trainer = SYNTHETIC["trained_operator"], SYNTHETIC["trainer"]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_the_loss_is_the_relative_error_in_the_fields_own_units():
    data = ShiftedFields()
    module = trained_operator(data)
    batch = data.part("val", 16)
    predicted, truth = module(batch["x"]).detach().double().numpy(), batch["y"].double().numpy()
    ratios = [np.linalg.norm(p - t) / np.linalg.norm(t) for p, t in zip(predicted, truth, strict=True)]
    assert module.diagnostic_loss(batch).item() == pytest.approx(np.mean(ratios), rel=1e-5)
    assert module.plain_loss(batch).item() == pytest.approx(np.mean(np.square(ratios)), rel=1e-5)
    mean = data.normalizers["y"].mean.item()
    trivial = [np.linalg.norm(mean - t) ** 2 / np.linalg.norm(t) ** 2 for t in truth]
    assert module.trivial_loss(batch).item() == pytest.approx(np.mean(trivial), rel=1e-5)


def test_the_true_operator_has_no_error_of_any_kind():
    data = ShiftedFields(others=(24,), rollouts=True)
    module = NeuralOperator(Exact(data), loss="h1", periodic=True, physics_weight=1.0)
    runner = trainer(max_epochs=1, limit_train_batches=0)
    runner.fit(module, data)
    (found, *rest) = runner.validate(module, data, verbose=False)
    logged = {name: value for result in (found, *rest) for name, value in result.items()}
    errors = {"rel_l2", "rel_h1", "vrmse", "rel_l2_at_24", "vrmse_at_24", "residual", "rollout_vrmse_3"}
    assert {f"val/{name}" for name in errors} <= logged.keys()
    assert all(value == pytest.approx(0, abs=2e-5) for value in logged.values()), logged


def test_physics_alone_train_without_targets():
    data = ShiftedFields()
    module = NeuralOperator(Exact(data), physics_weight=2.0, data_weight=0.0)
    with torch.no_grad():
        module.operator.offset.fill_(0.3)
    trainer(max_epochs=1, limit_train_batches=0, limit_val_batches=0).fit(module, data)
    batch = data.part("train", 16)
    offset = 0.3 * data.normalizers["y"].std.item()
    size = batch["y"].flatten(1).square().mean(dim=1).sqrt()
    module.trainer.datamodule = data
    assert module.loss_components(batch)["physics"].item() == pytest.approx(2 * (offset / size).mean().item(), rel=1e-4)
    assert set(module.loss_components(batch)) == {"physics"}
    trainer(max_epochs=4, limit_val_batches=0).fit(module, data)
    assert abs(module.operator.offset.item()) < 0.3


def test_a_rollout_feeds_predictions_back():
    window = torch.stack([torch.full((4,), 1.0), torch.full((4,), 2.0)])[None]
    found = rollout(lambda fields: fields.sum(dim=1, keepdim=True), window, 4)
    assert found[0, :, 0, 0].tolist() == [3.0, 5.0, 8.0, 13.0]
    with pytest.raises(ValueError, match="whole fields"):
        rollout(lambda fields: torch.cat([fields, fields], dim=1)[:, :3], torch.zeros(1, 2, 4), 1)
    with pytest.raises(ValueError, match="num_steps"):
        rollout(lambda fields: fields, window, 0)


def test_a_rollout_that_diverges_is_counted():
    data = ShiftedFields(rollouts=True)

    class Exploding(torch.nn.Module):
        def forward(self, fields):
            return 1e25 * fields

    (_, found) = trainer().validate(NeuralOperator(Exploding()), data, verbose=False)
    assert found["val/rollout_nonfinite"] == 1.0
    assert not np.isfinite(found["val/rollout_vrmse"])


def test_a_checkpoint_alone_rebuilds_the_module(tmp_path):
    data = ShiftedFields()
    module = NeuralOperator(small_fno(), optimizer=AdamFactory(lr=2e-3), loss="h1", periodic=True, min_lr_ratio=0.1)
    runner = trainer(max_epochs=1)
    runner.fit(module, data)
    runner.save_checkpoint(tmp_path / "trained.ckpt")
    again = NeuralOperator.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True)
    fields = data.part("test", 16)["x"]
    assert torch.equal(again(fields), module(fields))
    assert (again.loss, again.periodic, again.min_lr_ratio) == ("h1", True, 0.1)
    assert again.optimizer_factory == AdamFactory(lr=2e-3)


def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path):
    data = ShiftedFields()

    def run(epochs, path=None):
        torch.manual_seed(0)
        module = NeuralOperator(small_fno(), warmup=None)
        runner = trainer(max_epochs=epochs, limit_val_batches=0)
        # Shuffling draws from the global generator, which a resumed process has in another state.
        torch.manual_seed(1)
        runner.fit(module, data, ckpt_path=path, weights_only=True if path else None)
        return module, runner

    data.train_dataloader = lambda: torch.utils.data.DataLoader(
        ShiftedFields().train_dataloader().dataset, batch_size=8
    )
    whole, _ = run(2)
    _, runner = run(1)
    runner.save_checkpoint(tmp_path / "middle.ckpt")
    resumed, _ = run(2, tmp_path / "middle.ckpt")
    for name, entry in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], entry), name


def test_a_model_of_neuraloperator_is_made_from_its_description():
    from neuralop.models import TFNO

    description = {
        "class_path": "neuralop.models.TFNO",
        "init_args": {"n_modes": [4, 4], "in_channels": 1, "out_channels": 1, "hidden_channels": 8, "rank": 0.5},
    }
    module = NeuralOperator(description)
    assert isinstance(module.operator, TFNO)
    assert module.hparams["operator"]["init_args"] == description["init_args"]
    for wrong, message in (
        ({"class_path": "neuralop.models.Missing"}, "no class"),
        ({"class_path": "neuralop.models.FNO", "init_args": {"modes": 3}}, "doesn't take the arguments"),
        ({"class_path": "pathlib.Path"}, "torch.nn.Module"),
    ):
        with pytest.raises(ValueError, match=message):
            NeuralOperator(wrong)


def test_optimizers_of_both_orders_train_complex_weights():
    data = ShiftedFields(count=8)
    for factory in (AdamFactory(lr=5e-3), LBFGSFactory(max_iter=5)):
        torch.manual_seed(0)
        module = NeuralOperator(small_fno(), optimizer=factory, warmup=None)
        trainer(max_epochs=1, limit_train_batches=0, limit_val_batches=0).fit(module, data)
        batch = data.part("train", 16)
        before = module.plain_loss(batch).item()
        trainer(max_epochs=3, limit_val_batches=0).fit(module, data)
        assert module.plain_loss(batch).item() < before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "linf"}, "'l2' or 'h1'"),
        ({"physics_weight": -1.0}, "aren't negative"),
        ({"data_weight": 0.0}, "both zero"),
        ({"warmup": 1.0}, "warmup"),
        ({"min_lr_ratio": 2.0}, "min_lr_ratio"),
    ],
)
def test_unusable_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        NeuralOperator(torch.nn.Conv2d(1, 1, 1), **options)


def test_data_that_does_not_fit_is_one_sentence():
    fields = torch.ones(2, 1, 16, 16)
    for operator, given, message in (
        (small_fno(in_channels=2), fields, "takes 2 input channels, and the data has 1"),
        (small_fno(n_modes=(20, 20)), fields, "more than the .* points"),
        (small_fno(), fields[:, :, 0], "acts in 2 dimensions"),
    ):
        with pytest.raises(ValueError, match=message):
            NeuralOperator(operator)(given)
    with pytest.raises(ValueError, match="out_channels"):
        NeuralOperator(small_fno(out_channels=2)).training_step({"x": fields, "y": fields})
    data = ShiftedFields()
    data.residual = None
    with pytest.raises(ValueError, match="residual"):
        trainer(max_epochs=1).fit(NeuralOperator(small_fno(), physics_weight=1.0), data)
    with pytest.raises(RuntimeError, match="validation data"):
        NeuralOperator(small_fno()).field_on_grid()


def test_an_odd_number_of_points_is_warned_of_once():
    module = NeuralOperator(small_fno())
    with pytest.warns(RuntimeWarning, match="odd"):
        module(torch.ones(1, 1, 15, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        module(torch.ones(1, 1, 15, 16))
        module(torch.ones(1, 1, 16, 15))
