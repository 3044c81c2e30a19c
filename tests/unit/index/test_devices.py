"""Test the choice between GPU and CPU with a stand-in for an ONNX Runtime that has CUDA."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ctxfs.index.engines.embedders import open_embedder
from ctxfs.model.errors import CommandError
from tests.unit.index.test_embedders import expected, make_model
from tests.unit.index.test_index import Index

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TEXTS = ["rotate keys", "deploy", "banana otter"]


@dataclass
class Cuda:
    """The state of the stand-in: whether loading or running fails, and the providers of each session."""

    load_error: str = ""
    run_error: str = ""
    is_loadable: bool = True
    asked: list[list[str]] = field(default_factory=list)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """Make ONNX Runtime list CUDA; its sessions compute on the CPU."""
    state, real = Cuda(), onnxruntime.InferenceSession

    class Session:
        def __init__(self, path: str, options: Any, providers: list[str]) -> None:
            state.asked.append(providers)
            if state.load_error and CUDA in providers:
                raise RuntimeError(state.load_error)
            self._providers = providers if state.is_loadable else [CPU]
            self._session = real(path, options, providers=[CPU])

        def get_providers(self) -> list[str]:
            return self._providers

        def run(self, names: list[str], inputs: dict[str, Any]) -> Any:
            if state.run_error and CUDA in self._providers:
                raise RuntimeError(state.run_error)
            return self._session.run(names, inputs)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    return state


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_model_runs_on_cuda_where_onnx_runtime_has_it(tmp_path: Path, cuda: Cuda, device: str) -> None:
    embedder = open_embedder(replace(make_model(tmp_path / "m"), device=device), 2)
    assert np.allclose(embedder.embed(TEXTS), expected(TEXTS), atol=1e-5)
    assert (embedder.device, cuda.asked) == ("cuda", [[CUDA, CPU]])


def test_model_stays_on_the_cpu_if_the_settings_demand_it(tmp_path: Path, cuda: Cuda) -> None:
    embedder = open_embedder(replace(make_model(tmp_path / "m"), device="cpu"), 2)
    assert (embedder.device, cuda.asked) == ("cpu", [[CPU]])


def test_wanted_cuda_that_onnx_runtime_lacks_is_a_remark(tmp_path: Path) -> None:
    devices = {
        name: open_embedder(replace(make_model(tmp_path / name), device=name), 2).device for name in ("auto", "cuda")
    }
    assert devices == {"auto": "cpu", "cuda": "cpu, because ONNX Runtime has no CUDA here"}


@pytest.mark.parametrize("device", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ({"load_error": "CUDA failure 35: driver\nis too old"}, "CUDA failed: CUDA failure 35: driver is too old"),
        ({"run_error": "CUBLAS_STATUS_ALLOC_FAILED"}, "CUDA failed: CUBLAS_STATUS_ALLOC_FAILED"),
        ({"run_error": "x" * 5000}, "CUDA failed: " + "x" * 159 + "…"),
        ({"is_loadable": False}, "the CUDA of ONNX Runtime cannot be loaded"),
    ],
    ids=["load", "run", "long", "libraries"],
)
def test_cpu_takes_over_from_a_gpu_that_fails(
    tmp_path: Path, cuda: Cuda, device: str, failure: dict[str, Any], reason: str
) -> None:
    vars(cuda).update(failure)
    embedder = open_embedder(replace(make_model(tmp_path / "m"), device=device), 2)
    for _ in range(2):
        assert np.allclose(embedder.embed(TEXTS), expected(TEXTS), atol=1e-5)
    assert embedder.device == f"cpu, because {reason}"
    assert len(cuda.asked) <= 2, "the CPU takes over once, not for each text"


def test_input_that_no_device_can_embed_does_not_cost_the_gpu(tmp_path: Path, cuda: Cuda) -> None:
    embedder = open_embedder(replace(make_model(tmp_path / "cut", rows=4), device="cuda"), 1)
    with pytest.raises(CommandError, match="cannot embed"):
        embedder.embed(["banana"])
    assert embedder.device == "cuda"


def test_status_shows_why_the_gpu_is_not_used(tmp_path: Path, corpus: Path, cuda: Cuda) -> None:
    cuda.run_error = "out of memory"
    index = Index(tmp_path / "index", corpus, model=Path(make_model(tmp_path / "m").folder))
    index.embed()
    state = index.searcher.state()
    index.close()
    assert state.device == "cpu, because CUDA failed: out of memory"
    assert state.counts is not None and state.vectors == state.counts.chunks
