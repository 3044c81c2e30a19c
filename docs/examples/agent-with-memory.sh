#!/bin/sh
# An agent with memory (the first exemplar of arXiv 2512.05470): what it hears is in its history and its memory, and each answer is made
# from a context of both that fits a budget, and is judged by its sources.
#
#   agent-with-memory.sh TREE MESSAGE     TREE: where the tree is mounted; $MODEL: a program that reads a prompt and answers
set -eu
tree=$1 message=$2
here=$(cd "$(dirname "$0")" && pwd)
model=${MODEL:-"$here/model.sh"}
name=${AGENT:-assistant}
session=${SESSION:-"$name-chat"}

say() { # role, text: to the history, which nobody can change
    printf '%s\n' "$2" | ctxfs record --session "$session" --kind "$1" --principal "agent:$name" >/dev/null
}

say input "$message"

# Construct: memory within a budget. The request is a file; so is the context.
task="$tree/context/$session"
[ -d "$task" ] || mkdir "$task"
{
    printf 'query = """%s"""\n' "$(printf '%s' "$message" | tr -d '"\\')"
    printf 'paths = ["memory"]\nbudget = 600\n'
} > "$task/request.toml"

# Load, and ask.
answer=$({ cat "$task/context.md"; printf '\n%s\n' "$message"; } | "$model")
printf '%s\n' "$answer"
say output "$answer"

# Evaluate: what the answer says is held against its sources.
printf '%s\n' "$answer" > "$task/response.md"

# Remember: what was told is a memory of its own, with where it came from.
case $message in
*'?') ;;
*)
    place="$tree/memory/$name/fact"
    mkdir -p "$place"
    file="$place/$(date +%s)-$$.md"
    printf '%s\n' "$message" > "$file"
    setfattr -n user.ctx.source -v "history/$session" "$file"
    ;;
esac
