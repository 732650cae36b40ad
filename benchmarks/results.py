"""`RESULTS.md`: a section for each part of the benchmark, replaced one at a time."""

import re
from pathlib import Path

from benchmarks.common import machine

RESULTS = Path(__file__).parent / "RESULTS.md"
_HEAD = "# Results\n\nMade by `make bench`; each section says when and on what."


def write_section(title: str, body: str, file: Path = RESULTS) -> None:
    """Replace the section `title`, or add it at the end; others stay as they are."""
    content = f"## {title}\n\n{machine()}\n\n{body.strip()}"
    sections = read_sections(file)
    sections[title] = content
    file.write_text("\n\n".join([_HEAD, *sections.values()]) + "\n")


def read_sections(file: Path = RESULTS) -> dict[str, str]:
    """The sections with their headings, by title, in their order."""
    text = file.read_text() if file.exists() else ""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.splitlines()[0].removeprefix("## "): part.strip() for part in parts}
