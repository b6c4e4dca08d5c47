import math

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lightning_regimes.datamodules import HandwrittenDigits
from lightning_regimes.modules import Classifier
from lightning_regimes.optim import AdamFactory


def test_a_small_network_learns_digits_and_logs_the_error_rate_of_its_predictions(tmp_path):
    torch.manual_seed(0)
    data = HandwrittenDigits()
    model = Classifier(optimizer=AdamFactory(lr=3e-3))
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_epochs=8, logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    trainer.fit(model, data)
    metrics = trainer.test(model, data, verbose=False)[0]
    assert metrics["test/error"] < 0.06
    predictions = torch.cat(trainer.predict(model, data.test_dataloader()))
    labels = torch.cat([y for _, y in data.test_dataloader()])
    assert metrics["test/error"] == pytest.approx((predictions != labels).double().mean().item(), abs=1e-6)


def test_the_trivial_loss_is_the_entropy_of_a_uniform_guess():
    model = Classifier(7)
    assert model.trivial_loss((torch.zeros(3, 64), torch.zeros(3))).item() == pytest.approx(math.log(7))


def test_the_split_is_a_stratified_partition_of_the_data():
    data = HandwrittenDigits(seed=3)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    data.setup("fit")
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    parts = [data._parts[name].tensors for name in ("train", "val", "test")]
    assert [len(x) for x, _ in parts] == [1437, 180, 180]
    images = torch.cat([x for x, _ in parts])
    expected = torch.as_tensor(load_digits().data / 16.0, dtype=torch.float32)
    assert sorted(map(tuple, images.tolist())) == sorted(map(tuple, expected.tolist()))
    frequencies = [torch.bincount(y).double() / len(y) for _, y in parts]
    assert max((f - frequencies[0]).abs().max() for f in frequencies) < 0.01


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"num_train": 5}, {"num_train": 5000}])
def test_unusable_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        HandwrittenDigits(**options)
    with pytest.raises(ValueError, match="num_classes"):
        Classifier(1)
