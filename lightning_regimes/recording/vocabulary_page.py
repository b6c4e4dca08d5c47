"""The vocabulary as a page of the documentation."""

from lightning_regimes.recording.vocabulary import VOCABULARY, Quantity

_TITLES = {
    "hessian": "Curvature of the loss",
    "alignment": "Gradient and dominant eigenvectors",
    "projection": "Training with projected updates",
    "landscape": "The loss around the weights",
    "connectivity": "Paths to another solution",
    "similarity": "Representations",
    "heavy_tail": "Spectra of the weights",
    "dominance": "Rows of the gradients",
    "layer_split": "Learning rates of the layers",
    "kces": "Edges taken out of a graph",
    "regime": "The verdict",
    "guided": "What guidance does about it",
    "field": "The solution",
    "refinement": "Refined predictions",
    "phase_diagram": "Sweeps",
}
_BETTER = {"lower": "lower", "higher": "higher", "neither": ""}
_HEAD = """\
# All keys

Everything that a diagnostic records stands under a key `diagnostic/quantity`, the same in `records.jsonl`, in every
logger and in the report. `{i}` stands for 1, 2, …, `{name}` for a name of the run's own. A quantity with a better
direction has its best value in the summary of a W&B run, as `<key>.min` or `<key>.max`, beside its last. The unit
`loss` is that of the training loss. The same list is `lightning_regimes.recording.VOCABULARY`.
"""


def vocabulary_page() -> str:
    """Return the vocabulary in Markdown: a section a diagnostic, a row a quantity, in the order of the vocabulary."""
    groups: dict[str, list[Quantity]] = {}
    for key, quantity in VOCABULARY.items():
        groups.setdefault(key.partition("/")[0], []).append(quantity)
    return "\n".join([_HEAD, *(_section(name, quantities) for name, quantities in groups.items())])


def _section(name: str, quantities: list[Quantity]) -> str:
    rows = [
        f"| `{each.key}` | {each.unit} | {_BETTER[each.direction]} | {_cell(each.meaning)} |" for each in quantities
    ]
    head = ["| Key | Unit | Better | Meaning |", "| --- | --- | --- | --- |"]
    title = _TITLES.get(name, name.replace("_", " ").capitalize())
    return "\n".join([f"## {title}: `{name}/`", "", *head, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
