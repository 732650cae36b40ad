import pytest

from service.http.paths import Paths
from service.http.routes import ROUTES


@pytest.fixture
def paths() -> Paths[str]:
    paths = Paths[str]()
    paths.add("/v1/things", "GET", "list")
    paths.add("/v1/things", "POST", "create")
    paths.add("/v1/things/{thing}", "GET", "show")
    paths.add("/v1/things/{thing}/parts/{part}", "GET", "part")
    return paths


@pytest.mark.parametrize(
    ("path", "found", "parameters"),
    [
        ("/v1/things", {"GET": "list", "POST": "create"}, []),
        ("/v1/things/a", {"GET": "show"}, ["a"]),
        ("/v1/things/a%2Fb\n", {"GET": "show"}, ["a%2Fb\n"]),
        ("/v1/things/a/parts/b", {"GET": "part"}, ["a", "b"]),
        ("/v1/things/a/parts", {}, ["a"]),
    ],
)
def test_a_path_has_what_its_template_was_given(
    paths: Paths[str], path: str, found: dict[str, str], parameters: list[str]
) -> None:
    assert paths.find(path) == (found, parameters)


@pytest.mark.parametrize(
    "path", ["", "/", "//", "/v1", "/v1/things/", "/v1//things", "/v2/things", "v1/things", "/V1"]
)
def test_other_paths_have_nothing(paths: Paths[str], path: str) -> None:
    assert not paths.find(path)[0]


@pytest.mark.parametrize("template", ["/v1/things/all", "/v1/{kind}"])
def test_templates_that_could_both_be_meant_are_refused(paths: Paths[str], template: str) -> None:
    with pytest.raises(ValueError, match="of other kind"):
        paths.add(template, "GET", "ambiguous")


def test_every_route_of_the_table_is_found_by_a_path_of_its_own() -> None:
    paths = Paths[str]()
    for route in ROUTES:
        paths.add(route.path, route.method, route.handler.__name__)
    for route in ROUTES:
        values = {name: f"x-{name}" for name in route.parameters}
        found, parameters = paths.find(route.path.format(**values))
        assert found[route.method] == route.handler.__name__
        assert parameters == list(values.values())
