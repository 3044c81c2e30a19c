// Live parts of the page: an element with data-live receives the HTML of its event stream. Everything else works without.
"use strict";
(function () {
  const MAX_ROWS = 200;
  const RETRY_MILLISECONDS = 5000;

  function follow(list) {
    if (list.source) return;
    const state = document.getElementById(list.dataset.liveState);
    const show = (text, isBad) => {
      if (!state) return;
      state.textContent = text;
      state.classList.toggle("bad", isBad);
    };
    const source = (list.source = new EventSource(list.dataset.live));
    source.addEventListener("open", () => show("live", false));
    source.addEventListener("row", (event) => {
      if (!list.isConnected) return source.close();
      if (list.dataset.paused === "yes") return;
      list.insertAdjacentHTML("afterbegin", event.data); // escaped by the server, and the policy forbids inline scripts
      while (list.children.length > MAX_ROWS) list.lastElementChild.remove();
    });
    source.addEventListener("away", (event) => show(`${event.data}; trying again`, true));
    source.addEventListener("back", () => show("live", false));
    source.addEventListener("error", () => {
      if (!list.isConnected) return source.close();
      show("the page is away; trying again", true);
      if (source.readyState !== EventSource.CLOSED) return; // the browser connects again by itself
      setTimeout(() => {
        list.source = null;
        if (list.isConnected) follow(list);
      }, RETRY_MILLISECONDS);
    });
  }

  function start() {
    startTicks();
    startRetry();
    document.querySelectorAll("[data-live]").forEach(follow);
    document.querySelectorAll("button[data-pauses]").forEach((button) => {
      button.hidden = false;
      button.onclick = () => {
        const list = document.getElementById(button.dataset.pauses);
        const isPaused = list.dataset.paused !== "yes";
        list.dataset.paused = isPaused ? "yes" : "no";
        button.setAttribute("aria-pressed", String(isPaused));
        button.textContent = isPaused ? "Continue" : "Pause";
      };
    });
  }

  function startTicks() {
    document.querySelectorAll("button[data-ticks]").forEach((button) => {
      button.hidden = false;
      button.onclick = () => {
        const boxes = [...document.querySelectorAll(`#${button.dataset.ticks} input[type=checkbox]`)];
        const wanted = !boxes.every((box) => box.checked);
        boxes.forEach((box) => (box.checked = wanted));
      };
    });
  }

  // A page that says that the daemon is away loads itself again; a page that was loaded whole has a header for that, too.
  function startRetry() {
    const banner = document.querySelector("[data-retry-seconds]");
    if (!banner || banner.isWaiting) return;
    banner.isWaiting = true;
    setTimeout(() => banner.isConnected && location.reload(), 1000 * banner.dataset.retrySeconds);
  }

  // A key presses the button with that key: in the card that has the focus, else the first one of the page.
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select")) return;
    if (!/^[a-z]$/.test(event.key)) return;
    const card = document.activeElement.closest(".card");
    const button = (card || document).querySelector(`button[data-key="${event.key}"]`);
    if (!button) return;
    event.preventDefault();
    const text = event.key === "e" && button.form.querySelector("[data-edits]");
    if (text) text.focus();
    else button.click();
  });

  document.addEventListener("DOMContentLoaded", start);
  document.addEventListener("htmx:afterSettle", start);
})();
