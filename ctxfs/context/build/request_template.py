"""The text of a new request.toml. Pure."""

from ctxfs.model.toml import quote_toml


def default_request(query: str, budget: int) -> str:
    """Return the text of a new request.toml."""
    return (
        f"query = {quote_toml(query)}\n"
        f"budget = {budget}              # tokens; a ceiling for the whole of the context\n"
        '# query = ["one", "another"] # several questions; what answers any of them\n'
        '# tokenizer = "bound"        # built-in upper bound, a tokenizer.json, or cl100k_base and the like of tiktoken\n'
        "# paths = []                 # look only below these directories\n"
        "# kinds = []                 # only these kinds: markdown, code, dialogue, fact …\n"
        '# states = ["archived"]      # memories in these states instead of all but archived and merged ones\n'
        '# pins = []                  # always in, first: "memory/shared/x.md" or "knowledge/a/b.py:10-40"\n'
        "# recent = 0                 # the newest files too, so many, whatever they say\n"
        '# fresh = "30d"              # nothing older\n'
        '# as_of = "2026-11-01"       # memory and pads as they were then\n'
        "# min_score = 0.1            # nothing that answers with a smaller probability (p of ctxfs search --json)\n"
        "# fill = false               # true: use the whole budget, also for what does not seem to answer\n"
        '# format = "markdown"        # markdown, xml, json, messages\n'
        '# order = "rank"             # rank, edges (the best first and last), time\n'
        "# compress = false           # of long texts only the sentences that answer\n"
        "# summarise = false          # what did not fit, in short, by the command in ctxfs.toml\n"
        "# keep = false               # write what a response says, and the sources hold up, to memory/shared/fact/\n"
        "# piece = 1000               # tokens in a piece of `stream`\n"
        '# untrusted = "mark"         # what came from tools and servers: mark, drop, keep (without a mark)\n'
        '# stale = "mark"             # facts whose cited lines have changed or are gone: mark, drop, keep (without a mark)\n'
        '# when = "2026-03"           # only files valid then: a year, month, day or range, or "now"\n'
        "# secrets = false            # leave keys, tokens and passwords in; else they are withheld\n"
        '# [quota]                    # at most, by kind: dialogue = 1000, code = "30%"\n'
        "# [reserve]                  # at least, by kind, if there is so much: fact = 500\n"
    )
