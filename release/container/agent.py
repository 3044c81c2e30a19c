"""A stand-in for an agent in a container: it keeps a note and searches, with its token, over HTTP.

The settings are in the environment: CTXFS_URL, CTXFS_TOKEN_FILE, NOTE (a path of the tree) and QUESTION. Only the standard
library is used, and no part of ctxfs.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path


def send(url: str, token: str, method: str, path: str, body: bytes) -> bytes:
    """Return the body of a response; end the process with the error of a refused request."""
    request = urllib.request.Request(f"{url}{path}", body, {"Authorization": f"Bearer {token}"}, method=method)  # noqa: S310 - the URL is a setting
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            content: bytes = response.read()
            return content
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {path}: {error.read().decode(errors='replace')}")


def main() -> None:
    """Write the note, search, and print what was found."""
    url, token = os.environ["CTXFS_URL"], Path(os.environ["CTXFS_TOKEN_FILE"]).read_text().strip()
    note, question = os.environ["NOTE"], os.environ["QUESTION"]
    send(url, token, "PUT", f"/files/{note}", f"# Seen\n\n{question}\n".encode())
    answer = json.loads(send(url, token, "POST", "/api/search", json.dumps({"question": question}).encode()))["result"]
    print(f"{note} is written; {answer['answer']['verdict']}:")
    for hit in answer["hits"]:
        print(f"  {hit['path']}:{hit['first']}")


if __name__ == "__main__":
    main()
