// What the pages share: asking the server, elements made of text only, numbers for people.

const main = document.getElementById("content");
export const root = main.dataset.root;

export const byId = (id) => document.getElementById(id);

/** An element; children are elements or texts, and a text is never read as HTML. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export function say(text, kind = "note") {
  const place = byId("message");
  place.textContent = text;
  place.dataset.kind = kind;
  place.hidden = !text;
}

export class Refused extends Error {}

/** Why the server refuses: in our form, else whatever it says. */
export async function reason(response) {
  const text = await response.text();
  try {
    const { error, hint } = JSON.parse(text);
    if (error) return hint ? `${error} (${hint})` : error;
  } catch { /* not JSON: one line of text */ }
  return `${response.status}: ${text.trim().slice(0, 300) || response.statusText}`;
}

/** JSON from the server. Raises `Refused` with the server's words, or TypeError when it is not there. */
export async function ask(path, { body, signal } = {}) {
  const options = { signal, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(`${root}/api/${path}`, options);
  if (response.status === 401) {
    say("This page is no longer signed in: open the address that mamba-slm dashboard printed.", "error");
    throw new Refused("not signed in");
  }
  if (!response.ok) throw new Refused(await reason(response));
  return await response.json();
}

const NO_ANSWER = "The dashboard does not answer. Runs go on without it; this page catches up when it is back.";

/** Asks again and again: often while the page is seen and answers come, rarely else. Never two at once. */
export function every(seconds, work) {
  let timer = 0, running = false, waits = 0, lost = false;
  async function turn() {
    clearTimeout(timer);
    if (running) return;
    if (document.hidden) { timer = setTimeout(turn, 1000 * Math.max(seconds, 15)); return; }
    running = true;
    try {
      await work();
      waits = 0;
      if (lost && byId("message").textContent === NO_ANSWER) say("");  // something else may have been said meanwhile
      lost = false;
    } catch (error) {
      if (error instanceof Refused) { if (error.message !== "not signed in") say(error.message, "error"); waits = 3; }
      else if (error instanceof TypeError) {
        lost = true; waits = Math.min(waits + 1, 3);
        say(NO_ANSWER, "error");
      } else throw error;
    } finally {
      running = false;
      timer = setTimeout(turn, 1000 * seconds * (1 + waits));
    }
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
  turn();
  return turn;
}

const SUFFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
export function short(value, digits = 3) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  for (const [unit, suffix] of SUFFIXES) if (size >= unit * 0.9995) return `${+(value / unit).toPrecision(digits)}${suffix}`;
  if (size !== 0 && size < 1e-3) return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e-", "e−");
  return String(+value.toPrecision(digits));
}
export const bytes = (value) => {
  if (value == null) return "–";
  for (const [power, name] of [[40, "TiB"], [30, "GiB"], [20, "MiB"], [10, "KiB"]])
    if (value >= 2 ** power) return `${+(value / 2 ** power).toPrecision(3)} ${name}`;
  return `${value} B`;
};
export function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  if (seconds < 60) return `${seconds < 10 ? +seconds.toPrecision(2) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")}`;
  return `${Math.floor(minutes / 1440)} d ${Math.floor((minutes % 1440) / 60)} h`;
}
export const money = (value) => (value == null ? "–" : `$${value.toFixed(2)}`);
export const whole = (value) => (value == null ? "–" : Math.round(value).toLocaleString("en"));

export const FORMATS = {
  loss: (v) => short(v, 4), validation: (v) => short(v, 4), validation_loss: (v) => short(v, 4),
  bits_per_byte: (v) => short(v, 4), learning_rate: short, grad_norm: short, tokens_per_second: (v) => whole(v),
  mfu: (v) => (v == null ? "–" : `${+(100 * v).toPrecision(3)}%`), memory_bytes: bytes, seconds: duration,
  cost_usd: money, cost: money, step: whole, tokens: short,
};

export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // no clipboard without https or permission: select it, the user presses Ctrl-C
    const range = document.createRange();
    range.selectNodeContents(button.previousElementSibling);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

/** A text as one word of a shell. */
export const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

let typed = false;
addEventListener("input", () => { typed = true; }, { capture: true });
/** What a form lacks: a hint before anything was typed, then a problem. */
export function showProblem(text) {
  const place = byId("problem");
  place.textContent = text || "";
  place.className = typed ? "problem" : "hint";
  place.hidden = !text;
}

/** What is typed into a form is there again when this tab loads the page anew; what the address says comes after. */
export function keepForm(form) {
  const place = `form ${location.pathname}`, kept = JSON.parse(sessionStorage.getItem(place) || "null");
  for (const control of kept ? form.elements : []) {
    if (control.type === "checkbox") control.checked = control.name in kept;
    else if (control.name in kept) control.value = kept[control.name];
  }
  form.addEventListener("input", () => sessionStorage.setItem(place, JSON.stringify(Object.fromEntries(new FormData(form)))));
}

/** A command with its button, as `command_line` on the server. */
export function commandLine(text) {
  return element("div", { class: "command" }, element("code", { tabindex: 0 }, text),
    element("button", { type: "button", class: "copy quiet", "aria-label": "Copy the command" }, "Copy"));
}

export const runPath = (key) => `runs/${key.home}/${encodeURIComponent(key.name)}`;
export const pointers = main;
