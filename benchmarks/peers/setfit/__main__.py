"""`python -m benchmarks.peers.setfit DATA [--setfit-minutes M] [--quick]`: train both sides.

DATA is a folder with the data sets. SetFit's defaults draw every pair of rows, which takes hours
where labels are many: M bounds it, 0 lets it run to the end. `--quick` shows on the smaller set
that everything works, and writes nothing.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.common import Figure
from benchmarks.peers.peer import Unavailable
from benchmarks.peers.report import load_average
from benchmarks.peers.setfit.ours import train_ours
from benchmarks.peers.setfit.report import TITLE, Compared, figures_of, section
from benchmarks.peers.setfit.rows import SENTIMENT, SOURCES, Source, write_few_rows
from benchmarks.peers.setfit.theirs import train_setfit
from benchmarks.results import write_section
from headstock.demo import ensure_backbone
from headstock.output import note

MINUTES = 15.0


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.setfit")
    parser.add_argument("data", type=Path)
    parser.add_argument("--setfit-minutes", type=float, default=MINUTES)
    parser.add_argument("--quick", action="store_true")
    wanted = parser.parse_args()
    begun, minutes = load_average(), wanted.setfit_minutes
    ensure_backbone()
    sources = (SENTIMENT,) if wanted.quick else SOURCES
    figures = [each for source in sources for each in _figures(source, wanted.data, minutes)]
    body = section(figures, minutes, begun)
    print(f"## {TITLE}\n\n{body}\n", flush=True)
    if not wanted.quick:
        write_section(TITLE, body)


def _figures(source: Source, data: Path, minutes: float) -> list[Figure]:
    file = data / source.file
    if not file.is_file():
        return [Figure(source.name, f"not run: there is no {source.file} in the data folder")]
    with tempfile.TemporaryDirectory(prefix="setfit-rows-") as folder:
        rows = Path(folder) / "rows.csv"
        write_few_rows(file, source.train_split, rows)
        return figures_of(_compare(source.name, rows, minutes))


def _compare(name: str, rows: Path, minutes: float) -> Compared:
    note(f"{name}: headstock train ...")
    frozen = train_ours(rows)
    note(f"{name}: headstock train --lora ...")
    lora = train_ours(rows, "--lora")
    note(f"{name}: SetFit ...")
    try:
        return Compared(name, frozen, lora, train_setfit(rows, minutes))
    except Unavailable as error:
        note(f"SetFit: {error}")
        return Compared(name, frozen, lora, None, str(error))


if __name__ == "__main__":
    main()
