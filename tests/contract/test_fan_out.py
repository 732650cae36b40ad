"""One input to several adapters of a tenant in one request."""

from adapters.manifest import HeadName, TaskName
from tests.contract.support import ACME, Server
from tests.support import make_adapter_file

FAN_OUT = f"{ACME}/predict"


async def publish(server: Server, name: str, task: TaskName, head: HeadName, seed: int = 0) -> None:
    content = make_adapter_file(seed=seed, task=task, head=head, backbone=server.backbone.digest)
    await server.publish(content, path=f"{ACME}/adapters/{name}")


async def test_each_adapter_answers_as_it_does_alone(server: Server) -> None:
    await publish(server, "topics", "multilabel", "mlp", 1)
    await publish(server, "price", "regression", "linear", 2)
    await publish(server, "names", "tagging", "linear", 3)
    names = ["price", "intents", "names", "topics"]
    texts = ["Ada went to Rome", "x", ""]
    answer = await server.ok("POST", FAN_OUT, json={"adapters": names, "inputs": texts, "top_k": 2})
    assert [each["adapter"]["name"] for each in answer["results"]] == names
    for name, result in zip(names, answer["results"], strict=True):
        alone = {"inputs": texts, "top_k": 2}
        path = f"{ACME}/adapters/{name}/predict"
        assert result == await server.ok("POST", path, json=alone)


async def test_the_backbone_reads_each_text_once(server: Server) -> None:
    for number in range(5):
        await publish(server, f"adapter-{number}", "classification", "linear", number)
    before = server.metric("batch_rows_sum", backbone=server.backbone.name)
    names = [f"adapter-{number}" for number in range(5)]
    await server.ok("POST", FAN_OUT, json={"adapters": names, "inputs": ["one", "two"]})
    assert server.metric("batch_rows_sum", backbone=server.backbone.name) - before == 2


async def test_one_adapter_that_is_not_there_refuses_the_request(server: Server) -> None:
    wanted = {"adapters": ["intents", "nobody"], "inputs": ["x"]}
    problem = await server.problem(404, "POST", FAN_OUT, json=wanted)
    assert "nobody" in problem["detail"]


async def test_another_tenants_adapters_are_not_found(server: Server) -> None:
    wanted = {"adapters": ["intents"], "inputs": ["x"]}
    await server.problem(404, "POST", FAN_OUT, server.keys["other"], json=wanted)


async def test_no_adapters_or_too_many_are_refused(server: Server) -> None:
    for adapters in ([], ["intents"] * 2, [f"a{number}" for number in range(65)]):
        wanted = {"adapters": adapters, "inputs": ["x"]}
        await server.problem(422, "POST", FAN_OUT, json=wanted)
