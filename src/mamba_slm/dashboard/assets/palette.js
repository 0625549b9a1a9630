// Ctrl-K finds pages, runs and actions by a few letters; ? shows the keys of this page.
import { ask, byId, element, pointers, root, runPath, say } from "./common.js";

const MOST = 12;
const COMMON = [["Ctrl-K", "find pages, runs and actions"], ["?", "these keys"], ["Esc", "close, stop, or come back"], ["Tab", "the next control"], ["← → Home End", "along a curve that has the focus; Enter shows the text of that step"]];
const links = () => [...document.querySelectorAll("header nav a")];

function open(dialog) {
  dialog.addEventListener("keydown", (event) => event.stopPropagation());  // keys of the page are not meant now
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/* ---- what there is ---- */
function actions() {
  const buttons = [...pointers.querySelectorAll("button[id]")].filter((each) => each.checkVisibility() && !each.disabled && each.textContent.trim());
  const themes = { system: "as the system", light: "light", dark: "dark" };
  return [
    ...links().map((link) => ({ name: link.textContent, what: `page · g ${link.dataset.key}`, go: () => link.click() })),
    ...buttons.map((each) => ({ name: each.textContent.trim(), what: "on this page", go: () => { each.focus(); each.click(); } })),
    ...Object.entries(themes).map(([theme, words]) => ({ name: `Theme: ${words}`, what: "action", go: () => dispatchEvent(new CustomEvent("theme", { detail: theme })) })),
    { name: "Keys", what: "action · ?", go: showKeys },
  ];
}
const runsFor = (runs) => runs.map((run) => ({ name: run.name, what: `run · ${run.state}`, go: () => location.assign(`${root}/${runPath(run)}`) }));

/** Those that hold every word of the text; what begins with it comes first. */
export function matching(rows, text) {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word);
  const found = rows.filter((row) => words.every((word) => `${row.name} ${row.what}`.toLowerCase().includes(word)));
  const rank = (row) => (words.length && row.name.toLowerCase().startsWith(words[0]) ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b)).slice(0, MOST);
}

/* ---- the palette ---- */
function showPalette() {
  if (document.querySelector("dialog[open]")) return;
  let rows = actions(), shown = [], chosen = 0;
  const list = element("ul", { role: "listbox", id: "found", "aria-label": "Found" });
  const input = element("input", { role: "combobox", "aria-expanded": "true", "aria-controls": "found", "aria-label": "Find a page, run or action", placeholder: "page, run or action …", autocomplete: "off", spellcheck: "false" });
  const dialog = element("dialog", { class: "palette", "aria-label": "Find" }, input, list);
  const go = (row) => { dialog.close(); row.go(); };
  function draw() {
    shown = matching(rows, input.value);
    chosen = Math.max(0, Math.min(chosen, shown.length - 1));
    list.replaceChildren(...(shown.length ? shown.map((row, i) => element("li", { role: "option", id: `found-${i}`, "aria-selected": String(i === chosen), onclick: () => go(row) }, element("span", {}, row.name), element("small", {}, row.what)))
      : [element("li", { role: "option", "aria-disabled": "true", "aria-selected": "false" }, "nothing has these letters")]));
    input.setAttribute("aria-activedescendant", shown.length ? `found-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  }
  input.addEventListener("input", () => { chosen = 0; draw(); });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length) { event.preventDefault(); chosen = (chosen + step + shown.length) % shown.length; draw(); }
    else if (event.key === "Enter" && shown[chosen] && !event.isComposing) { event.preventDefault(); go(shown[chosen]); }
  });
  open(dialog);
  draw();
  ask("runs").then(({ runs }) => { rows = [...actions(), ...runsFor(runs)]; if (dialog.open) draw(); }, (error) => say(error.message, "error"));
}

/* ---- the keys ---- */
/** Rows of [key, what it does]; a page gives its own with `aria-keyshortcuts` on the control that it stands for. */
export function keysHere() {
  const own = [...document.querySelectorAll("main [aria-keyshortcuts]")].map((each) => [each.getAttribute("aria-keyshortcuts"), each.getAttribute("aria-label") || each.textContent.trim()]);
  return [...own, ...COMMON, ...links().map((link) => [`g ${link.dataset.key}`, link.textContent])];
}

function showKeys() {
  if (document.querySelector("dialog[open]")) return;
  const rows = keysHere().map(([key, what]) => element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, key)), element("td", {}, what)));
  const dialog = element("dialog", { class: "palette", "aria-labelledby": "keys-title" },
    element("h2", { id: "keys-title" }, "Keys"), element("div", { class: "scroll", tabindex: 0, role: "group", "aria-labelledby": "keys-title" }, element("table", {}, element("tbody", {}, ...rows))),
    element("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close"));
  open(dialog);
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") { event.preventDefault(); showPalette(); }
  else if (event.key === "?" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, textarea, select, [contenteditable]")) showKeys();
});
byId("find").addEventListener("click", showPalette);
