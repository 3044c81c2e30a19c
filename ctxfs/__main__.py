"""The program `ctxfs`. Hooks of clients, help and searches take a way of their own, because their caller waits for them."""

import os
import sys

_HOOK = ["capture", "hook"]


def main() -> None:
    """Run a hook or a fast command, or import and run the command line."""
    words = sys.argv[1:]
    options = 2 if words[:1] == ["--store"] else int(words[:1] != [] and words[0].startswith("--store="))
    if words[options : options + 2] == _HOOK:
        from ctxfs.capture.hook import run_hook

        if not {"-h", "--help"}.intersection(words):
            code = run_hook(words)
            os._exit(code)  # nothing is buffered; the end of the interpreter takes milliseconds
    from ctxfs.cli.fast_start import run_fast

    fast_code = run_fast(words)
    if fast_code is not None:
        os._exit(fast_code)
    from ctxfs.cli.main import main as run_command

    run_command()


if __name__ == "__main__":
    main()
