"""The vocabulary as a page of the documentation."""

from itertools import groupby

from lightning_regimes.recording.vocabulary import VOCABULARY, Quantity

_BETTER = {"lower": "lower", "higher": "higher", "neither": ""}


def vocabulary_page() -> str:
    """Return a Markdown page with a table of the keys of each diagnostic, in the order in which they are declared."""
    parts = [
        "# All keys",
        "Every key that a callback records. Where one way is better, the third column says which; a loss counts in the "
        "units of the training loss, `{i}` stands for a number and `{name}` for a name. The same list is "
        "`lightning_regimes.recording.VOCABULARY`.",
    ]
    for diagnostic, quantities in groupby(VOCABULARY.values(), key=lambda quantity: quantity.key.partition("/")[0]):
        rows = "\n".join(_row(quantity) for quantity in quantities)
        parts.append(f"## {diagnostic}\n\n| key | unit | better | meaning |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def _row(quantity: Quantity) -> str:
    meaning = quantity.meaning.replace("|", "\\|")
    return f"| `{quantity.key}` | {quantity.unit} | {_BETTER[quantity.direction]} | {meaning} |"
