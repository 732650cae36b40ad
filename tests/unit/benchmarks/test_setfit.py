"""The comparison with SetFit: its rows, its bound, its lines; nothing is trained here."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers.setfit.ours import Trained
from benchmarks.peers.setfit.report import Compared, figures_of
from benchmarks.peers.setfit.rows import few_rows, write_few_rows
from benchmarks.peers.setfit.theirs import UNBOUNDED, SetFit, bounded_steps

FROZEN = Trained(accuracy=0.86, seconds=10.0, test_rows=3080, has_lora=False)
LORA = Trained(accuracy=0.875, seconds=100.0, test_rows=3080, has_lora=True)
BOUNDED = SetFit(accuracy=0.85, seconds=900.0, steps=800, step_seconds=1.0, default_steps=1900)
WHOLE = replace(BOUNDED, steps=1900)


def rows_of(*each: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"text": text, "label": label, "split": split} for text, label, split in each]


def test_the_first_rows_of_each_label_train_and_all_test_rows_stay() -> None:
    given = rows_of(
        ("a1", "a", "train_10"),
        ("b1", "b", "train_10"),
        ("a2", "a", "train_10"),
        ("other", "a", "train"),
        ("a3", "a", "train_10"),
        ("t1", "a", "test"),
        ("t2", "a", "test"),
        ("t3", "a", "test"),
    )
    chosen = [(row["text"], row["split"]) for row in few_rows(given, "train_10", shots=2)]
    tests = [(text, "test") for text in ("t1", "t2", "t3")]
    assert chosen == [("a1", "train"), ("b1", "train"), ("a2", "train"), *tests]


def test_the_file_has_no_column_that_one_side_could_learn_from(tmp_path: Path) -> None:
    source, file = tmp_path / "tidy.csv", tmp_path / "rows.csv"
    source.write_text('text,label,domain,split\n"a, b",good,shop,train\nc,bad,shop,test\n')
    write_few_rows(source, "train", file)
    with file.open(newline="") as lines:
        assert list(csv.DictReader(lines)) == rows_of(
            ("a, b", "good", "train"), ("c", "bad", "test")
        )


@pytest.mark.parametrize(
    ("step_seconds", "default_steps", "minutes", "expected"),
    [
        (1.5, 36_575, 15, 600),
        (2.0, 14, 15, UNBOUNDED),
        (1.0, 60, 1, UNBOUNDED),
        (100.0, 36_575, 1, 2),
    ],
)
def test_the_bound_is_what_fits(
    step_seconds: float, default_steps: int, minutes: float, expected: int
) -> None:
    assert bounded_steps(step_seconds, default_steps, minutes) == expected


def test_the_whole_default_is_reckoned_only_where_it_was_bounded() -> None:
    assert (BOUNDED.is_whole, BOUNDED.whole_seconds) == (False, 2000.0)
    assert (WHOLE.is_whole, WHOLE.whole_seconds) == (True, 900.0)


def test_ratios_stand_beside_their_targets() -> None:
    figures = figures_of(Compared("set", FROZEN, LORA, BOUNDED))
    assert [figure.value for figure in figures] == [
        "85.00%, 900 s",
        "2,000 s, reckoned",
        "86.00%, 10.0 s",
        "+1.00 points",
        "90.0 x its bounded training; 200 x its whole default, reckoned",
        "87.50%, 100.0 s",
        "+2.50 points",
        "9.0 x its bounded training; 20 x its whole default, reckoned",
    ]
    assert [figure.target for figure in figures if figure.target] == [
        *("0 or more", "50 x"),
        *("0 or more", "5 x"),
    ]


def test_a_whole_training_says_nothing_of_reckoning() -> None:
    figures = figures_of(Compared("set", FROZEN, LORA, WHOLE))
    assert not any("reckoned" in figure.what + figure.value for figure in figures)


def test_lora_that_did_not_help_is_named() -> None:
    figures = figures_of(Compared("set", FROZEN, replace(LORA, has_lora=False), WHOLE))
    assert "(LoRA left out)" in figures[-1].what
    assert "(LoRA left out)" not in figures[1].what


def test_setfit_that_cannot_run_is_named_with_the_reason() -> None:
    figures = figures_of(Compared("set", FROZEN, LORA, None, "will not install: no wheel"))
    assert [figure.value for figure in figures] == [
        "not measured; will not install: no wheel",
        "86.00%, 10.0 s",
        "87.50%, 100.0 s",
    ]
