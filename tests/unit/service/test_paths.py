import pytest

from adapters.errors import NotFound
from service.http.paths import Paths
from service.http.routes import NO_PARAMETERS, ROUTES
from service.oip.names import ModelName


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
        ("/v1/things/a%2Fb\n", {"GET": "show"}, ["a/b\n"]),
        ("/v1/things/a/parts/b", {"GET": "part"}, ["a", "b"]),
        ("/v1/things/a/parts", {}, ["a"]),
    ],
)
def test_a_path_has_what_its_template_was_given(
    paths: Paths[str], path: str, found: dict[str, str], parameters: list[str]
) -> None:
    assert paths.find(path) == (found, parameters)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "/v1",
        "/v1/things/",
        "/v1//things",
        "/v2/things",
        "v1/things",
        "/V1",
        "/v1%2Fthings",
        "/v1/th%69ngs",
    ],
)
def test_other_paths_have_nothing(paths: Paths[str], path: str) -> None:
    assert not paths.find(path)[0]


@pytest.mark.parametrize("template", ["/v1/things/all", "/v1/{kind}"])
def test_templates_that_could_both_be_meant_are_refused(paths: Paths[str], template: str) -> None:
    with pytest.raises(ValueError, match="of other kind"):
        paths.add(template, "GET", "ambiguous")


def test_a_name_that_no_parameter_has_may_stand_in_its_place() -> None:
    paths = Paths[str]({"all"})
    paths.add("/v1/things/{thing}/parts", "GET", "parts")
    paths.add("/v1/things/all", "GET", "all")
    paths.add("/v1/things/{thing}", "GET", "show")
    assert paths.find("/v1/things/all") == ({"GET": "all"}, [])
    assert paths.find("/v1/things/%61ll") == ({"GET": "show"}, ["all"])
    assert paths.find("/v1/things/one") == ({"GET": "show"}, ["one"])
    assert not paths.find("/v1/things/all/parts")[0]
    with pytest.raises(ValueError, match="of other kind"):
        paths.add("/v1/things/some", "GET", "ambiguous")


@pytest.mark.parametrize("name", sorted(NO_PARAMETERS))
def test_no_model_has_a_name_that_stands_apart(name: str) -> None:
    with pytest.raises(NotFound):
        ModelName.parse(name)


def test_every_route_of_the_table_is_found_by_a_path_of_its_own() -> None:
    paths = Paths[str](NO_PARAMETERS)
    for route in ROUTES:
        paths.add(route.path, route.method, route.handler.__name__)
    for route in ROUTES:
        values = {name: f"x-{name}" for name in route.parameters}
        found, parameters = paths.find(route.path.format(**values))
        assert found[route.method] == route.handler.__name__
        assert parameters == list(values.values())
