import hashlib
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from adapters.registry import Version
from tests.contract.support import ACME, ADMIN, INTENTS, Server, chunks


async def test_an_upload_is_a_version_and_the_same_bytes_are_the_same_version(
    server: Server,
) -> None:
    key, content = server.keys["acme"], server.file(7)
    first = await server.call("POST", f"{INTENTS}/versions", key, content=content)
    again = await server.call("POST", f"{INTENTS}/versions", key, content=content)
    assert (first.status_code, again.status_code) == (201, 200)
    expected = {"version": 2, "digest": hashlib.sha256(content).hexdigest(), "created": True}
    release = {"stable": 1, "revision": 1}
    assert first.json() == {**expected, "release": release}
    assert again.json() == {**expected, "created": False, "release": release}
    assert len((await server.ok("GET", f"{INTENTS}/versions", key))["versions"]) == 2


async def test_an_upload_answers_only_when_it_is_activated(server: Server) -> None:
    path = f"{ACME}/adapters/fresh"
    published = await server.publish(server.file(5), path=path, activate=False)
    assert (published["version"], published["release"]) == (1, None)
    await server.problem(404, "POST", f"{path}/predict", json={"inputs": ["x"]})
    problem = await server.problem(404, "GET", f"{path}/release")
    assert "no release yet" in problem["detail"]
    published = await server.publish(server.file(5), path=path, activate=True)
    assert (published["created"], published["release"]) == (False, {"stable": 1, "revision": 1})
    assert (await server.predict("x", path=path))["adapter"]["version"] == 1


async def test_an_activated_upload_answers_the_very_next_request(server: Server) -> None:
    content = server.file(8, ("new-a", "new-b", "new-c"))
    published = await server.publish(content, key=server.keys["acme"])
    answer = await server.predict("hello")
    assert answer["adapter"] == {
        "tenant": "acme",
        "name": "intents",
        "version": 2,
        "digest": published["digest"],
    }
    assert answer["predictions"][0]["label"].startswith("new-")


async def test_an_upload_may_come_in_pieces_of_unknown_number(server: Server) -> None:
    content = server.file(9)
    response = await server.call("POST", f"{INTENTS}/versions", content=chunks(content, 100))
    assert response.json()["digest"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("value", ["yes", "True", "1", ""])
async def test_activate_is_true_or_false(server: Server, value: str) -> None:
    path = f"{INTENTS}/versions"
    before = await server.state()
    problem = await server.problem(
        422, "POST", path, content=server.file(9), params={"activate": value}
    )
    assert "'activate' must be true or false" in problem["detail"]
    assert await server.state() == before


async def test_a_version_is_shown_with_its_manifest_and_given_back_to_the_byte(
    server: Server,
) -> None:
    content = server.file(0)
    shown = await server.ok("GET", f"{INTENTS}/versions/1")
    assert shown["digest"] == hashlib.sha256(content).hexdigest()
    assert shown["size"] == len(content)
    assert shown["backbone"] == shown["manifest"]["backbone"] == server.backbone.digest
    assert shown["manifest"]["labels"] == ["no", "yes"]
    response = await server.call("GET", f"{INTENTS}/versions/1/file", server.keys["acme"])
    assert response.content == content
    assert response.headers["etag"] == f'"{shown["digest"]}"'
    assert (await server.ok("GET", f"{INTENTS}/versions"))["versions"] == [
        {name: value for name, value in shown.items() if name != "manifest"}
    ]


@pytest.mark.parametrize(
    "number", ["0", "2", "-1", "1.0", "one", "99999999999", "9" * 100, "1e0", "%D9%A1", "1%0A"]
)
async def test_a_version_that_is_not_there_is_not_found(server: Server, number: str) -> None:
    await server.problem(404, "GET", f"{INTENTS}/versions/{number}")
    await server.problem(404, "GET", f"{INTENTS}/versions/{number}/file")


async def test_the_adapters_of_a_tenant_are_listed(server: Server) -> None:
    await server.publish(server.file(1), path=f"{ACME}/adapters/another", activate=False)
    await server.publish(server.file(2))
    assert (await server.ok("GET", f"{ACME}/adapters", server.keys["acme"]))["adapters"] == [
        {"name": "another", "latest_version": 1, "release": None},
        {"name": "intents", "latest_version": 2, "release": {"stable": 2, "revision": 2}},
    ]


async def test_an_adapter_that_is_not_there_is_not_found(server: Server) -> None:
    path = f"{ACME}/adapters/nothing"
    for part in ("versions", "versions/1", "versions/1/file", "release"):
        await server.problem(404, "GET", f"{path}/{part}")
    await server.problem(404, "PUT", f"{path}/release", json={"stable": 1})
    await server.problem(404, "POST", f"{path}/release/rollback")
    await server.problem(404, "POST", f"{path}/predict", json={"inputs": ["x"]})


async def test_a_release_moves_back_and_forth(server: Server) -> None:
    await server.publish(server.file(1), activate=False)
    response = await server.call("GET", f"{INTENTS}/release")
    assert (response.json(), response.headers["etag"]) == ({"stable": 1, "revision": 1}, '"1"')
    response = await server.call("PUT", f"{INTENTS}/release", json={"stable": 2})
    assert (response.json(), response.headers["etag"]) == ({"stable": 2, "revision": 2}, '"2"')
    assert (await server.predict("x"))["adapter"]["version"] == 2
    response = await server.call("POST", f"{INTENTS}/release/rollback")
    assert (response.json(), response.headers["etag"]) == ({"stable": 1, "revision": 3}, '"3"')
    assert (await server.predict("x"))["adapter"]["version"] == 1
    problem = await server.problem(409, "POST", f"{INTENTS}/release/rollback")
    assert "no earlier release" in problem["detail"]


async def test_a_release_of_a_version_that_is_not_there_is_refused(server: Server) -> None:
    for stable in (2, 2**31, 2**63, 10**30):
        await server.problem(404, "PUT", f"{INTENTS}/release", json={"stable": stable})
    await server.problem(422, "PUT", f"{INTENTS}/release", json={"stable": 0})
    assert await server.ok("GET", f"{INTENTS}/release") == {"stable": 1, "revision": 1}


async def test_if_match_moves_the_release_only_from_the_revision_that_was_seen(
    server: Server,
) -> None:
    await server.publish(server.file(1), activate=False)
    path, change = f"{INTENTS}/release", {"stable": 2}
    etag = (await server.call("GET", path)).headers["etag"]
    moved = await server.call("PUT", path, json=change, headers={"If-Match": etag})
    assert moved.json() == {"stable": 2, "revision": 2}
    stale = {"If-Match": etag}
    problem = await server.problem(412, "PUT", path, json={"stable": 1}, headers=stale)
    assert "revision 2" in problem["detail"]
    await server.problem(412, "POST", f"{path}/rollback", headers=stale)
    assert await server.ok("GET", path) == {"stable": 2, "revision": 2}
    fresh = {"If-Match": moved.headers["etag"]}
    back = await server.ok("POST", f"{path}/rollback", headers=fresh)
    assert back == {"stable": 1, "revision": 3}
    assert (await server.ok("PUT", path, json=change, headers={"If-Match": "*"}))["stable"] == 2
    weak = {"If-Match": 'W/"4"'}
    assert (await server.ok("GET", path))["revision"] == 4
    await server.problem(412, "PUT", path, json={"stable": 1}, headers=weak)
    await server.problem(412, "POST", f"{path}/rollback", headers=weak)


async def test_if_match_takes_any_revision_of_a_list(server: Server) -> None:
    await server.publish(server.file(1), activate=False)
    path, revision = f"{INTENTS}/release", 1
    for lines in (['"7", "1"'], ['"9"', 'W/"1", "2"'], [',, "3" ,"other,3"', '"0"']):
        headers = [("If-Match", line) for line in lines]
        headers.append(("Authorization", f"Bearer {ADMIN}"))
        change = {"stable": revision % 2 + 1}
        moved = await server.http.put(path, json=change, headers=headers)
        revision += 1
        assert moved.json() == {**change, "revision": revision}
    problem = await server.problem(
        412, "PUT", path, json={"stable": 1}, headers={"If-Match": '"1", "3"'}
    )
    assert "revision 4, not 1 or 3" in problem["detail"]
    await server.problem(412, "POST", f"{path}/rollback", headers={"If-Match": '"1", W/"4"'})
    back = await server.ok("POST", f"{path}/rollback", headers={"If-Match": '"3","4"'})
    assert back["revision"] == 5


async def test_if_match_of_a_release_that_is_not_there_yet_is_zero(server: Server) -> None:
    path = f"{ACME}/adapters/fresh"
    await server.publish(server.file(1), path=path, activate=False)
    change, none_yet = {"stable": 1}, {"If-Match": '"0"'}
    await server.problem(412, "PUT", f"{path}/release", json=change, headers={"If-Match": "*"})
    await server.problem(412, "PUT", f"{path}/release", json=change, headers={"If-Match": '"1"'})
    released = await server.ok("PUT", f"{path}/release", json=change, headers=none_yet)
    assert released == {"stable": 1, "revision": 1}
    await server.problem(412, "PUT", f"{path}/release", json=change, headers=none_yet)


@pytest.mark.parametrize(
    "header", ["1", "", '"one"', '"1" "2"', '*, "1"', '"01"', '"-1"', '"' + "9" * 40 + '"']
)
async def test_an_if_match_that_is_no_etag_of_ours_is_refused(server: Server, header: str) -> None:
    headers = {"If-Match": header}
    problem = await server.problem(
        422, "PUT", f"{INTENTS}/release", json={"stable": 1}, headers=headers
    )
    assert "If-Match" in problem["detail"]


async def test_a_version_that_cannot_answer_here_is_not_released(server: Server) -> None:
    await server.publish(server.file(1))
    other, damaged = server.file(2), server.file(3)
    for content in (other, damaged):
        await server.publish(content, activate=False)
    with closing(sqlite3.connect(server.runtime.settings.home / "registry.sqlite")) as database:
        change = "UPDATE versions SET {} WHERE digest = ?"
        digests = [hashlib.sha256(content).hexdigest() for content in (other, damaged)]
        database.execute(change.format("backbone = printf('%064d', 7)"), digests[:1])
        database.execute(change.format("content = zeroblob(100)"), digests[1:])
        database.commit()
    path = f"{INTENTS}/release"
    problem = await server.problem(422, "PUT", path, json={"stable": 3})
    assert problem["code"] == "wrong-backbone"
    problem = await server.problem(503, "PUT", path, json={"stable": 4})
    assert problem["code"] == "registry-unavailable"
    assert await server.ok("GET", path) == {"stable": 2, "revision": 2}
    await server.predict("x")


async def test_a_rollback_to_what_cannot_answer_here_is_refused(server: Server) -> None:
    first = await server.ok("GET", f"{INTENTS}/versions/1")
    await server.publish(server.file(1))
    with closing(sqlite3.connect(server.runtime.settings.home / "registry.sqlite")) as database:
        change = "UPDATE versions SET backbone = printf('%064d', 7) WHERE digest = ?"
        database.execute(change, [first["digest"]])
        database.commit()
    problem = await server.problem(422, "POST", f"{INTENTS}/release/rollback")
    assert problem["code"] == "wrong-backbone"
    assert await server.ok("GET", f"{INTENTS}/release") == {"stable": 2, "revision": 2}
    await server.predict("x")


async def test_a_release_is_resident_before_it_is_asked_for(server: Server) -> None:
    await server.publish(server.file(1), activate=False)
    loads = server.metric("adapter_loads_total", outcome="loaded")
    await server.ok("PUT", f"{INTENTS}/release", json={"stable": 2})
    assert server.metric("adapter_loads_total", outcome="loaded") == loads + 1
    await server.predict("x")
    assert server.metric("adapter_loads_total", outcome="loaded") == loads + 1


async def test_a_rollback_that_another_change_overtakes_looks_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = server.runtime.registry
    for seed in (1, 2):
        await server.publish(server.file(seed))
    look, raced = registry.rollback_target, list[str]()

    def rollback_target(*args: Any, **options: Any) -> tuple[int, Version]:
        found = look(*args, **options)
        if not raced:
            raced.append("once")
            registry.set_release("acme", "intents", 1, actor="another server")
        return found

    monkeypatch.setattr(registry, "rollback_target", rollback_target)
    moved = await server.ok("POST", f"{INTENTS}/release/rollback")
    assert moved == {"stable": 3, "revision": 5}
    raced.clear()
    etag = {"If-Match": '"5"'}
    await server.problem(412, "POST", f"{INTENTS}/release/rollback", headers=etag)


async def test_a_push_to_a_tenant_that_is_not_there_leaves_nothing_in_memory(
    server: Server,
) -> None:
    before = server.metric("resident_adapters")
    path = "/v1/tenants/nobody/adapters/intents/versions?activate=true"
    await server.problem(404, "POST", path, content=server.file(9))
    assert server.metric("resident_adapters") == before
