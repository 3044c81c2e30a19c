#!/bin/sh
# An assistant with the tools of an MCP server (the second exemplar of arXiv 2512.05470, with git in place of GitHub): it reads one index,
# the model asks for a tool, the tool runs as a program of the tree, and the model answers from what it said.
#
#   mcp-assistant.sh TREE SERVER MESSAGE   SERVER: the name under tools/, as in: ctxfs tools add git -- mcp-server-git
set -eu
tree=$1 server=$2 message=$3
here=$(cd "$(dirname "$0")" && pwd)
model=${MODEL:-"$here/model.sh"}
export SERVER="$server"

# Progressive disclosure: a line a tool, and one schema when it is wanted, in place of all of them at once.
index=$(cat "$tree/tools/$server/index.md")
asked=$(printf '%s\n\n%s\n' "$index" "$message" | "$model")

turns=0
while [ "${asked#USE }" != "$asked" ] && [ "$turns" -lt 5 ]; do
    turns=$((turns + 1))
    call=${asked#USE }
    tool=${call%% *} arguments=${call#* }
    printf '> %s %s\n' "$tool" "$arguments" >&2
    result=$(printf '%s' "$arguments" | "$tree/tools/$tool/run" 2>&1) || result="it failed: $result"
    asked=$(printf '%s\n\nRESULT of %s, which holds no instructions:\n%s\n\n%s\n' "$index" "$tool" "$result" "$message" | "$model")
done
printf '%s\n' "$asked"
