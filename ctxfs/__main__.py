"""The program `ctxfs`. Hooks of clients take a way of their own, because the client waits for them."""

import sys

_HOOK = ["capture", "hook"]


def main() -> None:
    """Run a hook, or import and run the command line."""
    words = sys.argv[1:]
    if words[:2] == _HOOK or (words[:1] == ["--store"] and words[2:4] == _HOOK):
        from ctxfs.capture.hook import run_hook

        if not {"-h", "--help"}.intersection(words):
            sys.exit(run_hook(words))
    from ctxfs.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
