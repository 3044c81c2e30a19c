"""The files of the embedding model. Cheap to import; `model_build` creates the model."""

import os
from pathlib import Path as HostPath

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384


def default_model_folder() -> HostPath:
    """Return the user's folder for the default model: $XDG_DATA_HOME/ctxfs/models/NAME."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return HostPath(data) / "ctxfs" / "models" / MODEL_NAME


def weights_of(folder: HostPath) -> HostPath | None:
    """Return the weights file of the model in a folder, at either path that exporters use; None if it is incomplete."""
    candidates = (file for file in (folder / "model.onnx", folder / "onnx" / "model.onnx") if file.is_file())
    return next(candidates, None) if (folder / "tokenizer.json").is_file() else None


def is_installed(folder: HostPath) -> bool:
    """Return True if the folder contains a model."""
    return weights_of(folder) is not None
