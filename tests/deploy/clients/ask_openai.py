"""OpenAI's own package: lists of models, embeddings of texts and of the backbone's token ids."""

import asyncio
import json
import sys

import openai

url, key, marked, ids, texts = json.loads(sys.argv[1])
with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
    models = {each.id: each.owned_by for each in client.models.list()}
    assert client.models.retrieve("acme.intents").owned_by == "acme"
    try:
        client.models.retrieve("other.intents")
    except openai.NotFoundError as error:
        missing = error.message
    plain = client.embeddings.create(model=marked, input=texts, encoding_format="float")
    base64 = client.embeddings.create(model=marked, input=texts, user="u-1")
    of_ids = client.embeddings.create(model=marked, input=ids)
    short = client.embeddings.create(model=marked, input=texts, dimensions=4)
    typed = client.embeddings.create(
        model=marked, input=texts, extra_body={"input_type": "query", "encoding_format": None}
    )


async def ask() -> list[list[float]]:
    async with openai.AsyncOpenAI(base_url=url, api_key=key) as client:
        found = await client.embeddings.create(model=marked, input=texts)
        return [each.embedding for each in found.data]


vectors = [each.embedding for each in plain.data]
for other in (
    [each.embedding for each in base64.data],
    [each.embedding for each in of_ids.data],
    asyncio.run(ask()),
):
    assert other == vectors
assert [each.embedding for each in typed.data] != vectors
cut = [each.embedding for each in short.data]
print(json.dumps({"models": models, "missing": missing, "vectors": vectors, "cut": cut}))
