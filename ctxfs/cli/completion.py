"""The command completion: scripts for the completion of commands and options in shells."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell

    \b
    bash: ctxfs completion bash > ~/.local/share/bash-completion/completions/ctxfs
    zsh:  ctxfs completion zsh > "${fpath[1]}/_ctxfs"
    fish: ctxfs completion fish > ~/.config/fish/completions/ctxfs.fish
    """
    from ctxfs.cli.main import cli

    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(cli, {}, "ctxfs", "_CTXFS_COMPLETE").source())
