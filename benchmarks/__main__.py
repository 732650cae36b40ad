"""`python -m benchmarks [DATA] [--only PART] [--quick]`: measure, print, write `RESULTS.md`.

DATA is a folder with the data sets, `banking77/tidy.csv` in it. A measurement whose data is not
there is named as not run, never invented. `--only` runs one part and replaces its section alone;
`--quick` shows in a minute or two that everything works, and writes nothing.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import banking77, engine, fleet, protocols, tenants, training, xsid
from benchmarks.common import table
from benchmarks.results import write_section

Part = Callable[[Path | None, bool], str]


def _banking77(data: Path | None, _: bool) -> str:
    file = (data or Path("data")) / "banking77" / "tidy.csv"
    if not file.is_file():
        return f"Not run: there is no banking77/{file.name} in the data folder."
    return table(banking77.measure(file))


def _tenants(_: Path | None, __: bool) -> str:
    return table(tenants.measure())


# By the name on the command line: the title of the section, and what fills it.
PARTS: dict[str, tuple[str, Part]] = {
    "banking77": ("BANKING77", _banking77),
    **{
        each.key: (f"Training: {each.name}", partial(training.measure, each))
        for each in training.SETS
    },
    "xsid": ("Languages and dialects: xSID", xsid.measure),
    "tenants": ("Many tenants", _tenants),
    "fleet": ("Many trainings", fleet.measure),
    "engine": ("The engine under load", engine.measure),
    "protocols": ("HTTP and gRPC", protocols.measure),
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    wanted = parser.parse_args()
    for name in [wanted.only] if wanted.only else PARTS:
        title, part = PARTS[name]
        started = time.monotonic()
        body = part(wanted.data, wanted.quick)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        print(f"## {title}\n\n{body}\n", flush=True)
        if not wanted.quick:
            write_section(title, body)


if __name__ == "__main__":
    main()
