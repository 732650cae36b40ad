"""The manifest of many trainings: JSON Lines, a job a line, all checked before any work."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from adapters.errors import InvalidName
from adapters.names import check_name
from adapters.strict_json import strict_json
from training.data.rows import Columns
from training.errors import InvalidManifest, TrainingError
from training.output import check_output
from training.recipe import Recipe
from training.unlabelled import check_takes_unlabelled

SUFFIX = ".safetensors"
SHOWN_ERRORS = 10


def _name(kind: str) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return check_name(kind, value)
        except InvalidName as error:
            raise ValueError(str(error)) from None

    return AfterValidator(check)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class JobColumns(_Part):
    """Names of columns, and of splits within the split column."""

    text: str = "text"
    label: str = "label"
    split: str = "split"
    train: str = "train"
    test: str = "test"


class JobLine(_Part):
    """What stands in one line; paths are relative to the manifest's folder."""

    tenant: Annotated[str, _name("tenant")]
    adapter: Annotated[str, _name("adapter")]
    data: Annotated[str, Field(min_length=1)]
    test_data: Annotated[str, Field(min_length=1)] | None = None
    backbone: Annotated[str, Field(min_length=1)]
    unlabelled: Annotated[str, Field(min_length=1)] | None = None
    output: Annotated[str, Field(min_length=1)] | None = None
    columns: JobColumns = JobColumns()
    recipe: Recipe = Recipe()


@dataclass(frozen=True, slots=True)
class Job:
    """One training of many: whose, from what, to which file."""

    tenant: str
    adapter: str
    data: Path
    backbone: str
    output: Path
    columns: Columns
    recipe: Recipe
    unlabelled: Path | None = None


def read_manifest(path: Path, output: Path, backbones: Collection[str]) -> list[Job]:
    """The jobs of a manifest; results go to `output`/TENANT/ADAPTER.safetensors unless it says so.

    `backbones` are the names of those that were added.

    Raises:
        InvalidManifest: with the file and line of each of the first ten errors.
    """
    jobs: list[Job] = []
    errors: list[str] = []
    first_with: dict[object, int] = {}
    for number, line in _lines(path):
        try:
            job = _job(line, path.parent, output, backbones)
            _check_first(job, number, first_with)
            jobs.append(job)
        except (ValueError, TrainingError) as error:
            errors.append(f"{path}, line {number}: {error}")
    if errors:
        more = len(errors) - SHOWN_ERRORS
        rest = [f"and {more} lines more"] if more > 0 else []
        raise InvalidManifest("\n".join([*errors[:SHOWN_ERRORS], *rest]))
    if not jobs:
        raise InvalidManifest(f"{path} is empty; give it a job a line, a JSON object each")
    return jobs


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidManifest(f"the manifest {path} cannot be read: {reason}") from error
    # Not splitlines(): JSON strings may hold U+2028, which ends no line here.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _job(line: bytes, folder: Path, output: Path, backbones: Collection[str]) -> Job:
    """Raises ValueError, TrainingError."""
    found = _parse(line)
    if found.backbone not in backbones:
        known = ", ".join(sorted(backbones)) or "none"
        raise ValueError(
            f"there is no backbone {found.backbone!r}; added are: {known}. Add it with: headstock "
            "backbone add SOURCE --name NAME"
        )
    data = _existing(folder, "data", found.data)
    test_data = None
    if found.test_data is not None:
        test_data = _existing(folder, "test_data", found.test_data)
    unlabelled = None
    if found.unlabelled is not None:
        check_takes_unlabelled(found.recipe)
        unlabelled = _existing(folder, "unlabelled", found.unlabelled)
    target = output / found.tenant / f"{found.adapter}{SUFFIX}"
    if found.output is not None:
        target = folder / found.output
        check_output(target, *filter(None, (data, test_data, unlabelled)))
    columns = Columns(**found.columns.model_dump(), test_data=test_data)
    return Job(
        *(found.tenant, found.adapter, data, found.backbone, target, columns, found.recipe),
        unlabelled,
    )


def _existing(folder: Path, field: str, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{field}: there is no file {path}")
    return path


def _parse(line: bytes) -> JobLine:
    """Raises ValueError with the field's name."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte 0x{line[error.start]:02x} at position {error.start} is not UTF-8"
        ) from None
    content: Any = strict_json(text)  # pydantic's own reader lets the second of two keys win
    if not isinstance(content, dict):
        raise ValueError(
            'a line must hold one object, such as {"tenant": "acme", "adapter": "intents", '
            '"data": "acme.csv", "backbone": "minilm"}'
        )
    try:
        return JobLine.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where[:120]}: {reason}" if where else reason) from None


def _check_first(job: Job, number: int, first_with: dict[object, int]) -> None:
    """Raises ValueError where an earlier line has the adapter or the file already."""
    names = {
        (job.tenant, job.adapter): f"the adapter {job.tenant}/{job.adapter}",
        job.output.resolve(): f"the output {job.output}",
    }
    for key, name in names.items():
        if key in first_with:
            raise ValueError(f"{name} stands in line {first_with[key]} already")
    first_with.update(dict.fromkeys(names, number))
