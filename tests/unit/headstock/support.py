"""What tests of the command line in this process share."""

import sys
from pathlib import Path

import numpy as np
import pytest

from headstock.cli import main


def write_rows(path: Path) -> Path:
    """40 rows of two classes that are easy to tell apart."""
    random = np.random.default_rng(0)
    lines = ["text,label"]
    for number in range(40):
        letters = "aeiou" if number % 2 else "12345"
        lines.append(f"{''.join(random.choice(list(letters), 6))}{number},{letters[0]}")
    path.write_text("\n".join(lines))
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["headstock", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    captured = capsys.readouterr()
    code = caught.value.code
    assert code is None or isinstance(code, int)
    return code or 0, captured.out, captured.err
