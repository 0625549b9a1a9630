// Blind comparison: pair after pair by keys, each choice on disk at once, what it comes to beside it.
import { ask, byId, duration, element, every, keepForm, pointers, root, say, showProblem, whole } from "./common.js";
import { pickFile } from "./files.js";
import { followJobs, isCommand } from "./jobs.js";

const readOnly = pointers.dataset.readOnly === "yes";
const state = { sets: [], models: [], now: null, since: 0, busy: false, editing: null, lost: false, asked: 0 };
window.rateState = state;  // for tests
const LABELS = {};
for (const button of document.querySelectorAll("#choices .choice")) LABELS[button.dataset.choice] = button.getAttribute("aria-label");
const SIDES = { left: ["left-much", "left"], right: ["right-much", "right"] };
const sideOf = (choice) => Object.keys(SIDES).find((side) => SIDES[side].includes(choice));

/* ---- which set: in the address ---- */
const address = () => new URLSearchParams(location.hash.slice(1));
const rater = () => byId("rater").value.trim() || "me";
const path = () => { const [home, ...name] = (address().get("set") || "").split("/"); return name.length && /^\d+$/.test(home) ? `rate/${home}/${encodeURIComponent(name.join("/"))}` : null; };
function go(set) {
  const found = address();
  for (const [name, text] of [["set", set], ["rater", rater() === "me" ? null : rater()]]) { if (text) found.set(name, text); else found.delete(name); }
  history.replaceState(null, "", `#${found.toString().replaceAll("%2F", "/")}`);
  look();
}

let last = "";
const refresh = every(3, async () => {
  const found = await ask("rate/sets");
  if (JSON.stringify(found) === last) return;
  last = JSON.stringify(found);
  Object.assign(state, found);
  showSets();
  if (!address().get("set") && found.sets.length) go(`${found.sets[0].home}/${found.sets[0].name}`);
  else if (!state.now) look();
});

function showSets() {
  const chosen = address().get("set");
  byId("set").replaceChildren(...state.sets.map((set) => element("option", { value: `${set.home}/${set.name}` },
    set.problem ? `${set.name} · ${set.problem}` : `${set.name} · ${whole(set.pairs)} pairs, ${whole(set.ratings)} ratings`)));
  if (chosen) byId("set").value = chosen;
  byId("no-sets").hidden = state.sets.length > 0;
  byId("no-sets").textContent = readOnly ? "There is no set of pairs yet." : "There is no set of pairs yet: let models answer prompts below, or take a file of pairs.";
  byId("known-models").replaceChildren(...state.models.map((model) => element("option", { value: model })));
  if (!byId("model").value && state.models.length) byId("model").value = state.models[0];
  if (state.now) showUse();
}

async function look() {
  if (!path()) return;
  const number = (state.asked += 1);
  try {
    const found = await ask(`${path()}?rater=${encodeURIComponent(rater())}`);
    if (number < state.asked) return;  // another set, or a choice, came meanwhile
    show(found);
    if (state.lost) say("");
    state.lost = false;
  } catch (error) { if (number < state.asked) return; byId("work").hidden = true; state.now = null; state.lost = true; say(error.message, "error"); }
}
byId("set").addEventListener("change", () => go(byId("set").value));
byId("rater").addEventListener("change", () => go(address().get("set")));
addEventListener("hashchange", () => { byId("rater").value = address().get("rater") || "me"; showSets(); look(); });
byId("rater").value = address().get("rater") || "me";

/* ---- what is shown ---- */
function show(found) {
  const isNew = state.now?.turn !== found.turn || state.now?.name !== found.name;
  state.now = found;
  if (isNew) { state.since = performance.now(); endEditing(); for (const side of ["left", "right"]) byId(side).scrollTop = 0; }
  byId("work").hidden = false;
  const shown = found.shown;
  byId("progress").max = Math.max(1, found.total);
  byId("progress").value = found.rated;
  byId("count").textContent = `${whole(found.rated)} of ${whole(found.total)}${found.today ? `, ${whole(found.today)} choices today` : ""}`;
  byId("steady").textContent = found.agreement.count ? `you agree with yourself ${share(found.agreement)}` : "some pairs come again with their sides exchanged, to see how steady you are";
  byId("prompt").replaceChildren(...(shown ? shown.prompt.map((message) => element("div", { class: "text" }, shown.prompt.length > 1 ? element("small", {}, message.role) : null, message.content)) : []));
  for (const id of ["prompt", "answers"]) byId(id).hidden = !shown;
  byId("all-rated").hidden = Boolean(shown);
  byId("all-rated").textContent = found.total ? "Every pair is rated. See below what it says, and train on it." : "This set has no pairs.";
  for (const side of ["left", "right"]) byId(side).textContent = shown ? shown[side] || "(empty)" : "";
  for (const button of document.querySelectorAll("#choices button")) button.disabled = !shown;
  if (byId("undo")) { byId("undo").disabled = !found.last; byId("undo").title = found.last ? `takes “${LABELS[found.last]}” back` : ""; }
  showResults(found.statistics);
  showUse();
}

const percent = (value) => `${Math.round(100 * value)}%`;
const share = ({ share: value, interval, count }) => (count ? `${percent(value)} [${Math.round(100 * interval[0])}–${Math.round(100 * interval[1])}], n=${whole(count)}` : "–, n=0");
const noise = ({ interval, count }) => count > 0 && interval[0] <= 0.5 && interval[1] >= 0.5;

function showResults(found) {
  const rows = [["pairs", whole(found.pairs)], ["ratings", whole(found.ratings)], ["same again, sides exchanged", share(found.self_agreement)],
    ["two raters say the same", share(found.rater_agreement)], ["left side chosen", share(found.left)], ["longer answer chosen", share(found.longer)],
    ["median time", duration(found.seconds)]].filter(([, text]) => !/n=0$|^–$/.test(text));
  byId("figures").replaceChildren(...rows.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text))));
  byId("duels").replaceChildren(...found.duels.map((duel) => element("tr", {}, element("th", { scope: "row" }, `${duel.models[0] || "unknown"} beats ${duel.models[1] || "unknown"}`),
    element("td", {}, `${noise(duel.wins) ? "≈ " : ""}${share(duel.wins)}`), element("td", {}, `${whole(duel.ties)} ties, ${whole(duel.both_bad)} both bad`))));
  byId("who").hidden = !found.duels.length;
  byId("remarks").replaceChildren(...state.now.remarks.filter((text) => !found.duels.some((duel) => duel.models.some((model) => model && text.startsWith(model)))).map((text) => element("li", {}, text)));
}

function showUse() {
  const { usable, data, home, name, commands } = state.now;
  const objective = byId("objective").value, count = objective === "kto" ? usable.answers : usable.pairs;
  byId("usable").textContent = count ? `${whole(count)} ${objective === "kto" ? "judged answers" : "pairs with a better answer"} about which the ratings agree; ties and skipped pairs teach nothing.` : "Nothing to learn from yet: say of some pairs which answer is better.";
  const words = new URLSearchParams({ task: objective, model: byId("model").value, data });
  byId("train").href = `${root}/tune#${words}`;
  byId("train").setAttribute("aria-disabled", count ? "false" : "true");
  const rows = { dpo: usable.pairs, kto: usable.answers, csv: state.now.statistics.ratings };
  byId("export-csv").parentElement.hidden = !rows.csv;
  for (const format of ["dpo", "kto", "csv"]) byId(`export-${format}`).hidden = !rows[format];
  for (const format of ["dpo", "kto", "csv"]) byId(`export-${format}`).href = `${root}/api/rate/${home}/${encodeURIComponent(name)}/export?format=${format}`;
  for (const what of ["rate", "stats", "export"]) { const line = byId(`command-${what}`); line.hidden = false; line.querySelector("code").textContent = commands[what]; }
}
byId("train").addEventListener("click", (event) => {
  if (byId("train").getAttribute("aria-disabled") === "true") { event.preventDefault(); say(byId("usable").textContent); }
});
for (const id of ["objective", "model"]) byId(id).addEventListener("input", () => { if (state.now) showUse(); });

/* ---- what is chosen ---- */
async function send(what, body) {
  if (state.busy || !state.now) return;
  state.busy = true;
  const number = (state.asked += 1);
  try {
    const found = await ask(`${path()}/${what}`, { body: { rater: rater(), ...body } });
    if (number === state.asked) show(found); else await look();  // another set was chosen meanwhile
    say("");
  } catch (error) {
    if (what === "choose" && /no longer/.test(error.message)) await look();
    say(error.message, "error");
  } finally { state.busy = false; }
}

function choose(choice, edited = null) {
  if (!state.now?.shown || state.busy) return;
  if (state.editing === "side") { beginEditing(choice); return; }
  const seconds = (performance.now() - state.since) / 1000;
  send("choose", { choice, edited, seconds, turn: state.now.turn });
}

function askSide() {
  if (!state.now?.shown) return;
  state.editing = "side";
  byId("asking").hidden = false;
  byId("asking").textContent = "Which one is better, and shall be edited? 1 2 A · 4 5 B · Escape leaves it.";
}
function beginEditing(choice) {
  const side = sideOf(choice);
  if (!side) { endEditing(); say("Only the better answer can be edited: nothing was chosen."); return; }
  state.editing = choice;
  byId("asking").hidden = true;
  byId("editor").hidden = false;
  const text = byId("editor").elements.edited;
  text.value = state.now.shown[side];
  text.focus();
}
function endEditing() {
  if (!state.editing) return;
  const held = byId("editor").contains(document.activeElement);
  state.editing = null;
  for (const id of ["asking", "editor"]) byId(id).hidden = true;
  if (held) byId("edit").focus();
}
function saveEdit() {
  const choice = state.editing, text = byId("editor").elements.edited.value;
  if (!text.trim() || text === state.now.shown[sideOf(choice)]) { say("Nothing was changed, so this is no edit: leave it, and press a key for your choice."); return; }
  state.editing = "saved";
  const seconds = (performance.now() - state.since) / 1000;
  send("choose", { choice, edited: text, seconds, turn: state.now.turn }).then(() => { if (state.editing === "saved") state.editing = choice; });
}

if (!readOnly) {
  for (const button of document.querySelectorAll("#choices .choice")) button.addEventListener("click", () => choose(button.dataset.choice));
  byId("undo").addEventListener("click", () => send("undo", {}));
  byId("edit").addEventListener("click", askSide);
  byId("leave").addEventListener("click", endEditing);
  byId("editor").addEventListener("submit", (event) => { event.preventDefault(); saveEdit(); });
  byId("editor").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); saveEdit(); }
  });
}
let before = { key: "", at: 0 };
document.addEventListener("keydown", (event) => {
  const isGo = before.key === "g" && event.timeStamp - before.at < 1500;  // g and a key go to another page
  before = { key: event.key, at: event.timeStamp };
  if (event.key === "Escape" && state.editing) { endEditing(); return; }
  if (isGo || event.repeat || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (event.key === "t" && state.now) { byId("train").click(); return; }
  if (readOnly) return;
  const button = document.querySelector(`#choices [data-key="${CSS.escape(event.key)}"]`);
  if (button) { event.preventDefault(); choose(button.dataset.choice); }  // or the key would be written into the editor that it opens
  else if (event.key === "u") send("undo", {});
  else if (event.key === "e") { event.preventDefault(); askSide(); }
});

/* ---- new pairs ---- */
const form = byId("form");
let timer = 0, asked = 0;
function values() {
  const found = Object.fromEntries([...new FormData(form)].filter(([, text]) => text !== ""));
  return found;
}
async function plan() {
  for (const part of form.querySelectorAll("[data-kind]")) part.hidden = part.dataset.kind !== form.elements.kind.value;
  const number = (asked += 1);
  try {
    const found = await ask("rate/plan", { body: values() });
    if (number !== asked) return;
    showProblem(found.problem);
    byId("begin").disabled = Boolean(found.problem);
    byId("command").hidden = !found.command;
    byId("command").querySelector("code").textContent = found.command || "";
  } catch (error) { say(error.message, "error"); }
}
if (form) {
  keepForm(form);
  for (const name of ["name", "models", "prompts", "seed"]) if (address().get(`new-${name}`)) form.elements[name].value = address().get(`new-${name}`);
  if (address().get("new-name")) { form.elements.name.closest("section").scrollIntoView(); }
  pickFile(form.elements.models, { kinds: "folder", title: "Choose a run, a checkpoint or a model folder" });
  for (const name of ["prompts", "file"]) pickFile(form.elements[name], { kinds: "file", title: name === "file" ? "Choose a file of pairs" : "Choose a file of prompts" });
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(plan, 150); });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("begin").disabled = true;
    try { say((await ask("rate/begin", { body: values() })).said); jobs(); } catch (error) { say(error.message, "error"); } finally { plan(); }
  });
  plan();
}
const jobs = followJobs("jobs", (job) => isCommand(job, "prefs"), { onchange: () => { last = ""; refresh(); if (state.now && !state.editing) look(); } });
