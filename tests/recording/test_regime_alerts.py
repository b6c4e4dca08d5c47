import math

import pytest

from lightning_regimes.recording import Record
from lightning_regimes.recording.regime_alerts import Alert, RegimeAlerts


def verdict(label: str | None, *, step: int = 0, loss: float = 0.1) -> Record:
    return Record(
        "regime",
        step,
        step,
        0,
        scalars={"regime/normalized_loss": loss},
        text={"regime/label": label} if label else {},
        context={"reasons": ["the loss is high", "so is the error"], "guidance": "Train on."},
    )


def alerts(*records: Record) -> list[Alert]:
    watch = RegimeAlerts()
    return [alert for record in records for alert in watch.look(record)]


def test_a_change_of_regime_says_from_what_to_what_and_why() -> None:
    (alert,) = alerts(verdict("UNDER_TRAINED"), verdict("WELL_TRAINED", step=40))
    assert alert.title == "Training is now well-trained, it was under-trained"
    assert alert.text == "At step 40.\nthe loss is high\nso is the error\nTrain on."
    assert alert.level == "INFO"


def test_a_regime_that_lasts_is_no_news() -> None:
    assert alerts(*(verdict("UNDER_TRAINED", step=step) for step in range(5))) == []


def test_going_back_and_forth_is_announced_once() -> None:
    labels = ["UNDER_TRAINED", "OVER_TRAINED"] * 4
    (alert,) = alerts(*map(verdict, labels))
    assert (alert.title, alert.level) == ("Training is now over-trained, it was under-trained", "WARN")


@pytest.mark.parametrize("record", [verdict("DIVERGED"), verdict(None, loss=math.nan), verdict(None, loss=math.inf)])
def test_divergence_is_announced_even_at_first_and_once(record: Record) -> None:
    (alert,) = alerts(record, record, verdict("DIVERGED"))
    assert (alert.title, alert.level) == ("Training diverged", "ERROR")


def test_a_return_from_divergence_is_a_change() -> None:
    levels = [alert.level for alert in alerts(verdict("DIVERGED"), verdict("UNDER_TRAINED"), verdict("DIVERGED"))]
    assert levels == ["ERROR", "WARN"]


def test_records_of_other_diagnostics_and_without_a_verdict_are_passed_over() -> None:
    assert alerts(verdict("WELL_TRAINED"), verdict(None), Record("hessian", 0, 0, 0), verdict("WELL_TRAINED")) == []


def test_titles_fit_where_they_are_sent() -> None:
    labels = ["UNDER_TRAINED", "WELL_TRAINED", "OVER_TRAINED", "INCONSISTENT", "DIVERGED"]
    for before in labels:
        for after in labels:
            assert all(len(alert.title) < 64 for alert in alerts(verdict(before), verdict(after)))
