"""`headstock demo`: two tenants on one backbone, from sample rows to a swap under load.

Everything is real: the backbone is exported, the adapters are trained, a server process answers
over HTTP. State is kept under the home, so that a second run only repeats what is quick.
"""

import os
import secrets
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import HeadstockError
from headstock.commands.common import AsJson, feature_cache, progress_bars, settings
from headstock.output import note, show_json, show_table, stderr

if TYPE_CHECKING:
    from adapters.manifest import Manifest
    from headstock.client import Client
    from headstock.client.answers import Prediction, Predictions

SAMPLES = Path(__file__).parent / "samples"
BACKBONE = "minilm"
TENANTS = {"shop": "shop.csv", "clinic": "clinic.csv"}
SECOND_VERSION = "shop-v2.csv"  # of the shop, with one more label
ADAPTER = "intents"
SENTENCES = (
    "When will my order finally arrive?",
    "I was charged twice, I want one payment back.",
    "The mug was in pieces when I opened the box.",
    "Can we move my visit to next week?",
    "Are you open on Saturday?",
)
_CLIENTS = 4


class DemoFailed(HeadstockError):
    """A step of the demo did not come out as it must."""

    code = "demo-failed"


def demo(
    serve: Annotated[
        bool, typer.Option("--serve", help="Keep a server up with the sample tenants.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the whole way, or keep a server with the sample tenants up."""
    if serve:
        from service.ports import check_ports

        check_ports(settings())  # now, not after the training
    ensure_backbone()
    samples = train_samples()
    if not json:
        _show_samples(samples)
    if serve:
        keep_serving(samples, json)
    else:
        run_demo(samples, json)


def ensure_backbone() -> None:
    """Add the default backbone where it is missing."""
    from backbone import BackboneNotFound, find_backbone
    from training.backbones import add
    from training.backbones.catalog.entries import CATALOG

    root = settings().backbones_folder
    try:
        find_backbone(root, BACKBONE)
    except BackboneNotFound:
        note(f"$ headstock backbone add {BACKBONE}")
        with stderr.status("") as status:
            add.add_from_catalog(
                CATALOG[BACKBONE], root, BACKBONE, lambda step: status.update(f"{step} …")
            )


@dataclass(frozen=True, slots=True)
class Sample:
    """A trained sample: the adapter's file and what it says of itself."""

    file: Path
    manifest: "Manifest"


def train_samples() -> dict[str, Sample]:
    """Train an adapter for each sample file, by the file's name."""
    from adapters.container import write_file
    from headstock.commands.common import open_backbone
    from training.data.rows import Columns
    from training.recipe import Recipe
    from training.train import train_adapter

    folder = settings().home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    backbone = open_backbone(BACKBONE)
    cache = feature_cache()
    samples = {}
    for sample in (*TENANTS.values(), SECOND_VERSION):
        output = folder / f"{Path(sample).stem}.safetensors"
        note(f"$ headstock train {sample} --backbone {BACKBONE} --output {output.name}")
        with progress_bars() as stage:
            result = train_adapter(SAMPLES / sample, Columns(), backbone, cache, Recipe(), stage)
        write_file(output, result.content)
        samples[sample] = Sample(output, result.manifest)
    return samples


def run_demo(samples: Mapping[str, Sample], json: bool) -> None:
    """Upload, ask, swap under load; raises DemoFailed where a request fails."""
    from headstock.process import free_port

    folder = settings().home / "demo"
    shutil.rmtree(folder / "registry", ignore_errors=True)  # each run starts from nothing
    database = f"sqlite:///{(folder / 'registry' / 'registry.sqlite').absolute()}"
    with _server(free_port(), database) as client:
        set_up(client, samples)
        before = {tenant: client.predict(tenant, ADAPTER, SENTENCES) for tenant in TENANTS}
        note(f"$ headstock push shop-v2.safetensors --tenant shop --name {ADAPTER} --activate")
        tally = swap_under_load(client, samples[SECOND_VERSION].file)
        after = client.predict("shop", ADAPTER, SENTENCES)
    if not json:
        _show_answers(before, after)
        _show_swap(tally)
    if tally.failures or set(tally.versions) != {1, 2}:
        raise DemoFailed(f"the swap did not go unnoticed: {tally}")
    if json:
        swap = {"versions": tally.versions, "failures": tally.failures, "seconds": tally.swap_s}
        show_json({"answers": {**before, "shop-v2": after}, "swap": swap})


def keep_serving(samples: Mapping[str, Sample], json: bool) -> None:
    """A server on the usual port with the usual registry, until interrupted."""
    current = settings()
    with _server(current.port, None) as client:
        set_up(client, samples)
        key = os.environ["HEADSTOCK_ADMIN_KEY"]
        path = f"/v1/tenants/shop/adapters/{ADAPTER}/predict"
        elsewhere = "" if current.port == 8000 else f"  export HEADSTOCK_SERVER={client.server}\n"
        note(
            f"\nServing at {client.server} — the API: {client.server}/docs — stop with Ctrl-C\n\n"
            f"{elsewhere}"
            f"  export HEADSTOCK_KEY={key}\n"
            f'  curl -H "Authorization: Bearer $HEADSTOCK_KEY" {client.server}{path} \\\n'
            f"""       -d '{{"inputs": ["{SENTENCES[0]}"], "top_k": 3}}'\n"""
        )
        if json:
            show_json({"url": client.server, "docs": f"{client.server}/docs", "key": key})
        _wait_for_signal()


def _wait_for_signal() -> None:
    """Until Ctrl-C or SIGTERM, both of which end in order.

    With handlers of our own: a library may have replaced Python's, and then no wait is woken.
    """
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: received.append(got))
    while not received:
        time.sleep(0.2)


def set_up(client: "Client", samples: Mapping[str, Sample]) -> None:
    """The sample tenants with their adapters; what is there already stays."""
    from headstock.client import RequestFailed

    for tenant, sample in TENANTS.items():
        note(f"$ headstock tenant create {tenant}")
        try:
            client.create_tenant(tenant)
        except RequestFailed as error:
            if error.code != "conflict":
                raise
        file = samples[sample].file
        note(f"$ headstock push {file.name} --tenant {tenant} --name {ADAPTER} --activate")
        client.push(file, tenant, ADAPTER, activate=True)


@contextmanager
def _server(port: int, database: str | None) -> Iterator["Client"]:
    """A server of the sample backbone and a client with its admin key."""
    from headstock.client import Client
    from headstock.process import running_server

    key = os.environ.get("HEADSTOCK_ADMIN_KEY") or f"hs-demo-{secrets.token_urlsafe(32)}"
    os.environ["HEADSTOCK_ADMIN_KEY"] = key
    variables = {"HEADSTOCK_BACKBONES": BACKBONE, "HEADSTOCK_ADMIN_KEY": key}
    if database is not None:
        variables["HEADSTOCK_DATABASE_URL"] = database
    else:
        variables["HEADSTOCK_GRPC_PORT"] = str(settings().grpc_port)
    note(f"$ headstock serve --backbone {BACKBONE} --port {port}")
    # A SIGTERM ends like a Ctrl-C: the server is stopped in order.
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with (
            running_server(settings().home / "demo" / "server.log", port, variables) as server,
            Client(server.url, key) as client,
        ):
            yield client
    finally:
        signal.signal(signal.SIGTERM, previous)


@dataclass(slots=True)
class Tally:
    """What clients saw while a version was replaced."""

    versions: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    swap_s: float = 0.0


def swap_under_load(client: "Client", file: Path) -> Tally:
    """Upload a second version while clients send without pause."""
    tally, stop, lock = Tally(), threading.Event(), threading.Lock()

    def send() -> None:
        from headstock.client import Client, Retry

        once = Retry(attempts=1)  # a failure that is mended is one
        with Client(client.server, os.environ["HEADSTOCK_ADMIN_KEY"], once) as own:
            while not stop.is_set():
                try:
                    answer = own.predict("shop", ADAPTER, SENTENCES[:2])
                    seen = answer["adapter"]["version"]
                except HeadstockError as error:
                    with lock:
                        tally.failures.append(str(error))
                else:
                    with lock:
                        tally.versions[seen] += 1

    threads = [threading.Thread(target=send) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    started = time.perf_counter()
    client.push(file, "shop", ADAPTER, activate=True)
    tally.swap_s = time.perf_counter() - started
    time.sleep(1.5)
    stop.set()
    for thread in threads:
        thread.join()
    return tally


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _show_samples(samples: Mapping[str, Sample]) -> None:
    columns = ("sample", "rows", "labels", "accuracy", "TF-IDF", "bytes")
    rows = [(name, *_summary(sample)) for name, sample in samples.items()]
    show_table("Adapters, measured on rows held out", columns, rows)


def _summary(sample: Sample) -> tuple[str, str, str, str, str]:
    training, measured = sample.manifest.training, sample.manifest.measured
    assert training is not None, "the demo has trained it"
    assert measured is not None, "training has measured it"
    return (
        str(training.rows),
        str(len(sample.manifest.labels)),
        f"{measured.adapter['accuracy'].value:.2f}",
        f"{measured.baselines['tfidf']['accuracy'].value:.2f}",
        f"{sample.file.stat().st_size:,}",
    )


def _show_answers(before: "Mapping[str, Predictions]", after: "Predictions") -> None:
    title = "The same sentences, one backbone, each tenant's own answers"
    _show_beside(title, {"shop": before["shop"], "clinic": before["clinic"]})
    title = "The same tenant before and after its second version, which knows damaged_item"
    _show_beside(title, {"shop, version 1": before["shop"], "shop, version 2": after})


def _show_beside(title: str, answers: "Mapping[str, Predictions]") -> None:
    rows = [
        (sentence, *(_shown(answer["predictions"][place]) for answer in answers.values()))
        for place, sentence in enumerate(SENTENCES)
    ]
    show_table(title, ("sentence", *answers), rows)


def _shown(prediction: "Prediction") -> str:
    return f"{prediction['label']}\n{prediction['score']:.2f}"


def _show_swap(tally: Tally) -> None:
    rows = [
        ("requests answered by version 1", tally.versions[1]),
        ("requests answered by version 2", tally.versions[2]),
        ("requests that failed", len(tally.failures)),
        ("upload to live, seconds", f"{tally.swap_s:.3f}"),
    ]
    show_table("A second version, uploaded while 4 clients were sending", ("", ""), rows)
