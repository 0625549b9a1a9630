// All runs: filter, sort, choose; the chosen ones over each other, and the settings in which they differ.
import { ask, byId, element, every, FORMATS, root, runPath, say, short, whole } from "./common.js";
import { Chart, color } from "./chart.js";

const MOST = 8, POINTS = 400;
const id = (run) => `${run.home}/${run.name}`;
const state = { runs: [], series: new Map(), by: "run", down: true };
window.runsState = state;  // for tests
const wanted = new URLSearchParams(location.hash.slice(1));
const chosen = new Set(wanted.getAll("run").slice(0, MOST));
byId("filter").value = wanted.get("filter") || "";
for (const name of ["measure", "axis"]) if (wanted.get(name)) byId(name).value = wanted.get(name);

function remember() {  // so that an address shows what one sees
  const now = new URLSearchParams();
  if (byId("filter").value) now.set("filter", byId("filter").value);
  for (const each of chosen) now.append("run", each);
  if (chosen.size) for (const name of ["measure", "axis"]) now.set(name, byId(name).value);
  history.replaceState(null, "", now.size ? `#${now}` : location.pathname);
}

/* ---- filter and sort ---- */
const NUMBERS = { loss: "loss", validation: "validation_loss", step: "step", tokens: "tokens", time: "seconds", "bits/byte": "bits_per_byte" };
export function matches(run, filter) {
  return filter.trim().toLowerCase().split(/\s+/).filter((word) => word).every((word) => {
    const numeric = word.match(/^([a-z/]+)([<>])=?([\d.e+-]+)$/);
    if (numeric && NUMBERS[numeric[1]]) {
      const value = run[NUMBERS[numeric[1]]];
      return value != null && (numeric[2] === "<" ? value < Number(numeric[3]) : value > Number(numeric[3]));
    }
    const [, name, text] = word.match(/^(state|kind|tag):(.*)$/) || [];
    if (name === "tag") return run.tags.some((tag) => tag.toLowerCase().startsWith(text));
    if (name) return text.split(",").some((one) => String(run[name] || "").toLowerCase().startsWith(one));
    return `${run.name} ${run.note} ${run.tags.join(" ")}`.toLowerCase().includes(word);
  });
}
const FIELDS = { run: "name", state: "state", notes: "note", ...NUMBERS };
function sorted(runs) {
  const field = FIELDS[state.by];
  const order = (a, b) => (a == null ? (b == null ? 0 : 1) : b == null ? -1 : (a < b ? -1 : a > b ? 1 : 0) * (state.down ? -1 : 1));
  return [...runs].sort((a, b) => order(a[field], b[field]));
}

/* ---- the table ---- */
function row(run) {
  const box = element("input", { type: "checkbox", "aria-label": `Choose ${run.name}`, onchange: (event) => choose(run, event.target) });
  box.checked = chosen.has(id(run));
  const link = element("a", { href: `${root}/${runPath(run)}` }, run.name);
  const mark = box.checked ? element("span", { class: "key", "aria-hidden": "true" }) : null;
  if (mark) mark.style.background = color([...chosen].indexOf(id(run)));
  const cells = [["step", run.step], ["tokens", run.tokens], ["seconds", run.seconds], ["loss", run.loss], ["validation_loss", run.validation_loss], ["bits_per_byte", run.bits_per_byte]];
  const progress = run.steps ? ` ${Math.floor(100 * run.step / run.steps)}%` : "";
  return element("tr", { "data-run": id(run) }, element("td", {}, box), element("th", { scope: "row" }, mark, link),
    element("td", {}, element("span", { class: "state", "data-state": run.state }, run.state + progress)),
    ...cells.map(([name, value]) => element("td", { class: "number" }, value == null ? "–" : FORMATS[name](value))),
    element("td", {}, noteCell(run)));
}

function noteCell(run) {
  const shown = element("span", {}, ...run.tags.map((tag) => element("span", { class: "badge" }, tag)), run.tags.length ? " " : null, run.note);
  const edit = element("button", { type: "button", class: "link", "aria-label": `Edit the notes of ${run.name}`, onclick: () => {
    const note = element("input", { value: run.note, "aria-label": "Note", maxlength: 2000, placeholder: "note" });
    const tags = element("input", { value: run.tags.join(" "), "aria-label": "Tags, separated by spaces", placeholder: "tags" });
    const form = element("form", { class: "uses", onsubmit: async (event) => {
      event.preventDefault();
      try {
        await ask(`${runPath(run)}/notes`, { body: { note: note.value, tags: tags.value.split(/[\s,]+/).filter((tag) => tag) } });
        state.editing = null;
        refresh();
      } catch (error) { say(error.message, "error"); }
    }, onkeydown: (event) => { if (event.key === "Escape") { state.editing = null; show(); } } }, note, tags, element("button", {}, "Save"));
    state.editing = id(run);
    shown.parentElement.replaceChildren(form);
    note.focus();
  } }, run.note || run.tags.length ? "edit" : "add a note");
  return element("span", {}, shown, " ", edit);
}

function show() {
  const filter = byId("filter").value;
  const found = sorted(state.runs.filter((run) => matches(run, filter)));
  byId("count").textContent = `${whole(found.length)} of ${whole(state.runs.length)} runs`;
  const within = document.activeElement?.closest?.("#rows");  // keep the keyboard where it was
  const before = within ? [document.activeElement.closest("tr").dataset.run, [...document.activeElement.closest("tr").querySelectorAll("input,a,button")].indexOf(document.activeElement)] : null;
  byId("rows").replaceChildren(...(found.length ? found.map(row) : [element("tr", {}, element("td", { colspan: 10, class: "hint" }, ...(state.runs.length ? ["No run is like that."] : ["No run yet: ", element("a", { href: `${root}/` }, "start a quick run"), ", or ", element("a", { href: `${root}/train` }, "train on your own text"), "."])))]));
  if (before) [...byId("rows").rows].find((each) => each.dataset.run === before[0])?.querySelectorAll("input,a,button")[before[1]]?.focus();
  for (const button of document.querySelectorAll("button.sort"))
    button.closest("th").setAttribute("aria-sort", button.dataset.by === state.by ? (state.down ? "descending" : "ascending") : "none");
}

/* ---- chosen runs ---- */
const chart = new Chart(byId("overlay-chart"), { format: (v) => (FORMATS[byId("measure").value] || short)(v), formatX: (v) => (byId("axis").value === "cost" ? `$${short(v)}` : FORMATS[byId("axis").value](v)) });

function choose(run, box) {
  if (box.checked && chosen.size >= MOST) {
    box.checked = false;
    say(`At most ${MOST} runs over each other.`);
    return;
  }
  if (box.checked) chosen.add(id(run)); else chosen.delete(id(run));
  show();
  overlay().catch((error) => say(error.message, "error"));
}

function along(run, series) {
  const axis = byId("axis").value;
  if (axis !== "cost") return series[axis];
  return run.usd_per_second ? series.seconds.map((seconds) => seconds * run.usd_per_second) : [];
}

function lineOf(run, number) {
  const series = state.series.get(id(run));
  const measure = byId("measure").value;
  const base = { color: color(number), name: run.name };
  if (measure !== "validation") return { ...base, x: along(run, series), ...series[measure] };
  const x = along(run, series);
  const at = (step) => { let i = series.step.findIndex((each) => each >= step); if (i < 0) i = series.step.length - 1; return x[i]; };
  const rows = x.length ? series.validation.filter((each) => each.step != null) : [];
  return { ...base, x: rows.map((each) => (byId("axis").value === "step" ? each.step : at(each.step))), mean: rows.map((each) => each.loss), dots: true };
}

let overlays = 0;
async function overlay() {
  const number = (overlays += 1);
  remember();
  const runs = [...chosen].map((each) => state.runs.find((run) => id(run) === each)).filter((run) => run);
  byId("overlay-hint").hidden = runs.length > 0;
  byId("overlay-figure").hidden = !runs.length;
  byId("settings").hidden = !runs.length;
  if (!runs.length) { byId("difference").replaceChildren(); return; }
  await Promise.all(runs.map(async (run) => {
    const known = state.series.get(id(run));
    if (known && known.of === `${run.step} ${run.state}`) return;
    state.series.set(id(run), { ...(await ask(`${runPath(run)}/series?most=${POINTS}`)), of: `${run.step} ${run.state}` });
  }));
  if (number < overlays) return;  // other runs were chosen meanwhile
  const lines = runs.map(lineOf);
  chart.show(lines, { smoothing: Number(byId("smoothing").value), logarithmic: byId("logarithmic").checked });
  byId("legend").replaceChildren(...runs.map((run, number) => {
    const key = element("span", { class: "key", "aria-hidden": "true" });
    key.style.background = color(number);
    return element("li", {}, key, run.name, lines[number].x.length ? null : " (nothing to draw along this axis)");
  }));
  const { settings } = await ask(`compare?${runs.map((run) => `run=${encodeURIComponent(id(run))}`).join("&")}`);
  if (number < overlays) return;
  const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "setting"), ...runs.map((run) => element("th", { scope: "col" }, run.name))));
  const rows = Object.entries(settings).map(([name, values]) => element("tr", {}, element("th", { scope: "row" }, name), ...values.map((value) => element("td", {}, value == null ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value)))));
  byId("difference").replaceChildren(head, element("tbody", {}, ...(rows.length ? rows : [element("tr", {}, element("td", { colspan: runs.length + 1, class: "hint" }, runs.length > 1 ? "no setting differs" : "choose another run"))])));
}

addEventListener("hashchange", () => location.reload());  // an address with other runs was opened in this tab

/* ---- the loop ---- */
let last = "";
const refresh = every(2, async () => {
  const { runs } = await ask("runs");
  const now = JSON.stringify(runs);
  if (now === last || state.editing) return;
  last = now;
  state.runs = runs;
  show();
  await overlay();
});
byId("filter").addEventListener("input", () => { show(); remember(); });
for (const name of ["measure", "axis", "smoothing", "logarithmic"]) byId(name).addEventListener("input", () => overlay().catch((error) => say(error.message, "error")));
for (const button of document.querySelectorAll("button.sort"))
  button.addEventListener("click", () => {
    state.down = state.by === button.dataset.by ? !state.down : button.dataset.by === "run";
    state.by = button.dataset.by;
    show();
  });
