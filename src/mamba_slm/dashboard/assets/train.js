// The form of a training: the plan follows what is typed, and is made by the code of the command itself.
import { ask, byId, bytes, commandLine, duration, element, every, money, root, runPath, say, showProblem, short, whole } from "./common.js";
import { ended, isCommand, shownState } from "./jobs.js";
import { pickFile } from "./files.js";

const form = byId("form");
const state = { asked: 0, shown: 0, plan: null };
window.trainState = state;  // for tests
const kept = JSON.parse(sessionStorage.getItem("train") || "{}");
for (const [name, value] of Object.entries(kept)) if (form.elements[name]) form.elements[name].value = value;
const asked = new URLSearchParams(location.hash.slice(1));  // a link that fills the form: #data=…&preset=…
for (const name of new Set(asked.keys())) if (form.elements[name]) form.elements[name].value = asked.getAll(name).join("\n");
pickFile(form.elements.data, { title: "Choose text, a folder or token shards" });
const values = () => Object.fromEntries([...new FormData(form)]);

async function plan() {
  form.elements.amount.disabled = form.elements.limit.value === "pass";
  const body = { amount: "", ...values() };
  sessionStorage.setItem("train", JSON.stringify(body));
  const number = (state.asked += 1);
  try {
    const found = await ask("train/plan", { body });
    if (number < state.shown) return;  // a later answer is there already
    state.shown = number;
    showProblem(found.problem);
    for (const id of ["start", "enqueue"]) if (byId(id)) byId(id).disabled = Boolean(found.problem);
    for (const id of ["command", "dry-run"]) byId(id).querySelector("code").textContent = found.command ? byId(id).querySelector("code").textContent : "";  // never one that the form does not say
    if (found.settings) show(found);
  } catch (error) {
    say(error.message, "error");
  }
}

function show(found) {
  state.plan = found;
  const estimate = found.estimate;
  byId("command").querySelector("code").textContent = found.command;
  byId("dry-run").querySelector("code").textContent = found.dry_run;
  byId("layers").hidden = !found.model;
  byId("pattern").textContent = found.model?.pattern || "";
  byId("plan-parameters").textContent = estimate ? short(estimate.parameters) : "–";
  byId("plan-memory").textContent = estimate ? bytes(estimate.memory_bytes) : "–";
  byId("plan-time").textContent = found.settings.max_minutes ? `≤ ${duration(60 * found.settings.max_minutes)}` : duration(estimate?.seconds);
  byId("plan-cost").textContent = money(estimate?.cost_usd);
  byId("plan-cost").parentElement.hidden = estimate?.cost_usd == null;
  byId("plan-length").textContent = estimate?.steps != null ? `${whole(estimate.steps)} steps` : estimate?.tokens_per_second && found.settings.max_minutes
    ? `≈ ${short(60 * found.settings.max_minutes * estimate.tokens_per_second)} tokens` : "–";
  byId("how").textContent = !estimate ? "There is no estimate for weights that come from a folder." : `${estimate.fits === false ? `It does not fit into ${bytes(estimate.device_memory_bytes)}. ` : ""}${estimate.how}`;
  byId("how").dataset.bad = estimate?.fits === false;
  drawParts(estimate);
}

function drawParts(estimate) {
  const parts = Object.entries(estimate?.memory || {}).filter(([, size]) => size > 0).sort((a, b) => b[1] - a[1]);
  const total = parts.reduce((sum, [, size]) => sum + size, 0);
  byId("parts").replaceChildren(...parts.map(([name, size]) => element("div", {}, element("span", {}, name),
    element("meter", { min: 0, max: total, value: size, "aria-label": `${name}: ${bytes(size)}` }), element("span", {}, bytes(size)))));
}

let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(plan, 150); });

async function start(isQueued) {
  for (const id of ["start", "enqueue"]) byId(id).disabled = true;
  try {
    say((await ask("train/start", { body: { amount: "", ...values(), is_queued: isQueued } })).said);
    refresh();
  } catch (error) { say(error.message, "error"); } finally { plan(); }
}
form.addEventListener("submit", (event) => { event.preventDefault(); if (byId("start")) start(false); });
byId("enqueue")?.addEventListener("click", () => { if (form.reportValidity()) start(true); });

let last = "";
const refresh = every(1.5, async () => {
  const [{ runs }, { jobs }] = await Promise.all([ask("runs"), ask("jobs")]);
  const busy = runs.filter((run) => run.state === "running").map((run) => run.name);
  byId("busy").hidden = !busy.length;
  byId("busy").textContent = `${busy.join(", ")} ${busy.length === 1 ? "runs" : "run"} now. Start shares the machine; the queue waits for jobs that were started from here.`;
  const shown = jobs.filter((job) => isCommand(job, "train", "quickstart") || (!ended(job) && !isCommand(job, "serve"))).slice(0, 12).map((job) => ({ ...job, found: runs.find((run) => job.run && job.run.split("/").pop() === run.name && job.home === run.home) }));
  const now = JSON.stringify(shown.map((job) => [job.id, job.state, job.exit_code, job.found?.state, job.found?.step, job.last_line]));
  if (now === last) return;
  last = now;
  byId("jobs").replaceChildren(...(shown.length ? shown.map(card) : [element("p", { class: "hint" }, "Nothing yet.")]));
});

function card(job) {
  const failed = job.has_failed, [kind, words] = shownState(job);
  const name = job.run ? job.run.split("/").pop() : `job ${Number(job.id)}`;
  const back = async () => { try { say((await ask(`jobs/${job.home}/${job.id}/cancel`, { body: {} })).said); refresh(); } catch (error) { say(error.message, "error"); } };
  return element("article", { class: "card" },
    element("h3", {}, job.found ? element("a", { href: `${root}/${runPath(job.found)}` }, name) : name,
      element("span", { class: "state", "data-state": kind }, words)),
    job.found?.step != null ? element("span", {}, `step ${whole(job.found.step)}${job.found.loss != null ? `, loss ${short(job.found.loss, 4)}` : ""}`) : null,
    job.last_line && (failed || !job.found) ? element("code", { class: "last" }, job.last_line) : null,
    commandLine(job.command), job.state === "waiting" ? element("button", { type: "button", class: "quiet", onclick: back }, "Take back") : null);
}
plan();
