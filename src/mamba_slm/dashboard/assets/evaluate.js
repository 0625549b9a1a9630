// Evaluations: the form, what was measured, and which of it is shown. The address holds the choice.
import { ask, byId, element, every, pointers, say, short, showProblem } from "./common.js";
import { followJobs, isCommand, jobCard } from "./jobs.js";
import { pickFile } from "./files.js";
import { Answers } from "./evaluate_answers.js";
import { listedScore, modelName, showScores, when } from "./evaluate_scores.js";

const form = byId("form");
const readOnly = pointers.dataset.readOnly === "yes";
const state = { list: null, shown: null, differences: null, plan: null, asked: 0 };
window.evaluateState = state;  // for tests
const MOST_BESIDE = 3;
const besides = () => (chosen().beside || "").split("\n").filter((at) => at);
const chosen = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));

function choose(changes) {
  const next = { ...chosen(), ...changes };
  for (const key of Object.keys(next)) if (next[key] == null || next[key] === "") delete next[key];
  history.replaceState(null, "", `#${new URLSearchParams(next)}`);
  show();
}

/* ---- the form ---- */
const kept = JSON.parse(sessionStorage.getItem("evaluate") || "{}");
for (const [name, value] of Object.entries({ ...kept, ...(chosen().model ? { model: chosen().model } : {}) })) if (form.elements[name]) form.elements[name].value = value;
for (const [name, kinds] of [["model", "folder"], ["texts", "any"], ["data_dir", "folder"], ["baseline", "folder"]]) pickFile(form.elements[name], { kinds });
const values = () => Object.fromEntries([...new FormData(form)]);

function fitForm() {
  const what = form.elements.what.value;
  for (const part of form.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(what);
  const names = form.elements.benchmarks.value.split(",").map((name) => name.trim());
  for (const box of form.querySelectorAll(".benchmark")) box.checked = names.includes(box.value);
}

async function plan() {
  fitForm();
  sessionStorage.setItem("evaluate", JSON.stringify(values()));
  const number = (state.asked += 1);
  try {
    const found = await ask("evaluate/plan", { body: values() });
    if (number < state.asked) return;
    state.plan = found;
    showProblem(found.problem);
    byId("command").hidden = byId("command-title").hidden = !found.command;
    byId("asks").textContent = found.asks;
    byId("command").querySelector("code").textContent = found.command || "";
    for (const id of ["start", "enqueue"]) if (byId(id)) byId(id).disabled = Boolean(found.problem);
  } catch (error) { say(error.message, "error"); }
}

let timer = 0;
form.addEventListener("input", (event) => {
  if (event.target.matches(".benchmark")) {
    const names = form.elements.benchmarks.value.split(",").map((name) => name.trim()).filter((name) => name && name !== event.target.value);
    if (event.target.checked) names.push(event.target.value);
    form.elements.benchmarks.value = names.join(",");
  }
  clearTimeout(timer);
  timer = setTimeout(plan, 150);
});
for (const button of form.querySelectorAll(".suite")) button.addEventListener("click", () => { form.elements.benchmarks.value = button.dataset.names; plan(); });

async function start(isQueued) {
  for (const id of ["start", "enqueue"]) byId(id).disabled = true;
  try {
    say((await ask("evaluate/start", { body: { ...values(), is_queued: isQueued } })).said);
    form.elements.name.value = "";
    refreshJobs();
  } catch (error) { say(error.message, "error"); } finally { plan(); }
}
form.addEventListener("submit", (event) => { event.preventDefault(); if (byId("start")) start(false); });
byId("enqueue")?.addEventListener("click", () => { if (form.reportValidity()) start(true); });

/* ---- what was measured ---- */
/** The card of a job with how far it is, and with its results when they are there. */
function jobWith(job, refreshJob) {
  const [, done, all] = (job.state === "running" && /([\d,]+) of ([\d,]+) answers$/.exec(job.last_line || "")) || [];
  const number = (text) => Number(text.replaceAll(",", ""));
  const row = job.state === "ended" && state.list?.find((each) => each.kind !== "unfinished" && job.command.includes(each.folder));
  return jobCard(job, refreshJob, { more: [done ? element("progress", { max: number(all), value: number(done), "aria-label": "Answers" }) : null,
    row ? element("button", { type: "button", class: "link", onclick: () => { choose({ show: row.at, beside: null, task: null, from: null }); draw(); } }, "Show the results") : null] });
}

async function goOn(row) {
  try { say((await ask("evaluate/resume", { body: { at: row.at } })).said); refreshJobs(); } catch (error) { say(error.message, "error"); }
}

let ended = null;
const refreshJobs = followJobs("jobs", (job) => isCommand(job, "eval", "probe"), { most: 6, card: jobWith, onchange: (jobs) => {
  const now = jobs.filter((job) => !["waiting", "running"].includes(job.state)).map((job) => job.id).join();
  if (ended !== null && now !== ended) refresh();
  ended = now;
} });

let last = "";
const refresh = every(10, async () => {
  const found = await ask("evaluations");
  const now = JSON.stringify(found);
  if (now === last) return;
  last = now;
  state.list = found.evaluations;
  byId("models").replaceChildren(...found.models.map((model) => element("option", { value: model.path }, model.name)));
  byId("list-note").hidden = state.list.length > 0 && !found.more;
  byId("list-note").textContent = found.more ? `The newest ${state.list.length}; ${found.more} older ones are not listed.`
    : "Nothing was measured yet below the homes and the folder of the dashboard. The form starts the first evaluation; in a terminal: mamba-slm eval RUN --perplexity TEXT --out scores";
  byId("list-table").hidden = !state.list.length;
  draw();
  show();
  refreshJobs.redraw();  // with a way to the results that are listed now
});

function draw() {
  const at = chosen().show, beside = besides();
  byId("list").replaceChildren(...state.list.map((row) => {
    const label = (what) => `${what} ${row.name}`;
    const pick = (type, name, checked, disabled) => element("td", {}, element("input", { type, name, value: row.at, checked, disabled, "aria-label": label(name) }));
    return element("tr", {}, pick("radio", "show", row.at === at, Boolean(row.problem) || row.kind === "unfinished"),
      pick("checkbox", "beside", beside.includes(row.at), row.kind !== "questions" || Boolean(row.problem)),
      element("td", {}, element("b", {}, modelName(row)), element("small", {}, row.name)),
      element("td", {}, ...outcome(row)), element("td", { class: "number" }, when(row.created)));
  }));
}

function outcome(row) {
  if (row.problem) return [element("span", { class: "problem" }, row.problem)];
  if (row.kind === "unfinished") return [`${row.answers.toLocaleString("en")} answers, not finished `, readOnly ? "" : element("button", { type: "button", class: "link", "aria-label": `Go on with ${row.name}`, onclick: () => goOn(row) }, "go on ▸")];
  if (row.texts?.length) return ["perplexity of texts: " + row.texts.slice(0, 3).map((one) => `${(one.text || "").split("/").pop()} ${short(one.token_perplexity, 4)} (${short(one.bits_per_byte, 4)} bits/byte)`).join("; ") + (row.texts.length > 3 ? " and more" : "")];
  if (row.kind !== "questions") return [{ texts: "perplexity of texts", probe: "finding again in long texts", speed: "speed", baselines: "beside compressors and a trigram" }[row.kind]];
  const parts = row.shown.slice(0, 3).map(listedScore);
  const more = row.shown.length > 3 ? ` and ${row.shown.length - 3} more` : "";
  return [parts.join(", ") + more, row.limit ? element("span", { class: "badge", title: "not to be compared with others" }, `first ${row.limit} only`) : ""];
}

byId("list").addEventListener("change", ({ target }) => {
  const beside = target.checked ? [...besides(), target.value] : besides().filter((at) => at !== target.value);
  if (target.name === "show") choose({ show: target.value, task: null, from: null });
  else if (beside.length <= MOST_BESIDE) choose({ beside: beside.join("\n"), task: null, from: null });
  else { target.checked = false; say(`At most ${1 + MOST_BESIDE} evaluations beside each other: take one away first.`); }
});

/* ---- what is shown ---- */
const answers = new Answers((changes) => choose(changes));
let drawn = "";
async function show() {
  const { show: at, beside: _, ...rest } = chosen();
  const row = state.list?.find((each) => each.at === at);
  const others = row?.kind === "questions" ? besides().filter((each) => each !== at).map((each) => state.list.find((one) => one.at === each)).filter((each) => each) : [];
  const other = others.length === 1 ? others[0] : null;  // its answers can be read beside those of the first
  const now = JSON.stringify([row, others]);
  if (state.list && now !== drawn) {
    drawn = now;
    state.shown = state.differences = null;
    try {
      const shown = row ? await ask(`evaluations/one?at=${encodeURIComponent(at)}`) : null;
      const found = await Promise.all(others.map(async (each) => ({ other: each, ...await ask(`evaluations/differences?at=${encodeURIComponent(at)}&beside=${encodeURIComponent(each.at)}`) })));
      if (now !== drawn) return;  // another one was chosen meanwhile
      Object.assign(state, { shown, differences: other ? found[0] : null });
      const read = (task, which) => { choose({ task, which, from: null }); byId("answers").scrollIntoView({ block: "start" }); };
      showScores(byId("scores-body"), state.shown, { differences: state.differences, other, read, many: found.length > 1 ? found : null,
        only: (one) => { choose({ beside: one }); draw(); },
        evaluate: (path) => { form.elements.model.value = path; plan(); form.elements.model.focus(); },
        without: () => { choose({ beside: null }); draw(); }, readOnly });
    } catch (error) { if (now === drawn) say(`${row?.name} cannot be shown: ${error.message}`, "error"); }  // refused, or a file of another make
  }
  if (state.list) await answers.show(state.shown, other && state.differences ? other : null, rest);
}
addEventListener("hashchange", () => { if (chosen().model) { form.elements.model.value = chosen().model; plan(); } draw(); show(); });
plan();
