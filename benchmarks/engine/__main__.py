"""`python -m benchmarks.engine PART [DATA] [--quick]`: print one part of the engine's figures."""

import argparse
from pathlib import Path

from benchmarks.common import machine, table
from benchmarks.engine import PARTS
from benchmarks.engine.stage import FULL, QUICK, stage
from benchmarks.engine.throughput import capacity


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    wanted = parser.parse_args()
    with stage(wanted.data, QUICK if wanted.quick else FULL) as here:
        figures = PARTS[wanted.part](here, capacity(here))
    print(f"{machine()}\n\n{table(figures)}")


if __name__ == "__main__":
    main()
