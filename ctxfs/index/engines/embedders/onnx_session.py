"""A session of ONNX Runtime, on a GPU where one is usable and on the CPU otherwise. No other file runs ONNX models."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.path import one_line

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
_MAX_REASON_CHARS = 160


class OnnxSession:
    """A loaded model that runs one input at a time. Threads may share it.

    With the device "cuda", or "auto" where ONNX Runtime lists CUDA, it runs on the GPU.
    If the GPU cannot load the model, or fails in a run that the CPU can do, the CPU takes over for good.
    """

    def __init__(self, weights: HostPath, device: str) -> None:
        """Load the weights. `device` is "cpu", "cuda" or "auto". Exceptions of ONNX Runtime pass through."""
        import onnxruntime

        self._weights = weights
        self._lock = threading.Lock()  # protects the change from the GPU to the CPU
        self._reason = ""
        wants_cuda = device != "cpu"
        is_listed = CUDA_PROVIDER in onnxruntime.get_available_providers()
        self._session: Any = self._open_cuda() if wants_cuda and is_listed else None
        if self._session is None:
            self._session = self._open([CPU_PROVIDER])
        if device == "cuda" and not is_listed:
            self._reason = "ONNX Runtime has no CUDA here"

    @property
    def device(self) -> str:
        """The device: "cuda", "cpu", or "cpu, because …" if it was to be CUDA."""
        if CUDA_PROVIDER in self._session.get_providers():
            return "cuda"
        return f"cpu, because {self._reason}" if self._reason else "cpu"

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs of the model."""
        return [value.name for value in self._session.get_inputs()]

    @property
    def output(self) -> tuple[str, Sequence[object]]:
        """The name and the shape of the first output of the model."""
        value = self._session.get_outputs()[0]
        return value.name, value.shape

    def run(self, output_name: str, inputs: Mapping[str, Any]) -> Any:
        """Return an output of the model. Exceptions of ONNX Runtime pass through if the CPU raises them, too."""
        session = self._session
        try:
            return session.run([output_name], inputs)[0]
        except Exception as error:  # the library's own types: out of memory, a lost device, a kernel that is missing
            if CUDA_PROVIDER not in session.get_providers():
                raise
            return self._run_on_cpu(session, output_name, inputs, error)

    def _run_on_cpu(self, failed: Any, output_name: str, inputs: Mapping[str, Any], error: Exception) -> Any:
        with self._lock:  # the other threads find the new session
            session = self._open([CPU_PROVIDER]) if self._session is failed else self._session
            # Raises if the input is at fault, so that a bad input does not cost the GPU.
            output = session.run([output_name], inputs)[0]
            if self._session is failed:
                self._reason = _describe_failure(error)
                self._session = session
            return output

    def _open_cuda(self) -> Any:
        """Return a session on the GPU; None, with the reason, if it cannot be used."""
        try:
            session = self._open([CUDA_PROVIDER, CPU_PROVIDER])
        except Exception as error:  # the library's own types: no driver, another version of it
            self._reason = _describe_failure(error)
            return None
        if CUDA_PROVIDER not in session.get_providers():
            # ONNX Runtime has logged that its CUDA libraries cannot be loaded, and uses the CPU.
            self._reason = "the CUDA of ONNX Runtime cannot be loaded"
        return session

    def _open(self, providers: Sequence[str]) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # The arena never shrinks, so that it would hold the memory of the largest batch forever.
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self._weights), options, providers=list(providers))


def _describe_failure(error: Exception) -> str:
    text = one_line(" ".join(str(error).split())) or type(error).__name__
    return f"CUDA failed: {text if len(text) <= _MAX_REASON_CHARS else text[: _MAX_REASON_CHARS - 1] + '…'}"
