"""The verdicts of a run as rows: regime, deciding numbers, reasons and guidance."""

from lightning_regimes.recording.record import Record
from lightning_regimes.recording.table import Table

_NUMBERS = {
    "loss / reference": "regime/normalized_loss",
    "error": "regime/test_error",
    "estimated error": "regime/estimated_error",
    "held-out loss / reference": "regime/normalized_heldout_loss",
    "margin": "regime/margin",
    "agreement": "regime/agreement",
}


def verdict_table(record: Record) -> dict[str, Table]:
    """Return the table under its key, one row if the record is of a regime and none otherwise."""
    if record.diagnostic != "regime":
        return {}
    row = [
        record.text.get("regime/label"),
        *(record.scalars.get(key) for key in _NUMBERS.values()),
        "\n".join(str(reason) for reason in record.context.get("reasons", ())),
        str(record.context.get("guidance", "")),
    ]
    return {"regime/verdicts": Table(("regime", *_NUMBERS, "reasons", "guidance"), [row])}
