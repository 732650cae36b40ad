import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import adapters
import backbone
import service
from adapters.errors import (
    Conflict,
    DeadlineExceeded,
    HeadstockError,
    InvalidAdapter,
    InvalidInput,
    InvalidName,
    MissingScope,
    NotFound,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    RegistryUnavailable,
    StaleRevision,
    TenantOverloaded,
    TooLarge,
    Unauthenticated,
    WrongBackbone,
)
from adapters.heads import HeadFailed
from service.errors import (
    STATUS,
    AdapterUnavailable,
    ClientLeft,
    InvalidJson,
    MethodNotAllowed,
    TimedOut,
    TooSlow,
    UnsupportedCoding,
    to_problem,
)

EXPECTED: dict[type[HeadstockError], int] = {
    InvalidJson: 400,
    Unauthenticated: 401,
    MissingScope: 403,
    QuotaExceeded: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    TooSlow: 408,
    Conflict: 409,
    StaleRevision: 412,
    TooLarge: 413,
    UnsupportedCoding: 415,
    InvalidInput: 422,
    InvalidName: 422,
    InvalidAdapter: 422,
    WrongBackbone: 422,
    RateLimited: 429,
    TenantOverloaded: 429,
    ClientLeft: 499,
    HeadFailed: 500,
    AdapterUnavailable: 503,
    Overloaded: 503,
    RegistryUnavailable: 503,
    TimedOut: 503,
    DeadlineExceeded: 504,
}
SERVING = ("adapters", "backbone", "service")


def descendants(kind: type[HeadstockError]) -> Iterator[type[HeadstockError]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def every_error() -> set[type[HeadstockError]]:
    """All that the serving packages define, whatever else is imported meanwhile."""
    for package in (adapters, backbone, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # The shell starts nothing at import, but it sets variables of this process.
            if module.name != "service.app" and ".migrations" not in module.name:
                importlib.import_module(module.name)
    return {
        kind for kind in descendants(HeadstockError) if kind.__module__.split(".")[0] in SERVING
    }


def test_every_error_has_its_status() -> None:
    assert every_error() == set(EXPECTED)
    for kind, status in EXPECTED.items():
        problem = to_problem(kind("the reason"))
        assert (kind, problem.status) == (kind, status)
        assert problem.detail == "the reason"
        assert problem.code == kind.code


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in EXPECTED]
    assert len(set(codes)) == len(codes)
    assert "internal" not in codes


def test_no_line_of_the_table_hides_one_below() -> None:
    kinds = [kind for kind, _, _, _ in STATUS]
    for position, kind in enumerate(kinds):
        assert not any(issubclass(kind, above) for above in kinds[:position])


def test_only_what_may_be_tried_again_says_when() -> None:
    for kind, status in EXPECTED.items():
        retry_after_s = to_problem(kind("x")).retry_after_s
        assert (retry_after_s is not None) == (status in (429, 503))


def test_when_to_come_back_is_in_whole_seconds() -> None:
    assert [to_problem(Overloaded("x", left)).retry_after_s for left in (0, 0.2, 1, 1.2)] == [
        1,
        1,
        1,
        2,
    ]


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, HeadstockError, OSError, MemoryError])
def test_internal_text_stays_inside(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    problem = to_problem(kind("/srv/secret/registry.sqlite: password=hunter2"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "secret" not in f"{problem.title} {problem.detail}"
    assert "hunter2" in caplog.text  # the operator sees it


def test_clients_do_not_learn_where_the_registry_lies() -> None:
    for said in (
        "the registry's database /srv/state/registry.sqlite is missing: put it back",
        "the registry's database /srv/state/registry.sqlite: it is damaged",
    ):
        detail = to_problem(RegistryUnavailable(said)).detail
        assert "/srv" not in detail
        assert detail.startswith("the registry's database")
        assert detail.endswith(said.partition("registry.sqlite")[2])
