// Weights of token shards: what they come to follows what is typed, by the code that trains on it.
import { ask, byId, element, root, say, short, showProblem, whole } from "./common.js";
import { pickFile } from "./files.js";
import { followJobs } from "./jobs.js";

const form = byId("form"), adding = byId("adding");
const state = { sources: [], plan: null, asked: 0, shown: 0 };
window.mixState = state;  // for tests
const wanted = new URLSearchParams(location.hash.slice(1));
for (const name of ["tokens", "context_tokens", "seed", "tokenizer"]) if (wanted.get(name)) form.elements[name].value = wanted.get(name);
for (const text of wanted.getAll("source")) {
  const [, name, path, weight] = text.match(/^([^=]+)=(.*):([\d.e+-]+)$/) || [];
  if (path) state.sources.push({ name, path, weight: Number(weight) || 1 });
}
pickFile(adding.elements.path, { kinds: "folder", title: "Choose a folder with token shards" });

const values = () => Object.fromEntries([...new FormData(form)]);
const lineOf = (each) => `${each.name}=${each.path}:${+each.weight.toPrecision(6)}`;
const lines = () => state.sources.map(lineOf);

function remember() {  // so that an address shows what one sees
  const now = new URLSearchParams();
  for (const line of lines()) now.append("source", line);
  for (const [name, text] of Object.entries(values())) if (text) now.set(name, text);
  history.replaceState(null, "", state.sources.length ? `#${now}` : location.pathname);
  const train = new URLSearchParams();
  for (const line of lines()) train.append("data", line);
  for (const [name, text] of [["limit", "tokens"], ["amount", values().tokens], ["context_tokens", values().context_tokens], ["seed", values().seed]]) train.set(name, text);
  byId("train").href = `${root}/train#${train}`;
}

async function plan() {
  remember();
  const number = (state.asked += 1);
  if (!state.sources.length) { state.shown = number; state.plan = null; drawNumbers(); return; }
  try {
    const found = await ask("data/mix", { body: { sources: lines().join("\n"), ...values() } });
    if (number < state.shown) return;  // a later answer is there already
    state.shown = number;
    state.plan = found;
    drawNumbers();
  } catch (error) { say(error.message, "error"); }
}
let timer = 0;
const soon = () => { clearTimeout(timer); timer = setTimeout(plan, 120); };

/** The rows with their sliders; numbers are filled in by `drawNumbers`, so that a slider is never replaced under the hand. */
function drawRows() {
  byId("rows").replaceChildren(...(state.sources.length ? state.sources.map(row) : [element("tr", {}, element("td", { colspan: 7, class: "hint" }, "No source yet. Token shards come from text: ", element("a", { href: `${root}/data/tokenize` }, "tokenize some"), ", or mamba-slm data tokenize TEXT --tokenizer PATH --out FOLDER"))]));
}

function row(each) {
  const slider = element("input", { type: "range", min: 0, max: 100, step: 1, "aria-label": `Weight of ${each.name}` });
  const exact = element("input", { type: "number", min: 0.001, step: "any", class: "weight", "aria-label": `Weight of ${each.name}, exactly` });
  const show = () => { exact.value = +each.weight.toPrecision(4); slider.value = each.weight; };
  slider.addEventListener("input", () => { each.weight = Math.max(Number(slider.value), 0.1); exact.value = each.weight; soon(); });
  exact.addEventListener("input", () => { if (Number(exact.value) > 0) { each.weight = Number(exact.value); slider.value = each.weight; soon(); } });
  show();
  const gone = element("button", { type: "button", class: "link", "aria-label": `Take ${each.name} out`, onclick: () => { state.sources = state.sources.filter((other) => other !== each); drawRows(); plan(); } }, "take out");
  const look = element("a", { href: `${root}/data/inspect#${new URLSearchParams({ path: each.path })}`, "aria-label": `Inspect ${each.name}` }, "inspect");
  return element("tr", { "data-name": each.name }, element("th", { scope: "row" }, each.name, element("div", { class: "hint" }, each.path)),
    element("td", { class: "weights" }, slider, exact),
    ...["share", "takes", "of", "epochs"].map((name) => element("td", { class: "number", "data-of": name }, "–")), element("td", {}, look, " · ", gone));
}

function drawNumbers() {
  const found = state.plan, broken = Boolean(found?.problem);
  showProblem(found?.problem);
  byId("train").parentElement.hidden = !found || broken;  // the training would refuse it, too
  byId("command").querySelector("code").textContent = found?.command || "";
  byId("command").hidden = !found?.command;
  byId("warnings").replaceChildren(...(found?.warnings || []).map((text) => element("li", {}, `⚠ ${text}`)));
  for (const tr of byId("rows").querySelectorAll("tr[data-name]")) {
    const each = found?.sources?.find((source) => source.name === tr.dataset.name);
    const set = (name, text) => { tr.querySelector(`[data-of=${name}]`).textContent = text; };
    set("share", each ? `${(100 * each.share).toFixed(1)}%` : "–");
    set("takes", each ? short(each.takes) : "–");
    set("of", each ? short(each.tokens) : "–");
    set("epochs", each ? `${each.epochs.toFixed(each.epochs < 10 ? 2 : 0)}${each.epochs > 4 ? " ⚠" : ""}` : "–");
    tr.dataset.epochs = each && each.epochs > 4 ? "many" : "few";
  }
  byId("remark").textContent = found?.first ? `The first ${whole(found.first.length)} rows of ${whole(found.tokens / Number(found.context))}. ${found.remark ? `${found.remark}.` : ""}` : "Nothing to show yet.";
  byId("first-rows").replaceChildren(...(found?.first || []).map(first));
}

/** One row as it is packed: a bar with a part for each document, and how each begins. */
function first(each) {
  const bar = element("div", { class: "packed", "aria-hidden": "true" }, ...each.pieces.map((piece) => {
    const part = element("span", {});
    part.style.flexGrow = piece.length;
    return part;
  }));
  const parts = each.pieces.map((piece) => element("li", {}, element("span", { class: "hint" }, `document ${whole(piece.document)}${piece.start ? ` from token ${whole(piece.start)}` : ""}, ${whole(piece.length)} tokens `), piece.text == null ? null : element("span", { class: "begins" }, piece.text)));
  return element("li", {}, element("h3", {}, `${whole(each.number + 1)} · ${each.source}`),
    bar, element("p", { class: "hint" }, `row ${whole(each.row)}, ${each.epoch ? `read ${each.epoch === 1 ? "once" : `${whole(each.epoch)} times`} before` : "new"}, ${whole(each.pieces.length + each.more)} ${each.pieces.length + each.more === 1 ? "document" : "documents"}`),
    element("ul", { class: "pieces" }, ...parts, each.more ? element("li", { class: "hint" }, `and ${whole(each.more)} more`) : null));
}

function add(typed) {
  const path = typed.trim().replace(/\/$/, "");
  if (!path) return;
  const base = path.split("/").filter((part) => part && part !== "." && part !== "train").pop()?.replace(/-tokens$/, "").replace(/[^\w.-]/g, "_") || "data";
  let name = base;
  for (let i = 2; state.sources.some((each) => each.name === name); i += 1) name = `${base}-${i}`;
  const mean = state.sources.reduce((sum, each) => sum + each.weight, 0) / state.sources.length || 50;
  state.sources.push({ name, path, weight: mean });
}
adding.addEventListener("submit", (event) => {
  event.preventDefault();
  add(adding.elements.path.value);
  adding.elements.path.value = "";
  drawRows();
  plan();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", soon);
function setWeights(of) {
  for (const each of state.sources) each.weight = of(each);
  drawRows();
  plan();
}
byId("equal").addEventListener("click", () => setWeights(() => 50));
byId("by-size").addEventListener("click", () => {
  const sizes = new Map((state.plan?.sources || []).map((each) => [each.name, each.rows]));
  const most = Math.max(...sizes.values(), 1);
  setWeights((each) => Math.max(100 * (sizes.get(each.name) || 0) / most, 0.001));
});
byId("writing")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try { say((await ask("data/mix/write", { body: { sources: lines().join("\n"), ...values(), out: byId("writing").elements.out.value } })).said); refresh(); } catch (error) { say(error.message, "error"); }
});
addEventListener("hashchange", () => location.reload());
const refresh = followJobs("jobs", (job) => job.command.startsWith("mamba-slm data mix "), { most: 3 });
ask("data/library").then(({ found }) => byId("shards").replaceChildren(...found.filter((each) => each.kind === "token shards").map((each) => element("option", { value: each.path })))).catch((error) => say(error.message, "error"));
for (const path of wanted.getAll("add")) add(path);
drawRows();
plan();
