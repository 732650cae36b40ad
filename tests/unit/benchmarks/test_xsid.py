"""The rows of xSID that are trained on; the rows themselves are not part of the project."""

from pathlib import Path

from benchmarks import xsid


def test_labels_of_one_row_are_left_out_and_languages_are_kept_apart(tmp_path: Path) -> None:
    file = tmp_path / "tidy.csv"
    lines = ["text,label,language,split", "a,x,en,valid", "b,x,en,valid", "c,y,en,valid"]
    file.write_text("\n".join([*lines, "d,x,de,valid", "e,y,en,test", ""]))
    rows = xsid.read(file)
    assert [row.text for row in xsid.trained_on(rows["en", "valid"])] == ["a", "b"]
    assert [row.text for row in rows["en", "test"]] == ["e"]
    assert [row.text for row in rows["de", "valid"]] == ["d"]


def test_without_the_data_it_is_said_to_be_not_run(tmp_path: Path) -> None:
    expected = "Not run: there is no xsid/tidy.csv in the data folder."
    assert xsid.measure(None, quick=True) == expected
    assert xsid.measure(tmp_path, quick=True) == expected
