#!/bin/sh
# A stand-in for a model, so that the examples run anywhere: a context and a message on stdin, an answer on stdout.
# Exchange it for yours; the examples only need a program.
#
# It repeats what the context says of the message's last line. `USE <tool> {arguments}` asks for a tool, as models do.
set -eu
said=$(cat)
message=$(printf '%s\n' "$said" | grep -v '^[[:space:]]*$' | tail -n 1)
case $message in
*'what changed'*) # an assistant that has tools asks for one before it answers
    if printf '%s\n' "$said" | grep -q '^RESULT'; then
        printf 'The last change was: %s\n' "$(printf '%s\n' "$said" | sed -n '/^RESULT/,$p' | grep -m1 -i 'message' | sed 's/^[^:]*: *//')"
    else
        printf 'USE %s/git_log {"repo_path": "%s", "max_count": 1}\n' "${SERVER:-git}" "${REPO:-.}"
    fi
    ;;
*'?')
    word=$(printf '%s\n' "$message" | tr -cs 'A-Za-z\n' ' ' | tr ' ' '\n' | awk 'length > length(best) { best = $0 } END { print best }')
    found=$(printf '%s\n' "$said" | sed '$d' | grep -v '^#' | grep -v '?$' | grep -i -m1 "$word" || true)
    printf '%s\n' "${found:-I do not know.}"
    ;;
*)
    printf 'Noted: %s\n' "$message"
    ;;
esac
