"""Which sites a LoRA graph takes: suffixes of their names, as in PEFT's `target_modules`."""

from collections.abc import Iterable, Sequence

from backbone.errors import BackboneError

# How families of encoders call the pair to which LoRA is usually added.
_QUERY_AND_VALUE = (
    ("query", "value"),
    ("query_proj", "value_proj"),
    ("q_proj", "v_proj"),
    ("q_lin", "v_lin"),
    ("q", "v"),
)


def choose_graphs(
    sites: Sequence[str], targets: Sequence[str] | None
) -> tuple[tuple[str, ...], ...]:
    """The sites of each LoRA graph, smallest first; the last has those of all others.

    `targets` holds for each graph comma-separated suffixes, or "all", or is ["none"]. None: query
    and value where their names are known, and all sites.

    Raises:
        BackboneError: a suffix that no site has.
    """
    if targets is None:
        chosen = _usual(sites)
    elif list(targets) == ["none"]:
        return ()
    else:
        chosen = [_matching(sites, each) for each in targets]
    graphs = {tuple(site for site in sites if site in each) for each in chosen if each}
    if graphs:
        # Rows of several graphs may meet in one batch, which then needs one graph for them all.
        graphs.add(tuple(site for site in sites if any(site in graph for graph in graphs)))
    return tuple(sorted(graphs, key=lambda graph: (len(graph), graph)))


def _usual(sites: Sequence[str]) -> list[frozenset[str]]:
    pairs = [_ending(sites, pair) for pair in _QUERY_AND_VALUE]
    return [*(pair for pair in pairs if pair), frozenset(sites)]


def _matching(sites: Sequence[str], targets: str) -> frozenset[str]:
    suffixes = [part.strip() for part in targets.split(",")]
    if suffixes == ["all"] and sites:
        return frozenset(sites)
    for suffix in suffixes:
        if not _ending(sites, [suffix]):
            known = ", ".join(sorted({site.rpartition(".")[2] for site in sites})) or "none"
            raise BackboneError(
                f"--lora {targets!r}: no site of the graph is called {suffix!r} or ends with "
                f"'.{suffix}'; its sites end with: {known}; all and none stand alone"
            )
    return _ending(sites, suffixes)


def _ending(sites: Iterable[str], suffixes: Iterable[str]) -> frozenset[str]:
    endings = tuple(f".{suffix}" for suffix in suffixes)
    return frozenset(site for site in sites if f".{site}".endswith(endings))
