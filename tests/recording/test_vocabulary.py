import re

import pytest

from lightning_regimes.recording import VOCABULARY, Quantity, declare, describe
from lightning_regimes.recording.vocabulary_page import vocabulary_page


def test_pattern_resolves_to_the_numbered_quantity() -> None:
    quantity = describe("hessian/lambda_12")
    assert quantity.key == "hessian/lambda_12"
    assert quantity.unit == "loss"
    assert quantity.meaning.startswith("number 12 largest eigenvalue")


def test_named_quantity_says_whose_it_is() -> None:
    quantity = describe("hessian/lambda_1_of_initial")
    assert quantity.key == "hessian/lambda_1_of_initial"
    assert quantity.meaning == "largest Ritz value of the loss term initial"


def test_exact_key_wins_over_the_pattern() -> None:
    assert "smallest" in describe("hessian/lambda_min").meaning


@pytest.mark.parametrize(
    "key",
    [
        "hessian/lambda_0",
        "hessian/lambda_",
        "hessian/lambda_1x",
        "hessian/lambda_{i}",
        "hessian/trace_of_{name}",
        "hessian/trace_of_a/b",
        "my/lambda_1",
        "",
        "trace",
    ],
)
def test_unknown_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(ValueError, match="not in the vocabulary") as error:
        describe(key)
    assert repr(key) in str(error.value)


def test_refusal_names_the_nearest_key() -> None:
    with pytest.raises(ValueError, match="did you mean 'hessian/trace'"):
        describe("hessian/trac")


def test_every_entry_stands_under_its_key_and_says_what_it_means() -> None:
    for key, quantity in VOCABULARY.items():
        assert quantity.key == key
        assert quantity.direction in ("lower", "higher", "neither")
        assert quantity.meaning
        assert not quantity.meaning.endswith(".")


def test_every_diagnostic_tells_its_cost() -> None:
    # A graph is sanitized before there is a training to compare with, and a sweep consists of trainings.
    diagnostics = {key.split("/")[0] for key in VOCABULARY} - {"kces", "phase_diagram"}
    for diagnostic in diagnostics:
        assert {f"{diagnostic}/seconds", f"{diagnostic}/overhead"} <= set(VOCABULARY)
        counts = {f"{diagnostic}/num_{unit}" for unit in ("matvecs", "evaluations", "decompositions")}
        assert counts & set(VOCABULARY)


def test_a_diagnostic_of_ones_own_declares_its_keys() -> None:
    with pytest.raises(ValueError, match="declared first"):
        describe("own_probe/size_3")
    sizes = Quantity("own_probe/size_{i}", "m", "lower", "i-th size")
    declare(sizes)
    declare(sizes)
    assert describe("own_probe/size_3") == Quantity("own_probe/size_3", "m", "lower", "number 3 size")
    with pytest.raises(ValueError, match="declared already"):
        declare(
            Quantity("own_probe/length", "", "lower", "length"), Quantity("own_probe/size_{i}", "", "lower", "size")
        )
    assert "own_probe/length" not in VOCABULARY
    with pytest.raises(ValueError, match="diagnostic/quantity"):
        declare(Quantity("size", "", "lower", "size"))


def test_the_page_has_a_row_for_every_quantity_and_a_section_for_every_diagnostic() -> None:
    lines = vocabulary_page().splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("| `")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [
            f"`{key}`",
            quantity.unit,
            quantity.direction.replace("neither", ""),
            quantity.meaning.replace("|", "\\|"),
        ]
        for key, quantity in VOCABULARY.items()
    ]
    sections = [line for line in lines if line.startswith("## ")]
    assert len(sections) == len({key.partition("/")[0] for key in VOCABULARY})
    assert len({section.partition(":")[0] for section in sections}) == len(sections)
