"""Benchmarks of memory: `python -m benchmarks.memory SUBCOMMAND [options]`; each is a module `benchmarks/memory_*.py`."""

import importlib
import sys

SUBCOMMANDS = {
    "bundles": "memory_bundles",
    "confidence": "memory_confidence",
    "conflicts": "memory_conflicts",
    "consolidate": "memory_consolidation",
    "frozen": "memory_frozen",
    "holds": "memory_holds",
    "poisoning": "memory_poisoning",
    "use": "memory_use",
}


def main() -> None:
    """Run the subcommand that the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in SUBCOMMANDS:
        sys.exit(f"usage: python -m benchmarks.memory {'|'.join(SUBCOMMANDS)} [options]")
    sys.argv[:2] = [f"benchmarks.memory {name}"]
    importlib.import_module(f"benchmarks.{SUBCOMMANDS[name]}").main()


if __name__ == "__main__":
    main()
