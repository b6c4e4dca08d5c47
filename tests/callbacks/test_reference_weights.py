import pytest
import torch
from torch import nn

from lightning_regimes.callbacks.reference_weights import copied_weights, load_weights


def test_weights_come_from_a_checkpoint_or_a_state_dict(tmp_path):
    module = nn.Linear(2, 3)
    torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "last.ckpt")
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    for name in ("last.ckpt", "weights.pt"):
        found = load_weights(tmp_path / name)
        assert found.keys() == {"weight", "bias"}
        assert torch.equal(found["weight"], module.weight)


def test_copies_stay_when_the_module_goes_on():
    module = nn.BatchNorm1d(2)
    found = copied_weights(module)
    module(torch.randn(5, 2))
    assert found["running_mean"].tolist() == [0.0, 0.0]


def test_what_cannot_be_read_is_told_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"`reference` names no file: 'nowhere\.ckpt'"):
        load_weights("nowhere.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text.ckpt' can't be read as tensors"):
        load_weights(tmp_path / "text.ckpt")
    torch.save({"epoch": 3}, tmp_path / "empty.ckpt")
    with pytest.raises(ValueError, match=r"empty.ckpt' holds no state dict"):
        load_weights(tmp_path / "empty.ckpt")
