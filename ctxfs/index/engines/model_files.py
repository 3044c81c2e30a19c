"""The files of the embedding model. Cheap to import; `model_build` creates the model."""

import os
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError
from ctxfs.store.user_folders import data_folder

MODEL_NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384


def default_model_folder() -> HostPath:
    """Return the user's folder for the default model: $XDG_DATA_HOME/ctxfs/models/NAME.

    Without a home folder it is a path at which nothing can be.
    """
    try:
        data = data_folder()
    except CommandError:
        data = os.devnull
    return HostPath(data) / "ctxfs" / "models" / MODEL_NAME


def weights_of(folder: HostPath) -> HostPath | None:
    """Return the weights file of the model in a folder, at either path that exporters use; None if it is incomplete."""
    candidates = (file for file in (folder / "model.onnx", folder / "onnx" / "model.onnx") if file.is_file())
    return next(candidates, None) if (folder / "tokenizer.json").is_file() else None


def is_installed(folder: HostPath) -> bool:
    """Return True if the folder contains a model."""
    return weights_of(folder) is not None
