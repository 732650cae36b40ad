"""LoRA as graph inputs: each row brings its own low-rank weights to each site.

At a site y = x W the graph computes y + (x A^T) B. A and B of a row are gathered from pools of
pages, one page a rank, by the row's page numbers in the input `lora_pages` [g, n, c]: g groups
of c ranks for each of n rows; page 0 is zero and stands in where a row has fewer ranks or none.

Two things keep a row's bits whatever its neighbours have. The ranks go through x A^T in groups
of at most 16: with more columns ONNX Runtime cuts the sum over x's width into other pieces (seen
from 17 columns on at 768 and from 33 on at 384). And the sum is added before the bias, where the
plain graph has nothing to fuse, so that both graphs are optimised alike.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from backbone.lora import PAGES, a_input, b_input
from backbone.surgery.model import MICROSOFT, add_constant, allow_microsoft, replace_nodes
from backbone.surgery.sites import FoundSite, Place


def add_lora(model: onnx.ModelProto, sites: Sequence[FoundSite]) -> None:
    """Give the graph LoRA at `sites`, in place."""
    graph = model.graph
    by_output = {
        place.y: (site, place, number)
        for site in sites
        for number, place in enumerate(site.places, start=1)
    }
    add_input = graph.input.append
    add_input(helper.make_tensor_value_info(PAGES, TensorProto.INT64, ["g", "n", "c"]))
    add_constant(model, "lora/row", np.array([0, -1]))
    add_constant(model, "lora/token", np.array([0, 0, -1]))
    nodes = [
        helper.make_node("Transpose", [PAGES], ["lora/by_row"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["lora/by_row", "lora/row"], ["lora/pages_of_row"]),
    ]
    for node in graph.node:
        nodes.append(node)
        for position, output in enumerate(node.output):
            if output in by_output:
                site, place, number = by_output[output]
                node.output[position] = f"{output}/plain"
                if number == 1:
                    nodes += _gather(site)
                nodes += _add(site, place, number)
    for site in sites:
        for name, width in ((a_input(site.name), site.inputs), (b_input(site.name), site.outputs)):
            add_input(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["pages", width]))
    replace_nodes(model, nodes)
    allow_microsoft(model)


def _gather(site: FoundSite) -> list[onnx.NodeProto]:
    """Each row's weights of a site, before the first of its places."""
    node = helper.make_node
    a, b = a_input(site.name), b_input(site.name)
    return [
        node("Gather", [a, PAGES], [f"{a}/rows"]),  # [g, n, c, inputs]
        node("Gather", [b, "lora/pages_of_row"], [f"{b}/rows"]),  # [n, g * c, outputs]
    ]


def _add(site: FoundSite, place: Place, number: int) -> list[onnx.NodeProto]:
    node = helper.make_node
    a, b = a_input(site.name), b_input(site.name)
    h, product = f"{a}/h{number}", f"{b}/sum{number}"
    return [
        node("FusedMatMul", [place.x, f"{a}/rows"], [h], domain=MICROSOFT, transB=1),
        node("Transpose", [h], [f"{h}/by_token"], perm=[1, 2, 0, 3]),
        node("Reshape", [f"{h}/by_token", "lora/token"], [f"{h}/of_token"]),  # [n, t, g * c]
        node("MatMul", [f"{h}/of_token", f"{b}/rows"], [product]),
        node("Add", [f"{place.y}/plain", product], [place.y]),
    ]
