"""`python -m benchmarks DATA`: run every measurement and write `benchmarks/RESULTS.md`.

DATA is a folder with the data sets, `banking77/tidy.csv` in it. A measurement whose data is not
there is named as not run, never invented.
"""

import sys
from pathlib import Path

from benchmarks import banking77, tenants
from benchmarks.common import machine, markdown

RESULTS = Path(__file__).parent / "RESULTS.md"


def main() -> None:
    """Measure, print, write."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data")
    sections = [f"# Results\n\nMade by `make bench`; {machine()}\n"]
    file = data / "banking77" / "tidy.csv"
    if file.is_file():
        sections.append(markdown("BANKING77", banking77.measure(file)))
    else:
        sections.append(f"## BANKING77\nNot run: there is no {file.name} in the data folder.\n")
    sections.append(markdown("Many tenants", tenants.measure()))
    text = "\n".join(sections)
    RESULTS.write_text(text)
    print(text)


main()
