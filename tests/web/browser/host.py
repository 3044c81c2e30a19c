"""A host of views for the tests: a page that embeds a document in a sandboxed frame and plays the other side of its bridge."""

from collections.abc import Callable
from typing import Any

from tests.live import eventually
from tests.web.browser.conftest import AXE

# The frame inherits this policy, which is the default that the extension prescribes to hosts.
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>host</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'self' 'unsafe-inline';
 style-src 'self' 'unsafe-inline'; img-src 'self' data:; media-src 'self' data:; connect-src 'none'">
<body style="margin:0"><iframe id="view" title="view" sandbox="allow-scripts" style="width:100%;border:0"></iframe>
<iframe id="other" title="other" sandbox="allow-scripts" hidden></iframe>
<script>
window.log = [];
window.hostContext = {};
const frame = document.getElementById("view");
const post = message => frame.contentWindow.postMessage({jsonrpc: "2.0", ...message}, "*");
addEventListener("message", event => {
  if (event.source !== frame.contentWindow) return;
  const message = event.data;
  log.push(message);
  if (message.method === "ui/initialize") {
    post({id: message.id, result: {protocolVersion: message.params.protocolVersion, hostInfo: {name: "host", version: "1"},
      hostCapabilities: {}, hostContext}});
  }
  if (message.method === "ui/notifications/size-changed") frame.style.height = message.params.height + "px";
});
</script></body></html>"""


class Host:
    """The page of a host, with all that went wrong in it."""

    def __init__(
        self, chromium: Any, document: str, host_context: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.context = chromium.new_context(**{"viewport": {"width": 700, "height": 900}, **options})
        self.faults: list[str] = []
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.faults.append(message.text) if message.type != "log" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        self.context.route("**/*", lambda route: (self.faults.append(f"a request: {route.request.url}"), route.abort()))
        self.page.set_content(PAGE)
        self.page.evaluate("context => { hostContext = context }", host_context or {})
        self.page.evaluate("text => { frame.srcdoc = text }", document)
        self.wait_for(lambda message: message.get("method") == "ui/notifications/initialized")

    @property
    def frame(self) -> Any:
        """The frame of the view."""
        return self.page.query_selector("#view").content_frame()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The messages of the view."""
        messages: list[dict[str, Any]] = self.page.evaluate("log")
        return messages

    def post(self, method: str, params: object = None, **more: object) -> None:
        """Send a message to the view."""
        self.page.evaluate("message => post(message)", {"method": method, "params": params or {}, **more})

    def show(self, result: object) -> str:
        """Send the result of a call, and return the text that is shown when it is drawn."""
        self.post("ui/notifications/tool-result", result)
        self.ping()
        return str(self.frame.inner_text("main"))

    def ping(self) -> None:
        """Wait until the view has handled all messages."""
        number = self.page.evaluate("window.pings = (window.pings ?? 1000) + 1")
        self.post("ping", id=number)
        self.wait_for(lambda message: message.get("id") == number and "result" in message)

    def wait_for(self, is_wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for a message of the view."""
        eventually("a message of the view", lambda: any(map(is_wanted, self.log)))

    def violations(self) -> list[Any]:
        """Return the findings of axe-core in the view, with everything unfolded."""
        for details in self.frame.query_selector_all("details"):
            details.evaluate("element => element.open = true")
        self.frame.evaluate(AXE.read_text())
        found: list[Any] = self.frame.evaluate(
            "axe.run().then(result => result.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
        )
        return found
