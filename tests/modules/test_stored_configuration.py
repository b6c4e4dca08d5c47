from lightning_regimes.modules.stored_configuration import as_class_path
from lightning_regimes.optim import AdamFactory, SharpnessAwareFactory


def test_an_object_within_an_object_is_described_as_well():
    described = as_class_path(SharpnessAwareFactory(base=AdamFactory(lr=0.5), rho=0.1))
    assert described["class_path"].endswith("SharpnessAwareFactory")
    assert described["init_args"]["rho"] == 0.1
    base = described["init_args"]["base"]
    assert base["class_path"].endswith("AdamFactory")
    assert base["init_args"]["lr"] == 0.5


def test_what_is_no_plain_data_leaves_the_whole_undescribed():
    assert as_class_path(AdamFactory(lr_scheduler=lambda optimizer: None)) is None
    assert as_class_path(SharpnessAwareFactory(base=AdamFactory(lr_scheduler=lambda optimizer: None))) is None
    assert as_class_path(object()) is None
