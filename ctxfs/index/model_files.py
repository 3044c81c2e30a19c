"""Where the embedding model is kept. Cheap to import; making it is the business of `model_build`."""

import os
from pathlib import Path as HostPath

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384


def default_model_folder() -> HostPath:
    """Where models are kept for this user: $XDG_DATA_HOME/ctxfs/models."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return HostPath(data) / "ctxfs" / "models" / MODEL_NAME


def is_installed(folder: HostPath) -> bool:
    """True when the folder holds a complete model."""
    return (folder / "model.json").is_file() and (folder / "model.onnx").is_file()
