"""Take the pictures of the page from a real store in Chromium: `make pictures`, or `python docs/pictures.py [--out DIR]`.

It makes a store with a handbook and the memories of two agents, opens `ctxfs web` and writes a PNG a screen to
`docs/pictures`. Times, versions and random names are replaced by fixed ones before a picture is taken.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from session import demo_store

OUT = Path(__file__).with_name("pictures")
CHROMIUM = Path("/usr/bin/chromium")
WIDTH = 1000
HANDBOOK = {
    "keys.md": "# Keys\n\n## Rotation\n\nSigning keys rotate every ninety days. Ada starts it; the old key stays valid a week.\n\n"
    "## Storage\n\nPrivate keys are in the vault. Two maintainers unlock it together.\n\n"
    "## Loss\n\nA lost key is revoked within an hour, and the incident owner tells all teams.\n",
    "releases.md": "# Releases\n\nTwo maintainers approve a release. The build is signed with the current signing key.\n\n"
    "A release that is signed with an old key is built again after a rotation.\n",
    "incidents.md": "# Incidents\n\nAn open incident has one owner, who writes the summary within two days.\n",
    "access.md": "# Access\n\nTokens of services expire after 30 days. A service asks for a new one a day before.\n",
    "backup.md": "# Backups\n\nBackups run each night and are kept for 90 days. A restore is tried each month.\n",
}
QUESTION = "how often do signing keys rotate"
AGENTS = {
    "alice": {
        "fact/rotation.md": "Signing keys rotate every 90 days.",
        "fact/vault.md": "Two maintainers unlock the vault together.",
        "procedural/rotate.md": "1. Tell Ada.\n2. Make the new key.\n3. Keep the old key for a week.",
        "episodic/2026-03-02.md": "Rotated the signing key with Ada. The release of that day was built again.",
    },
    "bob": {
        "fact/backups.md": "Backups are kept for 90 days.",
        "fact/rotation.md": "Signing keys rotate every 30 days.",
        "user/ada.md": "Ada prefers to rotate keys on Mondays.",
    },
}
RESPONSE = "Signing keys rotate every 60 days [1]. The old key stays valid a week [1]."
# name of the picture → (screen, color scheme, height)
PICTURES = {
    "ask": (f"ask?q={QUESTION.replace(' ', '+')}", "light", 700),
    "context": ("contexts/one?task=rotation", "light", 640),
    "context-dark": ("contexts/one?task=rotation", "dark", 640),
    "memory": ("memory", "light", 700),
    "review": ("review", "dark", 340),
    "time": ("time", "dark", 700),
}
_FIX = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const versions = new Map();
  while (walker.nextNode()) {
    const node = walker.currentNode;
    node.data = node.data.replace(/20\\d\\d-\\d\\d-\\d\\d([ T])\\d\\d:\\d\\d(:\\d\\d)?/g, "2026-03-02$109:30")
      .replace(/human:[\\w-]+/g, "human:ada").replace(/\\b[0-9a-f]{12}\\b|\\b[0-9a-f]{8}\\b/g, hash => {
        if (!versions.has(hash)) versions.set(hash, (0xa1b2c3d4 + 0x01010101 * versions.size).toString(16));
        return versions.get(hash);
      });
  }
}"""


def fill_store(bash: Callable[[str], str]) -> None:
    """Write memories by two agents in sessions of their own, a context with a response, and a snapshot."""
    for agent, files in AGENTS.items():
        bash(f"ctxfs mount ctx-{agent} --principal agent:{agent}")
        for name, text in files.items():
            path = f"ctx-{agent}/memory/{agent}/{name}"
            bash(f"mkdir -p $(dirname {path}) && cat > {path} <<'EOT'\n{text}\nEOT\nctxfs commit")
    bash("ctxfs snapshot before-rotation")
    path = "ctx-alice/memory/alice/fact/rotation.md"
    bash(f"echo 'Signing keys rotate every 90 days; Ada starts it.' > {path} && ctxfs commit")
    bash("ctxfs cite memory/alice/fact/rotation.md knowledge/handbook/keys.md:5")
    bash("mkdir ctx/context/rotation && ctxfs status --wait meaning")
    bash(f"printf 'query = \"{QUESTION}\"\\nbudget = 500\\n' > ctx/context/rotation/request.toml")
    bash("cat ctx/context/rotation/context.md > /dev/null")
    bash(
        f"echo '{RESPONSE}' > ctx/context/rotation/response.md && cat ctx/context/rotation/evaluation.json > /dev/null"
    )
    bash("for n in $(seq 100); do ls ctx/human/review | grep -q . && exit; sleep 0.1; done; exit 1")


def take_pictures(address: str, out: Path) -> None:
    """Open the page, and write each picture."""
    from playwright.sync_api import sync_playwright  # only `make pictures` and `make test-web` install it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-lcd-text"])
        context = browser.new_context(viewport={"width": WIDTH, "height": 800}, reduced_motion="reduce")
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("nav")
        base = address.rpartition("/")[0]
        for name, (screen, scheme, height) in PICTURES.items():
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": WIDTH, "height": height})
            page.goto(f"{base}/{screen}")
            page.wait_for_load_state("networkidle")
            page.evaluate("document.activeElement.blur()")
            page.evaluate(_FIX)
            page.screenshot(path=str(out / f"{name}.png"), animations="disabled")
        browser.close()


def main() -> int:
    """Make the store, serve its page and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    if not CHROMIUM.exists():
        print(f"there is no browser at {CHROMIUM}: apt-get install chromium", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    with demo_store(HANDBOOK) as bash:
        fill_store(bash)
        store = bash("echo $CTXFS_STORE")
        command = [sys.executable, "-m", "ctxfs", "--store", store, "web", "--no-open"]
        page: subprocess.Popen[Any] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ
        )
        try:
            assert page.stdout is not None
            take_pictures(page.stdout.readline().decode().strip(), arguments.out)
        finally:
            page.send_signal(signal.SIGTERM)
            page.wait(30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
