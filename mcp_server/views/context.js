
"use strict";
(() => {
  // The bridge: JSON-RPC with the window that embeds this document, and with no other.
  const host = window.parent;
  const root = document.documentElement;
  const view = document.getElementById("view");
  const INITIALIZE_ID = 1;
  const UNKNOWN_METHOD = -32601;
  const HOST_VARIABLES = [
    "--color-background-primary", "--color-background-secondary", "--color-text-primary", "--color-text-secondary",
    "--color-border-primary", "--font-sans", "--font-mono",
  ];
  const MAX_ROWS = 100;
  const MAX_TEXT_CHARACTERS = 20000;

  const send = message => host.postMessage({ jsonrpc: "2.0", ...message }, "*");
  const isObject = value => typeof value === "object" && value !== null && !Array.isArray(value);
  const object = value => (isObject(value) ? value : {});
  const rows = value => (Array.isArray(value) ? value.slice(0, MAX_ROWS).map(object) : []);
  const strings = value => (Array.isArray(value) ? value.slice(0, MAX_ROWS).map(String) : []);
  const amount = value => (typeof value === "number" && Number.isFinite(value) && value > 0 ? value : 0);

  // Characters that end a line, move a cursor, change the writing direction or hide a text, as in ctxfs.model.path.
  const ACTIVE = /[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;
  const escapeCharacter = character => {
    const code = character.codePointAt(0);
    if (character === "\n") return "\\n";
    if (character === "\r") return "\\r";
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  };
  const oneLine = value => String(value ?? "").slice(0, MAX_TEXT_CHARACTERS).replace(ACTIVE, escapeCharacter);
  const lines = value => String(value ?? "").slice(0, MAX_TEXT_CHARACTERS).split("\n").map(oneLine).join("\n");
  const number = value => Math.round(amount(value)).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

  // Elements get text nodes only: nothing of a context is ever parsed as HTML.
  const make = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const draw = (tag, attributes, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
    element.append(...children.filter(child => child !== null));
    return element;
  };
  const name = text => make("bdi", {}, oneLine(text));
  const dim = text => make("span", { class: "dim" }, oneLine(text));
  const css = position => `part${position % 8}`;
  const swatch = kind => draw("svg", { class: "key", viewBox: "0 0 12 12", "aria-hidden": "true" },
    draw("rect", { width: 12, height: 12, ...(kind === "hatched" ? { fill: "url(#hatch)" } : { class: kind }) }));

  const hatch = () => draw("defs", {}, draw("pattern",
    { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    draw("rect", { class: "hatch-back", width: 6, height: 6 }), draw("rect", { class: "hatch-line", width: 2, height: 6 })));

  function drawBar(parts, whole, label) {
    const bar = draw("svg", { class: "bar", viewBox: "0 0 1000 24", preserveAspectRatio: "none", role: "img", "aria-label": label },
      hatch(), draw("rect", { class: "rest", width: 1000, height: 24 }));
    let x = 0;
    for (const [kind, tokens, title] of parts) {
      const width = whole > 0 ? Math.min(1000 - x, (1000 * tokens) / whole) : 0;
      if (width <= 0) continue;
      const paint = kind === "hatched" ? { class: kind, fill: "url(#hatch)" } : { class: kind };
      bar.append(draw("rect", { ...paint, x: x.toFixed(2), width: width.toFixed(2), height: 24 }, draw("title", {}, title)));
      x += width;
    }
    return bar;
  }

  function legend(sources, further, data) {
    const entries = sources.map((source, position) => make("li", {}, swatch(css(position)), " ", name(source.path), " ",
      dim(`${plural(amount(source.tokens), "token")}, ${plural(amount(source.pieces), "piece")}`)));
    const more = amount(further.count);
    return make("ul", { class: "legend" }, ...entries,
      more ? make("li", {}, swatch(css(sources.length)), " ", dim(`${plural(more, "more source")}: ${plural(amount(further.tokens), "token")}`)) : null,
      make("li", {}, swatch("hatched"), " headers and citations ", dim(plural(amount(data.framing), "token"))),
      make("li", {}, dim(`free: ${plural(amount(data.free), "token")}`)));
  }

  const range = row => dim(amount(row.last) ? `:${Math.round(amount(row.first))}${row.last === row.first ? "" : `–${Math.round(row.last)}`}` : "");
  const cell = (...children) => make("td", {}, ...children);

  function table(label, titles, body) {
    const heads = titles.map(title => make("th", { scope: "col", ...(title === "Tokens" ? { class: "num" } : {}) }, title));
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
      make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body)));
  }

  function pieceRow(piece) {
    const marks = strings(piece.marks).flatMap(mark => [" ", make("span", { class: "tag" }, oneLine(mark))]);
    const heading = piece.heading ? [make("br"), dim(piece.heading)] : [];
    return make("tr", {}, cell(swatch(css(amount(piece.source) - 1)), " ", name(piece.path), range(piece), ...heading, ...marks),
      cell(oneLine(piece.why)), make("td", { class: "num" }, number(piece.tokens)));
  }

  const excludedRow = passage => make("tr", {}, cell(name(passage.path), range(passage)), cell(oneLine(passage.reason)));

  function fold(title, count, shown, content) {
    if (!count) return null;
    const cut = count > shown ? ` (the first ${number(shown)} are shown)` : "";
    return make("details", {}, make("summary", {}, `${title}: ${number(count)}${cut}`), content);
  }

  function banners(data) {
    const verdicts = { unknown: "Nothing here seems to answer this.", weak: "The answer is weak: these sources may not answer." };
    const conflicts = amount(data.conflicts);
    const texts = [
      ...strings(data.notes).map(note => `Could not look everywhere: ${note}`),
      ...(Object.hasOwn(verdicts, data.verdict) ? [verdicts[data.verdict]] : []),
      ...(conflicts ? [`${plural(conflicts, "conflict")} between pieces`] : []),
    ];
    return texts.map(text => make("p", { class: "banner" }, oneLine(text)));
  }

  function showContext(data) {
    const sources = rows(data.sources), further = object(data.further_sources);
    const tokens = amount(data.tokens), budget = amount(data.budget);
    const parts = [
      ...sources.map((source, position) => [css(position), amount(source.tokens), `${oneLine(source.path)}: ${plural(amount(source.tokens), "token")}`]),
      [css(sources.length), amount(further.tokens), `more sources: ${plural(amount(further.tokens), "token")}`],
      ["hatched", amount(data.framing), `headers and citations: ${plural(amount(data.framing), "token")}`],
    ];
    const label = `Budget by source: ${plural(sources.length + amount(further.count), "source")}, ${plural(amount(data.framing), "token")} of headers, ${plural(amount(data.free), "token")} free`;
    const reasons = rows(data.reasons).map(reason => `${oneLine(reason.text)} (${number(reason.count)})`).join(" · ");
    const pieces = rows(data.pieces), excluded = rows(data.excluded);
    view.replaceChildren(...[
      make("h1", {}, data.question ? name(data.question) : "Context"),
      make("p", {}, `${number(tokens)} of ${number(budget)} tokens `, dim(data.handle ? `context/${data.handle}` : "")),
      ...banners(data),
      drawBar(parts, Math.max(tokens, budget), label),
      legend(sources, further, data),
      reasons ? make("p", {}, `Left out: ${reasons}`) : null,
      fold("Pieces", amount(data.piece_count), pieces.length, table("Pieces", ["Piece", "Why", "Tokens"], pieces.map(pieceRow))),
      fold("Left out", amount(data.excluded_count), excluded.length, table("Left out", ["Passage", "Reason"], excluded.map(excludedRow))),
    ].filter(child => child !== null));
  }

  function showText(result) {
    const parts = Array.isArray(result.content) ? result.content.slice(0, MAX_ROWS).map(object) : [];
    const text = parts.filter(part => part.type === "text").map(part => lines(part.text)).join("\n");
    view.replaceChildren(...(result.isError ? [make("p", { class: "banner" }, "No context was built.")] : []), make("pre", { dir: "auto" }, text));
  }

  function showWaiting(input) {
    const task = object(input).task;
    const question = Array.isArray(task) ? strings(task).join("; ") : task ?? "";
    view.replaceChildren(make("p", { class: "dim" }, "Building a context", question ? ": " : " …", question ? name(question) : ""));
  }

  function applyHostContext(context) {
    if (context.theme === "light" || context.theme === "dark") root.style.colorScheme = context.theme;
    const variables = object(object(context.styles).variables);
    for (const variable of HOST_VARIABLES) {
      const value = variables[variable];
      if (typeof value === "string" && value === oneLine(value)) root.style.setProperty(variable, value);
    }
  }

  const notifications = {
    "ui/notifications/tool-input": params => showWaiting(params.arguments),
    "ui/notifications/tool-result": params => (isObject(params.structuredContent) && !params.isError ? showContext(params.structuredContent) : showText(params)),
    "ui/notifications/tool-cancelled": () => view.replaceChildren(make("p", { class: "dim" }, "The call was cancelled.")),
    "ui/notifications/host-context-changed": params => applyHostContext(params),
  };
  const answered = ["ping", "ui/resource-teardown"];

  function receive(message) {
    if (message.method === undefined) {
      if (message.id !== INITIALIZE_ID) return;
      applyHostContext(object(object(message.result).hostContext));
      send({ method: "ui/notifications/initialized", params: {} });
      isInitialized = true;
      reportSize();
    } else if (message.id !== undefined) {
      const isKnown = answered.includes(message.method);
      send({ id: message.id, ...(isKnown ? { result: {} } : { error: { code: UNKNOWN_METHOD, message: "Method not found" } }) });
    } else if (Object.hasOwn(notifications, message.method)) {
      notifications[message.method](object(message.params));
    }
  }

  let lastSize = "";
  let isInitialized = false;
  function reportSize() {
    if (!isInitialized) return;
    const size = { width: window.innerWidth, height: Math.ceil(document.body.getBoundingClientRect().height) };
    if (JSON.stringify(size) === lastSize) return;
    lastSize = JSON.stringify(size);
    send({ method: "ui/notifications/size-changed", params: size });
  }

  if (host === window) {
    view.replaceChildren(make("p", {}, "This document is a view for clients of ctxfs: they show it beside a result."));
    return;
  }
  window.addEventListener("message", event => {
    if (event.source === host && isObject(event.data) && event.data.jsonrpc === "2.0") receive(event.data);
  });
  send({
    id: INITIALIZE_ID,
    method: "ui/initialize",
    params: {
      protocolVersion: "2026-01-26",
      appInfo: { name: "ctxfs-context", version: "1" },
      appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
    },
  });
  new ResizeObserver(reportSize).observe(document.body);
})();
