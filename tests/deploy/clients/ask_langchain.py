"""LangChain: as it is made by default it sends tokens of OpenAI's models, else texts."""

import json
import sys

import openai
from langchain_openai import OpenAIEmbeddings

url, key, models, texts = json.loads(sys.argv[1])
refused, vectors = {}, {}
for model in models:
    options = {"model": model, "base_url": url, "api_key": key, "max_retries": 0}
    for count in (1, 1000):
        try:
            OpenAIEmbeddings(**options).embed_documents(texts * count)
        except openai.APIStatusError as error:
            refused[f"{model}, {count}"] = error.message
    client = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    vectors[model] = client.embed_documents(texts)
    assert client.embed_query(texts[0]) == vectors[model][0]
    many = client.embed_documents(texts * 700, chunk_size=1000)
    assert many == vectors[model] * 700
client = OpenAIEmbeddings(**options, check_embedding_ctx_length=False, dimensions=4)
cut = client.embed_documents(texts)
print(json.dumps({"refused": refused, "vectors": vectors, "cut": cut}))
