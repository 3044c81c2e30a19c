"""The program `ctxfs`. Hooks of clients take a way of their own, because the client waits for them."""

import os
import sys

_HOOK = ["capture", "hook"]


def main() -> None:
    """Run a hook, or import and run the command line."""
    words = sys.argv[1:]
    options = 2 if words[:1] == ["--store"] else int(words[:1] != [] and words[0].startswith("--store="))
    if words[options : options + 2] == _HOOK:
        from ctxfs.capture.hook import run_hook

        if not {"-h", "--help"}.intersection(words):
            code = run_hook(words)
            os._exit(code)  # nothing is buffered; the end of the interpreter takes milliseconds
    from ctxfs.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
