"""Retrieval in long dialogues: LoCoMo (Maharana et al. 2024).

`python -m benchmarks.locomo --data DIR [--one] [--repaired] [--fit] [--form lines|wrapped|markdown|records|history]`

DIR contains locomo10.json and, for --repaired, errors.json (corrected citations). Each session of a conversation
becomes a text file, one turn a line under its date, in a folder that is added as a source. Questions of categories 1 to 4 run through
the same session as `ctxfs search` and `ctxfs context`. One store for each conversation, or one for all with --one.
--form: other forms of the same turns: several lines each, `**Name:**` in Markdown, JSON lines, or records of the event
log, each session of the conversation as a session of the log.

The weights of dialogues were fitted (--fit) on the conversations with an even position, so `odd` is the unseen half.
Tokens are WordPiece (the embedding model's tokenizer.json), including headers and citations.
"""

import argparse
import json
import re
import tempfile
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import make_store, reindex, show
from ctxfs.cli.evaluation import BUDGETS, measure
from ctxfs.context.retrieval_metrics import Gold, parse_line_range
from ctxfs.daemon.session import LocalSession
from ctxfs.eventlog.log import EventLog
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.store.layout import Layout, find_store

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop"}
FORMS = {"lines": "txt", "wrapped": "txt", "markdown": "md", "records": "jsonl"}  # form → suffix of its files
_WRAPPED_COLUMNS = 60
_CITATION = re.compile(r"D:?(\d+):0*(\d+)")


def format_turn(form: str, speaker: str, date: str, text: str) -> list[str]:
    """Return the lines of a turn in a form."""
    match form:
        case "wrapped":
            return textwrap.wrap(f"{speaker}: {text}", _WRAPPED_COLUMNS)
        case "markdown":
            return [f"**{speaker}:**", *textwrap.wrap(text, _WRAPPED_COLUMNS), ""]
        case "records":
            return [json.dumps({"speaker": speaker, "date": date, "text": text})]
        case _:
            return [f"{speaker}: {text}"]


def write_conversation(sample: dict[str, Any], folder: Path, form: str = "lines") -> dict[str, str]:
    """Write the sessions as files in a form; return turn id → path:first-last below `folder`."""
    conversation, places = sample["conversation"], {}
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 100):
        turns = conversation.get(f"session_{number}")
        if not turns:
            continue
        date, name = conversation[f"session_{number}_date_time"], f"session-{number:02}.{FORMS[form]}"
        lines = [] if form == "records" else [date, ""]
        for turn in turns:
            shared = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            first = len(lines) + 1
            lines += format_turn(form, turn["speaker"], date, f"{' '.join(turn['text'].split())}{shared}")
            places[turn["dia_id"]] = f"{name}:{first}-{len(lines) - (not lines[-1])}"
        (folder / name).write_text("\n".join(lines) + "\n")
    return places


def append_conversation(sample: dict[str, Any], log: EventLog, prefix: str = "session") -> dict[str, str]:
    """Append the sessions to an event log, named as the files are; return turn id → path:line below `history`."""
    conversation, places = sample["conversation"], {}
    days = {session: day for day in log.days() for session in log.sessions(day)}
    for number in range(1, 100):
        turns = conversation.get(f"session_{number}")
        if not turns:
            continue
        said_at = datetime.strptime(conversation[f"session_{number}_date_time"], "%I:%M %p on %d %B, %Y")
        session, records = f"{prefix}-{number:02}", []
        for line, turn in enumerate(turns, 1):
            shared = f" [shares {turn['blip_caption']}]" if turn.get("blip_caption") else ""
            text = f"{' '.join(turn['text'].split())}{shared}"
            records.append({"kind": "note", "speaker": turn["speaker"], "text": text, "said_at": said_at.isoformat()})
            day = days.get(session, datetime.now(UTC).date().isoformat())
            places[turn["dia_id"]] = f"{day}/{session}.jsonl:{line}"
        if session not in days:
            log.append(session, records)
    return places


def questions_of(
    sample: dict[str, Any], index: int, places: dict[str, str], source: str, errors: dict[str, Any]
) -> list[Gold]:
    """Return questions of categories 1 to 4 with existing cited turns, as published or with corrected citations."""
    return [gold for _, gold in numbered_questions_of(sample, index, places, source, errors)]


def numbered_questions_of(
    sample: dict[str, Any], index: int, places: dict[str, str], source: str, errors: dict[str, Any]
) -> Iterator[tuple[int, Gold]]:
    """Yield the questions of `questions_of` with their positions in the list `qa` of the conversation."""
    for number, question in enumerate(sample["qa"]):
        cited = [f"D{a}:{b}" for text in question["evidence"] for a, b in _CITATION.findall(text)]
        corrected = errors.get(f"locomo_{index}_qa{number}", {}).get("correct_evidence") or ()
        evidence = [turn for turn in corrected if turn in places] or [turn for turn in cited if turn in places]
        if question["category"] in CATEGORIES and evidence:
            relevant = tuple(parse_line_range(f"{source}/{places[turn]}") for turn in dict.fromkeys(evidence))
            yield number, Gold(question["question"], relevant, CATEGORIES[question["category"]], source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--form", choices=[*FORMS, "history"], default="lines")
    parser.add_argument("--conversations", type=int, help="only so many of them")
    parser.add_argument("--one", action="store_true", help="one index over all conversations")
    parser.add_argument("--repaired", action="store_true", help="citations as errors.json corrects them")
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use those that are there")
    parser.add_argument("--fit", action="store_true", help="fit the weights of dialogues and print them")
    parser.add_argument("--budget", type=int, action="append", help="tokens of a context; 0: only search")
    arguments = parser.parse_args()
    samples = json.loads((arguments.data / "locomo10.json").read_text())[: arguments.conversations]
    errors: dict[str, Any] = {}
    if arguments.repaired:
        errors = {item["question_id"]: item for item in json.loads((arguments.data / "errors.json").read_text())}
    with tempfile.TemporaryDirectory(prefix="ctxfs-locomo-") as scratch:
        root = arguments.keep or Path(scratch)
        sources: dict[str, Path | None] = {}
        gold: list[list[Gold]] = []
        for index, sample in enumerate(samples):
            name = sample["sample_id"]
            if arguments.form == "history":
                store = make_store(root / ("one" if arguments.one else name), {})
                log = EventLog(Layout(store).history)
                places = append_conversation(sample, log, name if arguments.one else "session")
                gold.append(questions_of(sample, index, places, "history", errors))
                sources[name] = None
                continue
            places = write_conversation(sample, root / "corpus" / name, arguments.form)
            sources[name] = root / "corpus" / name
            gold.append(questions_of(sample, index, places, f"knowledge/{name}", errors))
        folders = {name: folder for name, folder in sources.items() if folder is not None}
        names = ["one"] if arguments.one else sources
        groups = [
            (root / name, folders if arguments.one else {name: folders[name]} if name in folders else {})
            for name in names
        ]
        if arguments.form == "history":
            for name in names:
                reindex(root / name / "store")
        sessions = [LocalSession(find_store(str(make_store(folder, folders)))) for folder, folders in groups]
        if arguments.one:
            # Over all conversations, without a hint which one is meant.
            sessions *= len(samples)
            gold = [[Gold(g.question, g.relevant, g.category) for g in group] for group in gold]
        if arguments.fit:
            from benchmarks.fitting import fit_dialogue

            fit_dialogue([(session.app.searcher, group) for session, group in zip(sessions, gold, strict=True)])
            return
        tokenizer = str(default_model_folder() / "tokenizer.json")
        budgets = tuple(filter(None, arguments.budget or BUDGETS))
        outcomes = [measure(s, group, budgets, tokenizer)[0] for s, group in zip(sessions, gold, strict=True)]
        all_outcomes = [outcome for group in outcomes for outcome in group]
        show("all", all_outcomes)
        show("even (fitted)", [outcome for group in outcomes[0::2] for outcome in group])
        show("odd (unseen)", [outcome for group in outcomes[1::2] for outcome in group])
        for category in CATEGORIES.values():
            show(category, [outcome for outcome in all_outcomes if outcome.gold.category == category])


if __name__ == "__main__":
    main()
