"""One thing to look at in the report."""

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """Pictures under one heading, with the sentence that says how to read them.

    Attributes:
        title: Heading.
        reading: How to read it.
        pictures: Figures, each with a text for those who cannot see it.
    """

    title: str
    reading: str
    pictures: tuple[tuple[Figure, str], ...]
