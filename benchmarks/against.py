"""`python -m benchmarks.against REVISION`: HTTP requests of one text, this tree beside another.

Both servers run at once and are asked in turn, so that a busy machine is as busy for both. They
serve a backbone that computes next to nothing, and log every request as by default.
"""

import argparse
import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.empty import NAME as EMPTY
from benchmarks.empty import empty_backbone
from benchmarks.protocols import Measured, ask_all, http, serving

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("revision", help="what git knows the other tree by")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=4.0)
    wanted = parser.parse_args()
    with (
        checkout(wanted.revision) as tree,
        empty_backbone(),
        serving(EMPTY, "info") as ours,
        serving(EMPTY, "info", tree) as theirs,
    ):
        pairs: list[tuple[Measured, Measured]] = []
        for number in range(wanted.rounds):
            order = (ours, theirs) if number % 2 else (theirs, ours)
            found = {
                id(each): asyncio.run(ask_all(each, http(each, "infer"), wanted.seconds))
                for each in order
            }
            pairs.append((found[id(ours)], found[id(theirs)]))
            print(f"round {number + 1} of {wanted.rounds}: {describe(pairs[-1:])}", flush=True)
    print(f"this tree ÷ {wanted.revision}: {describe(pairs)}")


def describe(pairs: list[tuple[Measured, Measured]]) -> str:
    """The ratios of pairs of measurements in words."""
    rates = [ours.rate / theirs.rate for ours, theirs in pairs]
    cpu = [ours.cpu_us / theirs.cpu_us for ours, theirs in pairs]
    ours, theirs = (median(each[side].rate for each in pairs) for side in (0, 1))
    return (
        f"requests/s {median(rates):.3f} [{min(rates):.3f}, {max(rates):.3f}] "
        f"({ours:,.0f} to {theirs:,.0f}); the server's CPU per request {median(cpu):.3f} "
        f"[{min(cpu):.3f}, {max(cpu):.3f}]"
    )


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A tree of another revision, with the messages that the build makes of its .proto files."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(tree), revision)
        try:
            protos = Path("service/protos")
            for file in (ROOT / protos).glob("*.proto"):
                if file.read_bytes() != (tree / protos / file.name).read_bytes():
                    raise SystemExit(f"{revision} has another {file.name}: build its messages")
            for file in (ROOT / protos).glob("*_pb2.py"):
                shutil.copy(file, tree / protos)
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> None:
    """Run git in this tree."""
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
