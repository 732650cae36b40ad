"""LiteLLM, which speaks for many other programs, with this server as OpenAI's."""

import asyncio
import json
import sys

import litellm

url, key, marked, texts = json.loads(sys.argv[1])
options = {"model": f"openai/{marked}", "api_base": url, "api_key": key, "max_retries": 0}
found = litellm.embedding(**options, input=texts, user="u-1", encoding_format="float")
vectors = [each["embedding"] for each in found.data]
assert found.usage.prompt_tokens > len(texts)
again = asyncio.run(litellm.aembedding(**options, input=texts))
assert [each["embedding"] for each in again.data] == vectors
allowed = {"allowed_openai_params": ["dimensions"]}
short = litellm.embedding(**options, input=texts, dimensions=4, **allowed)
try:
    litellm.embedding(**{**options, "model": "openai/other.intents"}, input=texts)
except litellm.NotFoundError as error:
    missing = str(error)
cut = [each["embedding"] for each in short.data]
print(json.dumps({"vectors": vectors, "cut": cut, "missing": missing}))
