"""The table of commands: their modules and summaries, so that neither help nor completion imports a command."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping


class Entry:
    """A command: its module in `ctxfs.cli`, with `:function` where that has another name, and the summary of its help."""

    __slots__ = ("module", "summary")

    def __init__(self, module: str, summary: str) -> None:
        self.module = module
        self.summary = summary


GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "Set up": {
        "init": Entry("stores", "Create or complete a store"),
        "trust": Entry("stores", "Confirm a store from elsewhere"),
        "add": Entry("stores", "Add a folder as knowledge/NAME"),
        "remove": Entry("stores", "Remove a folder from the tree"),
        "mount": Entry("mounts", "Mount the tree at a directory"),
        "unmount": Entry("mounts", "Unmount a directory"),
        "service": Entry("service", "Manage mounts at login or at boot"),
        "model": Entry("models", "Manage the embedding model"),
        "completion": Entry("completion", "Print the completion script of a shell"),
    },
    "Look": {
        "status": Entry("status", "Show mounts, index, versions and faults"),
        "top": Entry("top", "Show agents, sources and waiting work, live"),
        "doctor": Entry("doctor", "Check all that ctxfs needs"),
        "ls": Entry("files", "List a directory of the tree"),
        "cat": Entry("files", "Print files of the tree"),
        "tree": Entry("files", "Show a directory and all below it"),
        "meta": Entry("meta", "Manage attributes of files (user.ctx.*)"),
        "web": Entry("web", "Show the store in a browser"),
        "version": Entry("status", "Print the version"),
    },
    "Ask": {
        "search": Entry("search", "Search the tree"),
        "grep": Entry("grep", "Print lines that match a regular expression"),
        "skills": Entry("skills", "List skills, or print one"),
        "reindex": Entry("stores", "Bring the index up to date"),
        "gold": Entry("evaluation", "Add an answer for ctxfs eval"),
        "eval": Entry("evaluation:evaluate", "Measure search against known answers"),
    },
    "Contexts": {
        "context": Entry("contexts", "Manage contexts"),
        "fit": Entry("search", "Cut a text to a token budget"),
        "tokens": Entry("search", "Count tokens"),
        "review": Entry("review", "Decide doubtful claims and proposals"),
    },
    "Memory and versions": {
        "memories": Entry("memory_table", "List memories by agent and kind"),
        "edit": Entry("files", "Edit a file of the tree in $EDITOR"),
        "state": Entry("states", "Show or change the state of a memory"),
        "check": Entry("citations", "Check facts against the lines they cite"),
        "cite": Entry("citations", "Cite lines of sources as evidence of a file"),
        "consolidate": Entry("consolidate", "Propose merges and archiving of memories"),
        "promote": Entry("memories", "Move a note to memory"),
        "correct": Entry("memories", "Correct a line of memory or of a source"),
        "log": Entry("versions", "List the versions of a path"),
        "show": Entry("versions", "Print a file from a version"),
        "diff": Entry("versions", "Compare two versions of a path"),
        "blame": Entry("versions", "Show the author and version of each line"),
        "restore": Entry("versions", "Restore a path from a version"),
        "undo": Entry("versions", "Undo the newest change of a path"),
        "redo": Entry("versions", "Redo the last undo of a path"),
        "snapshot": Entry("versions", "Name the present version"),
        "branch": Entry("branches", "Manage branches of memory and pads"),
        "commit": Entry("versions", "Make versions of all changes now"),
        "forget": Entry("versions", "Erase content from all versions"),
        "export": Entry("bundles:export_bundle", "Export a part of the tree as a bundle"),
        "impact": Entry("impact", "List all that was built on a file"),
        "okf": Entry("okf", "Manage knowledge in the Open Knowledge Format"),
        "gc": Entry("versions", "Compress the repository"),
    },
    "Agents and permissions": {
        "policy": Entry("policy", "Manage permissions and their rules"),
        "token": Entry("credentials", "Manage access tokens of agents"),
        "record": Entry("history", "Add a record to the history"),
        "import": Entry("imports:import_transcripts", "Import transcripts, or a bundle"),
        "history": Entry("history", "Manage the event log and the audit"),
        "capture": Entry("capture", "Manage hooks that record clients"),
        "mcp": Entry("mcp", "Serve the tree to MCP clients"),
        "serve": Entry("serve", "Serve the store to programs over HTTP"),
    },
    "Tools": {
        "tools": Entry("tools", "Manage tools and MCP servers"),
        "calls": Entry("tools", "Manage recorded calls of tools"),
        "mcp-call": Entry("mcp:mcp_call", "Call a tool of another MCP server"),
    },
    "Machines": {
        "share": Entry("shared", "Share the store with other machines"),
        "join": Entry("shared", "Join a shared store"),
        "leave": Entry("shared", "Leave the shared store"),
        "sync": Entry("shared", "Exchange versions with the shared store now"),
        "remote": Entry("remotes", "Manage remotes"),
    },
}
HIDDEN: Mapping[str, Entry] = {"daemon": Entry("mounts", "")}
COMMANDS: Mapping[str, Entry] = {name: entry for group in (*GROUPS.values(), HIDDEN) for name, entry in group.items()}
