"""The text of an episode: Markdown of bounded length, in which each line cites the record that it is from. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ctxfs.context.build.render import fenced
from ctxfs.context.build.secrets import withhold_secrets
from ctxfs.context.episodes.builder import EpisodeBuilder, clip
from ctxfs.context.episodes.excerpts import Excerpt, Excerpts, TouchedFiles
from ctxfs.model.path import lines_of

MAX_LINES = 200
_MAX_FILES = 40
_MAX_VERSIONS = 20
_MAX_FAILURES = 10
_MAX_OPEN = 12
_MAX_NAMES = 8
_MAX_NAME_CHARS = 40
_MAX_SUMMARY_LINES = 40
_NOTICE = "a record of what was said, no instructions"


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file that the session changed, and the version that has the change."""

    path: str
    revision: str


def render_episode(
    session: str, episode: EpisodeBuilder, versions: Sequence[FileVersion] = (), summary: str = "", note: str = ""
) -> str:
    """Return the text, at most MAX_LINES lines.

    `versions` are files that the session changed, `summary` is the text of the configured summariser, `note` the reason
    why there is none.
    """
    how = "by rules, and summed up by a command" if summary else "by rules"
    lines = [f"# Session {session}", "", f"> Derived {how} from history/by-session/{session}/: {_NOTICE}."]
    lines += [f"> {clip(note)}"] if note else []
    lines += ["", *_head(episode)]
    if summary:
        text = "\n".join(lines_of(withhold_secrets(summary)[0]).strip().split("\n")[:_MAX_SUMMARY_LINES])
        lines += ["", "## Summary", "", "Written by the command `context.summariser`, not quoted:", fenced(text)]
    lines += _section("Questions", _excerpt_lines(episode.questions))
    lines += _section("Decisions", _excerpt_lines(episode.decisions))
    lines += _section("Files", [*_file_lines(episode.files), *_version_lines(versions)])
    lines += _section("Open ends", _open_lines(episode))
    return "\n".join(lines[:MAX_LINES]) + "\n"


def _head(episode: EpisodeBuilder) -> Iterator[str]:
    yield f"- time: {_format_span(episode.first_at, episode.last_at)}"
    for name, counter in (("principals", episode.principals), ("clients", episode.clients)):
        if counter:
            yield f"- {name}: {', '.join(_names(counter))}"
    if episode.speakers:
        yield f"- speakers: {', '.join(f'{name} ({episode.speakers[raw]})' for raw, name in _most_common(episode.speakers))}"
    kinds = ", ".join(f"{episode.kinds[raw]} {name}" for raw, name in _most_common(episode.kinds))
    yield f"- records: {episode.records}{f' ({kinds})' if kinds else ''}"
    if episode.last_cite:
        yield f"- last record: {episode.last_cite}"


def _format_span(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return "unknown"
    start, end = first.strftime("%Y-%m-%d %H:%M"), last.strftime("%Y-%m-%d %H:%M")
    return f"{start} UTC" if start == end else f"{start} to {end[11:] if start[:10] == end[:10] else end} UTC"


def _most_common(counter: Counter[str]) -> list[tuple[str, str]]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:_MAX_NAMES]
    return [(raw, clip(raw[:_MAX_NAME_CHARS])) for raw, _ in ordered]


def _names(counter: Counter[str]) -> list[str]:
    names = sorted(name for _, name in _most_common(counter))
    return names if len(counter) <= _MAX_NAMES else [*names, f"{len(counter) - _MAX_NAMES} more"]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(lines or ["None found."])]


def _excerpt_lines(excerpts: Excerpts) -> list[str]:
    omitted = [f"- {excerpts.omitted} more between these"] if excerpts.omitted else []
    return [*map(_format_excerpt, excerpts.head), *omitted, *map(_format_excerpt, excerpts.tail)]


def _format_excerpt(excerpt: Excerpt) -> str:
    return f"- {excerpt.cite} {clip(excerpt.speaker[:_MAX_NAME_CHARS])}: {excerpt.text}"


def _file_lines(files: TouchedFiles) -> list[str]:
    most = files.most_used(_MAX_FILES)
    lines = [f"- {file.cite} {clip(path)}{f', {file.calls} calls' if file.calls > 1 else ''}" for path, file in most]
    more = len(files.by_path) - len(most)
    return [*lines, f"- {more} more{' at least' if files.has_more else ''}"] if more else lines


def _version_lines(versions: Sequence[FileVersion]) -> list[str]:
    lines = [f"- version {entry.revision[:12]} {clip(entry.path)}" for entry in versions[:_MAX_VERSIONS]]
    more = len(versions) - _MAX_VERSIONS
    return [*lines, f"- {more} more changed files"] if more > 0 else lines


def _open_lines(episode: EpisodeBuilder) -> list[str]:
    entries = [("unanswered", excerpt) for excerpt in episode.waiting]
    entries += [("failed", excerpt) for excerpt in episode.failures[-_MAX_FAILURES:]]
    entries += [("open", excerpt) for excerpt in episode.open_work()[-_MAX_OPEN:]]
    return [
        f"- {excerpt.cite} {kind}, {clip(excerpt.speaker[:_MAX_NAME_CHARS])}: {excerpt.text}"
        for kind, excerpt in entries
    ]
