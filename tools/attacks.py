"""Write the table of attacks into SECURITY.md from what pytest reports; `make attacks` calls it.

A test file of `tests/attacks` is one line: its docstring's first sentence, its tests, how many
attempts they made, how many failed, and the worst of each figure that they recorded.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

_NUMBER = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?")
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "SECURITY.md"
BEGIN, END = "<!-- attacks: made by `make attacks` -->\n", "<!-- end of attacks -->\n"


@dataclass(slots=True)
class Attack:
    """What one test file tried."""

    tests: int = 0
    attempts: int = 0
    failed: int = 0
    figures: list[str] = field(default_factory=list)


def main(report: Path) -> None:
    """Replace the table of the page with that of a report in JUnit's XML."""
    table = render(read(ElementTree.parse(report).getroot()))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}")
    print(table)


def read(root: ElementTree.Element) -> dict[str, Attack]:
    """The attacks of a report by the name of their module, such as `tests.attacks.test_tls`."""
    attacks: defaultdict[str, Attack] = defaultdict(Attack)
    for case in root.iter("testcase"):
        attack = attacks[case.attrib["classname"]]
        attack.tests += 1
        attack.failed += case.find("failure") is not None or case.find("error") is not None
        recorded = {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        attack.attempts += int(recorded.get("attempts", 1))
        if "figure" in recorded:
            attack.figures.append(recorded["figure"])
    return dict(attacks)


def render(attacks: dict[str, Attack]) -> str:
    """The table in Markdown."""
    lines = [
        _line(
            _title(module),
            each.tests,
            f"{each.attempts:,}",
            each.failed,
            "; ".join(_worst(each.figures)),
        )
        for module, each in sorted(attacks.items())
    ]
    total = [
        sum(each.tests for each in attacks.values()),
        f"{sum(each.attempts for each in attacks.values()):,}",
        sum(each.failed for each in attacks.values()),
    ]
    header = _line("attack", "tests", "attempts", "tests failed", "measured")
    return "\n".join((header, "|---" * 5 + "|", *lines, _line("all", *total, ""), ""))


def _worst(figures: Sequence[str]) -> list[str]:
    """Of figures that say the same with other numbers, the one with the largest."""
    found: dict[str, str] = {}
    for figure in figures:
        wording = _NUMBER.sub("", figure)
        found[wording] = max(found.get(wording, figure), figure, key=_numbers)
    return list(found.values())


def _numbers(figure: str) -> list[float]:
    return [float(number.replace(",", "")) for number in _NUMBER.findall(figure)]


def _line(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in cells)} |"


def _title(module: str) -> str:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text())) or path.stem
    return " ".join(text.partition("\n\n")[0].split()).rstrip(".")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
