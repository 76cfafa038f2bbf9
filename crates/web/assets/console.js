// The console's one script. Pages arrive whole and work without it where they can; it adds live
// parts, copying, dialogs, parts that are loaded by themselves, and keys. Everything is wired by
// data attributes and by delegation, so that parts that arrive later work, too:
//   data-follow="topic …"     follow these topics over one stream a tab
//   data-live="part"          changed by events that name this part
//   data-copy="id"            copy the text of that element
//   data-open="id", data-close  dialogs
//   data-part="id"            a form or link whose answer becomes the content of that element
//   data-from="address"       such a link loads from there; its own address is the whole page
//   data-picks, data-all, data-picked  a form with rows to pick, a box for all of them, their number
//   data-submit               a form that is sent when a choice in it changes
//   data-auto="ms" data-to="address"  after a change below it, the form is sent there by itself
//   data-load="address"       filled from there as soon as it is on the page; needs an id
//   data-fill="id"            a choice whose value goes into that field
//   data-into="id"            on arrival, becomes the content of that element
//   data-go="address" data-into-part="id"  on arrival, has that element filled from there
//   data-add="id" data-value  adds a line to that field
//   data-set="id" data-value  on arrival, sets that field
//   data-clears="id"          a form that empties that element when something in it changes
//   data-show="name=value …"  shown while a field of the same form has one of these values
"use strict";

const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const csrf = () => one('meta[name="csrf"]')?.content ?? "";

// ---- live parts ----
function topics() {
  return [...new Set(all("[data-follow]").flatMap((e) => e.dataset.follow.split(" ")))]
    .filter(Boolean).sort().join(",");
}

// What the page followed when it came is known up to its own position.
const live = { stream: null, last: null, topics: "", followed: topics(), ended: false };

function follow() {
  const wanted = document.hidden || live.ended ? "" : topics();
  if (live.stream && live.topics === wanted) return;
  live.stream?.close();
  live.stream = null;
  live.topics = wanted;
  // Browsers allow few connections to one host: a tab that nobody sees keeps none.
  if (!wanted) return;
  // Topics that were not followed before are told as they stand now.
  live.last ??= one('meta[name="live"]')?.content;
  const known = live.last && live.followed === wanted;
  live.followed = wanted;
  const last = known ? "&last=" + encodeURIComponent(live.last) : "";
  const stream = new EventSource("/events?topics=" + encodeURIComponent(wanted) + last);
  stream.addEventListener("hello", (event) => { live.last = event.lastEventId; });
  stream.onmessage = (event) => {
    live.last = event.lastEventId;
    change(JSON.parse(event.data));
  };
  stream.onopen = () => {
    document.body.removeAttribute("data-offline");
    if (stale) refresh();
  };
  stream.onerror = () => {
    document.body.setAttribute("data-offline", "");
    // A server that refuses ends the stream for good: try again later by ourselves, unless nobody is
    // signed in here any more.
    if (stream.readyState === EventSource.CLOSED) {
      live.stream = null;
      signedIn().then((is) => { if (is) setTimeout(follow, 5000); });
    }
  };
  live.stream = stream;
}

// Whether the session is still good; where it is not, the page says so from now on.
async function signedIn() {
  if (live.ended) return false;
  try {
    const answer = await fetch("/events", { method: "HEAD", headers: { "x-fragment": "1" } });
    if (answer.status === 401) ended();
  } catch {
    // The console does not answer, which says nothing of the session.
  }
  return !live.ended;
}

function ended() {
  live.ended = true;
  follow();
  // It did answer.
  document.body.removeAttribute("data-offline");
  const banner = document.getElementById("ended");
  if (!banner) return;
  one("a", banner).href = "/sign-in?to=" + encodeURIComponent(location.pathname + location.search);
  banner.hidden = false;
}

function change(message) {
  if (message.change === "reload") return refresh();
  for (const part of all(`[data-live="${CSS.escape(message.part)}"]`)) {
    fill(part, message.html);
  }
  arrived();
}

// The page as it is now, in place: what is scrolled to stays, and a field that is being typed in
// is not taken away. A page that follows nothing by itself is a form: it stays as it is.
let refreshing = false;
// The page is older than what was told; a refresh came while one was under way.
let stale = false, again = false;
async function refresh() {
  if (refreshing) { again = true; return; }
  const main = document.getElementById("main");
  const isUsed = () => one("input:focus, textarea:focus, select:focus, dialog[open]", main);
  stale = true;
  if (isUsed()) return;
  refreshing = true;
  try {
    const answer = await fetch(location.href);
    if (answer.status === 401) return ended();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    if (isUsed()) return;
    stale = false;
    if (answer.ok && fresh && one("[data-follow]", fresh)) {
      fill(main, fresh.innerHTML);
      document.title = page.title;
      arrived();
    }
  } catch {
    // The console does not answer: once the stream is back, the page is loaded again.
  } finally {
    refreshing = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

// What was put off while somebody typed or answered; the next field has its focus a moment later.
const later = () => { if (stale) setTimeout(refresh); };
document.addEventListener("focusout", later);
document.addEventListener("close", later, true);

// New content; what was focused stays focused if it is still there.
function fill(part, html) {
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus();
}

// What new content asks for at once.
function arrived() {
  for (const dialog of all("dialog[data-now]")) {
    dialog.removeAttribute("data-now");
    if (!dialog.open) dialog.showModal();
  }
  for (const part of all("[data-load]")) {
    const address = part.dataset.load;
    part.removeAttribute("data-load");
    load(address, part.id);
  }
  for (const part of all("[data-into]")) {
    const target = document.getElementById(part.dataset.into);
    part.removeAttribute("data-into");
    target?.replaceChildren(part);
  }
  for (const part of all("[data-go]")) {
    const { go, intoPart } = part.dataset;
    part.remove();
    load(go, intoPart);
  }
  for (const part of all("[data-set]")) {
    const field = document.getElementById(part.dataset.set);
    if (field) field.value = part.dataset.value;
    part.remove();
  }
  follow();
}

document.addEventListener("visibilitychange", () => {
  follow();
  // It may have ended while nobody looked.
  if (!document.hidden) signedIn();
});

// ---- parts that are loaded by themselves ----
// Whether the answer leads to another page.
async function load(address, part, body) {
  const target = document.getElementById(part);
  if (!target) return;
  target.setAttribute("aria-busy", "true");
  const turn = (target.turn = (target.turn ?? 0) + 1);
  try {
    const headers = { "x-fragment": "1" };
    if (body) headers["x-csrf"] = csrf();
    const answer = await fetch(address, { method: body ? "POST" : "GET", headers, body });
    const to = answer.headers.get("x-location");
    if (to) {
      location.assign(to);
      return true;
    }
    const html = await answer.text();
    if (turn !== target.turn) return;
    fill(target, html);
  } catch (error) {
    if (turn === target.turn) target.textContent = "The console does not answer. Is it still running? " + error.message;
  } finally {
    if (turn === target.turn) target.removeAttribute("aria-busy");
  }
  all("form", target).forEach(reveal);
  arrived();
}

function send(form, button) {
  const data = new FormData(form, button);
  const address = button?.getAttribute("formaction") ?? form.getAttribute("action") ?? location.href;
  const part = button?.dataset.part ?? form.dataset.part;
  if (form.method === "get") {
    return load(address + "?" + new URLSearchParams(data), part);
  }
  return load(address, part, new URLSearchParams(data));
}

// Forms that are on their way: a second press sends nothing twice. Of what only asks, the last
// answer counts.
const sent = new WeakMap();
document.addEventListener("submit", async (event) => {
  const form = event.target;
  const part = event.submitter?.dataset.part ?? form.dataset.part;
  if (sent.has(form)) return event.preventDefault();
  const turn = {};
  if (form.method !== "get") sent.set(form, turn);
  const done = () => { if (sent.get(form) === turn) sent.delete(form); };
  if (!part) return setTimeout(done, 3000);
  event.preventDefault();
  if (await send(form, event.submitter)) return setTimeout(done, 3000);
  done();
  // What was asked for is seen, and no more is moved than that needs.
  const top = document.getElementById(part)?.getBoundingClientRect().top;
  if (top > innerHeight * 0.8) document.getElementById(part).scrollIntoView();
});

// A preview holds for the fields that it was made of: also one that is still on its way.
document.addEventListener("input", (event) => {
  const form = event.target.closest?.("form[data-clears]");
  const target = form && document.getElementById(form.dataset.clears);
  if (!target) return;
  target.turn = (target.turn ?? 0) + 1;
  target.removeAttribute("aria-busy");
  target.replaceChildren();
  sent.delete(form);
});

let timer = 0;
function automatic(event) {
  const field = event.target;
  const form = field.closest?.("form");
  if (form) reveal(form);
  if (field.dataset?.fill && field.value) {
    const target = document.getElementById(field.dataset.fill);
    if (target) target.value = field.value;
  }
  const source = field.dataset?.auto ? field : field.closest?.("[data-auto]");
  if (!source) return;
  clearTimeout(timer);
  timer = setTimeout(() => {
    const owner = source.closest("form");
    if (!owner) return;
    const { to, autoPart, part } = source.dataset;
    load(to, autoPart ?? part, new URLSearchParams(new FormData(owner)));
  }, Number(source.dataset.auto));
}
document.addEventListener("input", automatic);
document.addEventListener("change", automatic);

// ---- rows that are picked ----
function picked(form) {
  const boxes = all("td.pick input", form);
  for (const box of boxes) {
    const row = box.closest("tr");
    box.checked ? row.setAttribute("aria-selected", "true") : row.removeAttribute("aria-selected");
  }
  const number = boxes.filter((box) => box.checked).length;
  for (const part of all("[data-picked]", form)) part.textContent = number;
  const whole = one("[data-all]", form);
  if (whole) {
    whole.checked = number > 0 && number === boxes.length;
    whole.indeterminate = number > 0 && number < boxes.length;
  }
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("form");
  if (event.target.matches("[data-submit] select")) form.requestSubmit();
  if (!form?.matches("[data-picks]")) return;
  if (event.target.matches("[data-all]")) {
    for (const box of all("td.pick input", form)) box.checked = event.target.checked;
  }
  picked(form);
});

// ---- fields that depend on others ----
function reveal(form) {
  for (const part of all("[data-show]", form)) {
    const shown = part.dataset.show.split(" ").some((pair) => {
      const [name, value] = pair.split("=");
      const field = form.elements[name];
      return field && (field.type === "checkbox" ? String(field.checked) : field.value) === value;
    });
    part.hidden = !shown;
  }
}

// ---- buttons and links ----
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button, a");
  if (!button) return;
  const { copy, open, close, part, print } = button.dataset;
  if (copy) {
    const text = document.getElementById(copy)?.textContent.trim() ?? "";
    try {
      await navigator.clipboard.writeText(text);
      said(button, "Copied");
    } catch {
      getSelection().selectAllChildren(document.getElementById(copy));
      said(button, "Selected");
    }
  } else if (open) {
    document.getElementById(open)?.showModal();
  } else if (close !== undefined) {
    button.closest("dialog")?.close();
  } else if (button.dataset.add) {
    const field = document.getElementById(button.dataset.add);
    const lines = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!lines.includes(button.dataset.value)) lines.push(button.dataset.value);
    field.value = lines.join("\n");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    said(button, "Added");
  } else if (print !== undefined) {
    window.print();
  } else if (part && button.tagName === "A") {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const { from } = button.dataset;
    await load(from ?? button.href, part);
    if (!from) return;
    // The page as it is now, for who loads it again.
    history.replaceState(null, "", button.href);
    const table = button.closest("table");
    all("a[aria-current]", table).forEach((a) => a.removeAttribute("aria-current"));
    button.setAttribute("aria-current", "true");
    const target = document.getElementById(part);
    if (target?.getBoundingClientRect().top > innerHeight / 2) target.scrollIntoView();
  }
});

function said(button, word) {
  const before = button.dataset.label ?? button.textContent;
  button.dataset.label = before;
  button.textContent = word;
  setTimeout(() => { button.textContent = before; }, 1500);
}

// ---- keys ----
const places = { h: "/", p: "/plans", r: "/runs", s: "/snapshots", t: "/storages", f: "/find", a: "/alerts" };
let chord = 0;

function step(direction) {
  const rows = all("main tbody tr, main .rows > li, main .card, main .plans > li").filter((r) => one("a", r));
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(Math.max(at + direction, 0), rows.length - 1)];
  one("a", next).focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog, [contenteditable]")) return;
  const key = event.key;
  if (Date.now() - chord < 1200 && places[key]) {
    chord = 0;
    return location.assign(places[key]);
  }
  chord = 0;
  if (key === "g") chord = Date.now();
  else if (key === "?") document.getElementById("keys")?.showModal();
  else if (key === "/") {
    event.preventDefault();
    const field = one("main input[type=search]");
    field ? field.focus() : location.assign("/find");
  } else if (key === "j") step(1);
  else if (key === "k") step(-1);
  else if (key === " ") {
    const box = one("td.pick input", event.target.closest("tr") ?? document.createElement("tr"));
    if (!box || event.target === box) return;
    event.preventDefault();
    box.click();
  }
});

all("form").forEach(reveal);
all("form[data-picks]").forEach(picked);
arrived();
