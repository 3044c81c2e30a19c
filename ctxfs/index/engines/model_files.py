"""Where the embedding model is kept. Cheap to import; making it is the business of `model_build`."""

import os
from pathlib import Path as HostPath

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384


def default_model_folder() -> HostPath:
    """Where models are kept for this user: $XDG_DATA_HOME/ctxfs/models."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return HostPath(data) / "ctxfs" / "models" / MODEL_NAME


def weights_of(folder: HostPath) -> HostPath | None:
    """The weights of the model in a folder, where exporters put them; None if there is no complete model."""
    found = (file for file in (folder / "model.onnx", folder / "onnx" / "model.onnx") if file.is_file())
    return next(found, None) if (folder / "tokenizer.json").is_file() else None


def is_installed(folder: HostPath) -> bool:
    """True when the folder holds a model."""
    return weights_of(folder) is not None
