"""What a model's folder says of itself, read without torch."""

import json
from pathlib import Path

import pytest

from backbone import BackboneError
from training.backbones.folder import default_prompt, matryoshka_dimensions, named_prompts

PROMPTS = {"query": "query: ", "passage": "passage: ", "bare": ""}


def write(folder: Path, **settings: object) -> Path:
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "prompt"),
    [
        ({"prompts": PROMPTS, "default_prompt_name": "query"}, "query: "),
        ({"prompts": PROMPTS, "default_prompt_name": "bare"}, ""),
        ({"prompts": PROMPTS, "default_prompt_name": None}, ""),
        ({"prompts": PROMPTS}, ""),
        ({"prompts": {"query": None}, "default_prompt_name": "query"}, ""),
        ({}, ""),
    ],
)
def test_the_default_prompt_is_the_one_of_sentence_transformers(
    settings: dict[str, object], prompt: str, tmp_path: Path
) -> None:
    assert default_prompt(write(tmp_path, **settings)) == prompt


def test_a_folder_without_settings_has_no_prompt(tmp_path: Path) -> None:
    assert default_prompt(tmp_path) == ""


def test_a_default_prompt_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write(tmp_path, prompts=PROMPTS, default_prompt_name="search")
    with pytest.raises(BackboneError, match=r"'search', and its prompts are .*'query'.* --prompt"):
        default_prompt(tmp_path)


@pytest.mark.parametrize(("content", "reason"), [("{", "not a JSON file"), ("[]", "holds a list")])
def test_settings_that_are_no_object_are_refused(content: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(BackboneError, match=reason):
        default_prompt(tmp_path)


@pytest.mark.parametrize(
    ("default", "named"),
    [
        ("", {"passage": "passage: ", "query": "query: "}),
        ("query: ", {"bare": "", "passage": "passage: "}),
        ("other: ", PROMPTS),
    ],
)
def test_prompts_by_name_are_those_that_differ_from_the_default(
    default: str, named: dict[str, str], tmp_path: Path
) -> None:
    assert named_prompts(write(tmp_path, prompts=PROMPTS), default) == named


@pytest.mark.parametrize("prompts", [None, [], {"query": None, "document": ""}, {"query": 1}])
def test_a_folder_may_name_no_prompt(prompts: object, tmp_path: Path) -> None:
    """Empty ones are in every folder that sentence-transformers saves."""
    assert named_prompts(write(tmp_path, prompts=prompts), "") == {}


CARD = """---
tags: [sentence-transformers, loss:MatryoshkaLoss]
---
* Loss: [<code>MatryoshkaLoss</code>](https://sbert.net) with these parameters:
  ```json
  {
      "loss": "MultipleNegativesRankingLoss",
      "matryoshka_dims": [
          768,
          256,
          64
      ],
      "matryoshka_weights": [1, 1, 1],
      "n_dims_per_step": -1
  }
  ```
"""


@pytest.mark.parametrize(
    ("config", "card", "dimensions"),
    [
        ({}, CARD, (64, 256, 768)),
        ({"matryoshka_dimensions": [32, 128]}, "", (32, 128)),
        ({"matryoshka_dimensions": [32, 128]}, CARD, (32, 128)),
        ({"matryoshka_dimensions": "all"}, CARD, ()),
        ({"matryoshka_dimensions": [True, -1, 0, "8", 1.5, 16]}, "", (16,)),
        ({}, "A model of no such kind.", ()),
    ],
)
def test_the_lengths_of_matryoshka_models_are_found(
    config: dict[str, object], card: str, dimensions: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "README.md").write_text(card)
    assert matryoshka_dimensions(tmp_path) == dimensions
