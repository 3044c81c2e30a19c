"""The command line, as `python -m ctxfs`."""

from ctxfs.cli.main import main

if __name__ == "__main__":
    main()
