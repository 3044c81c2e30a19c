"""The settings of a store as plain values, with their defaults. `config` reads them from `ctxfs.toml`."""

from dataclasses import dataclass, field

DEFAULT_MAX_FILE_BYTES = 4_000_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """A host folder shown as knowledge/<name>.

    `exclude` are .gitignore patterns of files that are shown but not indexed, `include` of files that are no noise.
    `tools`: tools in its folder tools/ are offered, too.
    """

    name: str
    path: str
    writable: bool = False
    exclude: tuple[str, ...] = ()
    tools: bool = False
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerSource:
    """An MCP server: a program, or a URL.

    `env` are the names of the variables that the program receives, `token_env` is the name of the variable with the
    token for the URL. `searchable`: its documents are indexed.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: tuple[str, ...] = ()
    token_env: str = ""
    searchable: bool = False


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """Settings of the results of a semantic path."""

    results: int = field(default=20, metadata={"doc": "hits that a question lists"})
    budget: int = field(default=4000, metadata={"doc": "tokens in a question's context.md"})


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """Defaults of a context request."""

    budget: int = field(default=8000, metadata={"doc": "tokens, for a request that names none"})
    summariser: str = field(default="", metadata={"doc": "command that sums up what did not fit: JSON in, text out"})
    expire_days: int = field(
        default=7, metadata={"doc": "days unused, after which contexts of MCP calls are removed; 0: never"}
    )
    judge: str = field(default="", metadata={"doc": "command that judges the claims of a response: JSON in and out"})
    max_share_per_origin: float = field(
        default=0.5, metadata={"doc": "share of a context's budget that files with one user.ctx.source may use; 1: all"}
    )


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Settings of the index and its embedding model."""

    meaning: bool = field(default=True, metadata={"doc": "embed chunks, so that meaning is searched, not only words"})
    model: str = field(default="", metadata={"doc": "folder of the embedding model; empty: the user's data folder"})
    threads: int = field(default=2, metadata={"doc": "threads that the embedder may use"})
    device: str = field(default="auto", metadata={"doc": "where the indexer embeds: cpu, cuda, or auto"})
    max_file_bytes: int = field(
        default=4_000_000, metadata={"doc": "of larger texts the head is searched, other files are listed only"}
    )
    include: tuple[str, ...] = field(
        default=(), metadata={"doc": ".gitignore patterns of files that are no noise, in memory and pads"}
    )
    question_seconds: float = field(
        default=0.06, metadata={"doc": "time in which a question may embed passages that wait"}
    )
    exact_below: int = field(default=20_000, metadata={"doc": "vectors searched exactly; above, by an HNSW graph"})


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """A server that computes embeddings instead of a local model; never the default, because it receives the texts."""

    url: str = field(default="", metadata={"doc": "an OpenAI-compatible API that embeds, as https://host/v1"})
    model: str = field(default="", metadata={"doc": "the model's name there"})
    key_env: str = field(default="OPENAI_API_KEY", metadata={"doc": "environment variable that holds its key"})


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Settings of a mount point."""

    allow_other: bool = field(default=False, metadata={"doc": "let root of this machine in, and allow_users"})
    allow_users: tuple[str | int, ...] = field(
        default=(), metadata={"doc": 'other users that are let in, by name or number; "*": everyone'}
    )
    loop: str = field(
        default="direct",
        metadata={"doc": "how requests are served: direct (fast), or trio (by pyfuse3)"},
    )
    cache_seconds: float = field(default=3600.0, metadata={"doc": "how long the kernel may keep names and attributes"})


@dataclass(frozen=True, slots=True)
class VersionSettings:
    """Settings of the versions of memory, pads and requests."""

    window_ms: int = field(default=150, metadata={"doc": "changes within this time share a version"})
    large_bytes: int = field(default=1_000_000, metadata={"doc": "larger files are kept beside git, by their sha256"})
    max_file_bytes: int = field(
        default=DEFAULT_MAX_FILE_BYTES, metadata={"doc": "larger files have no versions; status names them"}
    )
    upkeep: bool = field(default=True, metadata={"doc": "pack the repository in the background"})


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """Permissions of tools."""

    walls: bool = field(default=True, metadata={"doc": "shut tools in, where bubblewrap is installed"})
    searchable: bool = field(default=False, metadata={"doc": "index what calls have said, for who may see everything"})
    fetch_hosts: str = field(
        default="", metadata={"doc": "hosts that `fetch` may ask, with spaces between; empty: it is off"}
    )


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """Settings of the event log and the audit."""

    audit: bool = field(
        default=True, metadata={"doc": "keep who read, wrote, moved, deleted, asked what: history/audit"}
    )
    audit_reads: bool = field(
        default=True,
        metadata={"doc": "keep who read what, too; without it a read-only mount reads again at the kernel's speed"},
    )
    key_file: str = field(
        default="", metadata={"doc": "file with a key, outside the store, that seals where the chains stand"}
    )
    pack_after_days: int = field(default=30, metadata={"doc": "older days are compressed; they read as before"})
    searchable: bool = field(default=True, metadata={"doc": "search the records of sessions"})


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """Settings of episodes (docs/history.md) and of consolidation (docs/memory.md)."""

    episodes: bool = field(
        default=False, metadata={"doc": "write an episode of each session that ends to memory/<agent>/episodic/"}
    )
    episode_after_minutes: int = field(
        default=30, metadata={"doc": "minutes without a record, after which a session has ended"}
    )
    consolidate_hours: int = field(
        default=0, metadata={"doc": "hours between runs of ctxfs consolidate by the daemon; 0: never"}
    )
    consolidator: str = field(
        default="", metadata={"doc": "command that proposes changes of memories: JSON in and out"}
    )
    consolidator_online: bool = field(default=False, metadata={"doc": "give that command the network"})
    unused_days: int = field(
        default=365,
        metadata={"doc": "days without use, after which consolidate proposes to archive a memory; 0: never"},
    )
    summarise: bool = field(
        default=False, metadata={"doc": "sum ended sessions up by context.summariser, besides the rules"}
    )


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """The membership in a shared store (docs/shared.md), as `ctxfs share` and `ctxfs join` set it."""

    url: str = field(
        default="", metadata={"doc": "engine of a shared store: postgresql://…, s3://… or file:///…; empty: none"}
    )
    store: str = field(default="main", metadata={"doc": "name of the shared store there"})
    node: str = field(default="", metadata={"doc": "name of this node; empty: that of this machine"})
    password_env: str = field(default="", metadata={"doc": "environment variable that holds the engine's password"})
    index: str = field(default="fetch", metadata={"doc": "fetch the vectors of other nodes, or build them all"})
    durable: str = field(
        default="local", metadata={"doc": "local, or engine: fsync waits for the engine, and fails without it"}
    )
    read_only: bool = field(default=False, metadata={"doc": "follow the shared store, publish nothing, refuse writes"})
    grace_seconds: int = field(
        default=0, metadata={"doc": "serve people only after so long without the engine; 0: agents, too"}
    )
    at: int = field(default=0, metadata={"doc": "newest entry that a read-only node follows; 0: all"})


@dataclass(frozen=True, slots=True)
class MountProvider:
    """A mount of an installed package at knowledge/<name>: the entry point `kind` of `ctxfs.mounts`, and its options."""

    name: str
    kind: str
    options: tuple[tuple[str, str | int | float | bool], ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A remote, which `ctxfs remote add` has added. With `auto` the daemon pushes to it and pulls from it."""

    name: str
    auto: bool = False
    seconds: int = 60
    """The time between pulls; new versions are pushed at once."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of ctxfs.toml."""

    search: SearchSettings = SearchSettings()
    context: ContextSettings = ContextSettings()
    index: IndexSettings = IndexSettings()
    endpoint: EndpointSettings = EndpointSettings()
    mount: MountSettings = MountSettings()
    versions: VersionSettings = VersionSettings()
    history: HistorySettings = HistorySettings()
    memory: MemorySettings = MemorySettings()
    tools: ToolSettings = ToolSettings()
    shared: SharedSettings = SharedSettings()
    sources: tuple[Source, ...] = ()
    servers: tuple[ServerSource, ...] = ()
    providers: tuple[MountProvider, ...] = ()
    remotes: tuple[RemoteSettings, ...] = ()
