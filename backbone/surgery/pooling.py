"""From a row's token vectors to its pooled one, as nodes whose bits no neighbour changes.

Sums over tokens are matrix products with weights a token, in *two* equal rows: with one row ONNX
Runtime takes a matrix-vector kernel whose order of summation depends on the padded length, and a
row's bits change with its neighbours (seen in a quarter of the cases; never with two rows or
more). For the same reason a vector that goes through a dense layer stands in two equal rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from backbone.surgery.model import MICROSOFT, add_constant, allow_microsoft

Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
Activation = Literal["identity", "tanh", "relu", "sigmoid", "gelu", "silu"]
Vector = NDArray[np.float32]

_SMALLEST = 1e-9  # of a sum of weights, where a prompt leaves no token to pool
_SHORTEST = 1e-12  # of a length that a vector is divided by


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """activation(x W + bias), W [inputs, outputs]; plus x R, or x itself, where R is given."""

    weight: Vector
    bias: Vector | None
    activation: Activation
    residual: Vector | Literal["input"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerNorm:
    """To mean 0 and variance 1, then scaled and shifted, a number a channel."""

    scale: Vector
    shift: Vector
    epsilon: float


@dataclass(frozen=True, slots=True)
class Normalize:
    """To unit length."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """The first `width` numbers alone."""

    width: int


Step = Dense | LayerNorm | Normalize | Truncate


@dataclass(frozen=True, slots=True)
class Pooling:
    """Pools token vectors by each mode, concatenates the results, and applies the steps in order.

    The first `skipped` tokens of a row, those of a prompt, are left out of the pooling.
    """

    modes: tuple[Mode, ...] = ("mean",)
    steps: tuple[Step, ...] = ()
    skipped: int = 0

    def width(self, tokens: int) -> int:
        """The width of what comes of token vectors of the width `tokens`."""
        width = len(self.modes) * tokens
        for step in self.steps:
            if isinstance(step, Dense):
                width = step.weight.shape[1]
            elif isinstance(step, Truncate):
                width = min(width, step.width)
        return width

    @property
    def takes_layers(self) -> bool:
        """Tell whether every layer can be pooled so: trained steps fit the last layer alone."""
        return all(isinstance(each, Normalize | Truncate) for each in self.steps)


MEAN = Pooling()


def add_pooling(model: onnx.ModelProto, width: int, pooling: Pooling = MEAN) -> None:
    """Add the output `pooled` [n, D] from `tokens` [n, t, d] and `attention_mask` [n, t]."""
    graph = _Graph(model)
    rows = _through_steps(graph, _rows(graph, "tokens", pooling), pooling, "pool")
    graph.node("Slice", [rows, "pool/0", "pool/1", "pool/1"], "pool/one")
    graph.node("Squeeze", ["pool/one", "pool/1"], "pooled")
    graph.output("pooled", ["n", pooling.width(width)])


def add_layers(
    model: onnx.ModelProto, inner: Sequence[str], width: int, pooling: Pooling = MEAN
) -> None:
    """Add the output `layers` [n, L, D]: `inner` tensors [n, t, d] and `tokens`, pooled each.

    Needs what `add_pooling` has added. The last layer has the bits of `pooled`.
    """
    graph = _Graph(model)
    rows = [_rows(graph, tensor, pooling) for tensor in (*inner, "tokens")]
    twice = _through_steps(
        graph, graph.node("Concat", rows, "layers/rows", axis=1), pooling, "layers"
    )
    end = graph.constant("layers/end", np.array([2 * len(rows)], np.int64))
    step = graph.constant("layers/step", np.array([2], np.int64))
    graph.node("Slice", [twice, "pool/0", end, "pool/1", step], "layers")
    graph.output("layers", ["n", len(rows), pooling.width(width)])


class _Graph:
    """Nodes, constants and outputs, added to a graph; what it has already is not added again."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._names = {each.name for each in model.graph.initializer}
        self._names |= {name for node in model.graph.node for name in node.output}
        for name, values in (("pool/0", [0]), ("pool/1", [1]), ("pool/twice", [1, 2, 1])):
            self.constant(name, np.array(values, np.int64))

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """The name of the output of a node."""
        if output not in self._names:
            self._names.add(output)
            node = helper.make_node(operator, list(inputs), [output], **attributes)
            self._model.graph.node.append(node)
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        """The name of an initializer."""
        if name not in self._names:
            self._names.add(name)
            add_constant(self._model, name, value)
        return name

    def number(self, value: float) -> str:
        """The name of a float32 scalar."""
        return self.constant(f"pool/number{value:g}", np.array(value, np.float32))

    def product(self, x: str, weight: Vector, name: str) -> str:
        """x W for a constant W, as an operator that stays float32 in int8 backbones.

        It is one row for each text, where the backbone has one for each token.
        """
        allow_microsoft(self._model)
        inputs = [x, self.constant(f"{name}/weight", weight)]
        return self.node("FusedMatMul", inputs, name, domain=MICROSOFT)

    def output(self, name: str, dims: Sequence[str | int]) -> None:
        """Make a float32 tensor an output of the whole graph."""
        info = helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
        self._model.graph.output.append(info)


def _rows(graph: _Graph, tensor: str, pooling: Pooling) -> str:
    """The pooled vector of a tensor [n, t, d] in two equal rows: [n, 2, modes * d]."""
    parts = [_MODES[mode](graph, tensor, pooling.skipped) for mode in pooling.modes]
    if len(parts) == 1:
        return parts[0]
    return graph.node("Concat", parts, f"pool/{tensor}", axis=-1)


def _mask(graph: _Graph, skipped: int) -> str:
    """1.0 for each token that is pooled, else 0.0: [n, t]."""
    whole = graph.node("Cast", ["attention_mask"], "pool/mask", to=TensorProto.FLOAT)
    if not skipped:
        return whole
    first = graph.number(skipped + 1)
    kept = graph.node("GreaterOrEqual", [_counted(graph), first], "pool/is_kept")
    as_float = graph.node("Cast", [kept], "pool/kept", to=TensorProto.FLOAT)
    return graph.node("Mul", [whole, as_float], "pool/unprompted")


def _counted(graph: _Graph) -> str:
    """The number of each token in its row, from 1: [n, t]. Rows are padded at their end."""
    shape = graph.node("Shape", ["attention_mask"], "pool/shape")
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ones = graph.node("ConstantOfShape", [shape], "pool/ones", value=one)
    return graph.node("CumSum", [ones, "pool/1"], "pool/numbers")


def _summed(graph: _Graph, tensor: str, weights: str, name: str) -> str:
    """The sum over tokens with weights [n, t], in two equal rows: [n, 2, d]."""
    row = graph.node("Unsqueeze", [weights, "pool/1"], f"{weights}/row")
    rows = graph.node("Expand", [row, "pool/twice"], f"{weights}/rows")
    return graph.node("MatMul", [rows, tensor], name)


def _divided(graph: _Graph, tensor: str, weights: str, mode: Mode) -> str:
    """The sum with weights [n, t] over the sum of the weights, or its square root."""
    total = graph.node("ReduceSum", [weights, "pool/1"], f"{weights}/total", keepdims=1)
    total = graph.node("Max", [total, graph.number(_SMALLEST)], f"{weights}/sum")
    if mode == "mean_sqrt_len_tokens":
        total = graph.node("Sqrt", [total], f"{weights}/root")
    divisor = graph.node("Unsqueeze", [total, "pool/1"], f"{total}/divisor")
    summed = _summed(graph, tensor, weights, f"pool/{tensor}/sum/{weights}")
    return graph.node("Div", [summed, divisor], f"pool/{tensor}/{mode}")


def _mean(graph: _Graph, tensor: str, skipped: int) -> str:
    return _divided(graph, tensor, _mask(graph, skipped), "mean")


def _mean_sqrt_len(graph: _Graph, tensor: str, skipped: int) -> str:
    return _divided(graph, tensor, _mask(graph, skipped), "mean_sqrt_len_tokens")


def _weighted_mean(graph: _Graph, tensor: str, skipped: int) -> str:
    weights = graph.node("Mul", [_mask(graph, skipped), _counted(graph)], "pool/counted")
    return _divided(graph, tensor, weights, "weightedmean")


def _first(graph: _Graph, tensor: str, skipped: int) -> str:
    """The first token that is pooled; the very first where there is none."""
    return _picked(graph, tensor, _mask(graph, skipped), "cls", is_last=False)


def _last(graph: _Graph, tensor: str, skipped: int) -> str:
    """The last token that is pooled; zeros where there is none."""
    mask = _mask(graph, skipped)
    value = _picked(graph, tensor, mask, "lasttoken", is_last=True)
    if not skipped:  # a row has a token
        return value
    total = graph.node("ReduceMax", [mask, "pool/1"], "pool/is_any", keepdims=1)
    is_any = graph.node("Unsqueeze", [total, "pool/1"], "pool/is_any_row")
    return graph.node("Mul", [value, is_any], f"pool/{tensor}/last")


def _picked(graph: _Graph, tensor: str, mask: str, mode: Mode, is_last: bool) -> str:
    """The first or last token of those with the mask's largest value, in two rows: [n, 2, d]."""
    attributes = {"axis": 1, "keepdims": 1, "select_last_index": int(is_last)}
    place = graph.node("ArgMax", [mask], f"pool/{mode}", **attributes)
    index = graph.node("Unsqueeze", [place, "pool/1"], f"pool/{mode}/index")
    token = graph.node("GatherND", [tensor, index], f"pool/{tensor}/{mode}", batch_dims=1)
    return graph.node("Expand", [token, "pool/twice"], f"pool/{tensor}/{mode}/rows")


def _maximum(graph: _Graph, tensor: str, skipped: int) -> str:
    """The largest number of each channel, in two rows: [n, 2, d]."""
    last = graph.constant("pool/last", np.array([-1], np.int64))
    mask = graph.node("Unsqueeze", [_mask(graph, skipped), last], "pool/mask_of_channels")
    is_kept = graph.node("Cast", [mask], "pool/is_kept_channel", to=TensorProto.BOOL)
    kept = graph.node("Where", [is_kept, tensor, graph.number(-np.inf)], f"pool/{tensor}/kept")
    found = graph.node("ReduceMax", [kept, "pool/1"], f"pool/{tensor}/max", keepdims=1)
    return graph.node("Expand", [found, "pool/twice"], f"pool/{tensor}/max/rows")


_MODES: dict[Mode, Callable[[_Graph, str, int], str]] = {
    "cls": _first,
    "max": _maximum,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def _through_steps(graph: _Graph, x: str, pooling: Pooling, name: str) -> str:
    for number, step in enumerate(pooling.steps):
        x = _step(graph, x, step, f"{name}/step{number}")
    return x


def _step(graph: _Graph, x: str, step: Step, name: str) -> str:
    match step:
        case Dense():
            return _dense(graph, x, step, name)
        case LayerNorm():
            scale = graph.constant(f"{name}/scale", step.scale)
            shift = graph.constant(f"{name}/shift", step.shift)
            inputs = [x, scale, shift]
            return graph.node("LayerNormalization", inputs, name, epsilon=step.epsilon)
        case Normalize():
            last = graph.constant("pool/last", np.array([-1], np.int64))
            length = graph.node("ReduceL2", [x, last], f"{name}/length", keepdims=1)
            divisor = graph.node("Max", [length, graph.number(_SHORTEST)], f"{name}/divisor")
            return graph.node("Div", [x, divisor], name)
        case Truncate():
            last = graph.constant("pool/last", np.array([-1], np.int64))
            end = graph.constant(f"{name}/end", np.array([step.width], np.int64))
            return graph.node("Slice", [x, "pool/0", end, last], name)


def _dense(graph: _Graph, x: str, step: Dense, name: str) -> str:
    y = graph.product(x, step.weight, f"{name}/product")
    if step.bias is not None:
        y = graph.node("Add", [y, graph.constant(f"{name}/bias", step.bias)], f"{name}/biased")
    y = _activated(graph, y, step.activation, name)
    if step.residual is None:
        return y
    kept = x
    if not isinstance(step.residual, str):
        kept = graph.product(x, step.residual, f"{name}/residual")
    return graph.node("Add", [y, kept], f"{name}/sum")


def _activated(graph: _Graph, x: str, activation: Activation, name: str) -> str:
    match activation:
        case "identity":
            return x
        case "tanh" | "relu" | "sigmoid":
            return graph.node(
                {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid"}[activation], [x], name
            )
        case "silu":
            return graph.node("Mul", [x, graph.node("Sigmoid", [x], f"{name}/sigmoid")], name)
        case "gelu":
            scaled = graph.node("Mul", [x, graph.number(0.5**0.5)], f"{name}/scaled")
            erf = graph.node("Erf", [scaled], f"{name}/erf")
            more = graph.node("Add", [erf, graph.number(1)], f"{name}/more")
            half = graph.node("Mul", [x, graph.number(0.5)], f"{name}/half")
            return graph.node("Mul", [half, more], name)
