"""`python -m ctxfs` is the command line."""

from ctxfs.cli.main import main

if __name__ == "__main__":
    main()
