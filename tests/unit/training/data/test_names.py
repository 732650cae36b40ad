import pytest

from training.data.names import similar_names


@pytest.mark.parametrize(
    "other",
    [
        "Late Order",  # case
        "late  order",
        "late_order",
        "late-order",
        "late\u00a0order",  # a space that does not break
        "late order\u200b",  # zero width
        "\u2060late order",
        "la\u00adte order",  # a soft hyphen
        "\uff4cate order",  # full width
        "late order\ufe0f",  # a variation selector
    ],
)
def test_names_that_look_alike_are_found(other: str) -> None:
    assert similar_names(["late order", "refund", other]) == [["late order", other]]


def test_accents_are_the_same_in_either_unicode_form_and_are_not_left_out() -> None:
    assert similar_names(["caf\u00e9", "cafe", "cafe\u0301"]) == [["caf\u00e9", "cafe\u0301"]]


@pytest.mark.parametrize("names", [("1", "-1"), ("C", "C++"), ("a b", "ab"), ("1.0", "10")])
def test_other_names_stay_apart(names: tuple[str, str]) -> None:
    assert similar_names(names) == []
