// What one does with a model: the form, its command while somebody types, and the jobs with what they found.
import { ask, byId, bytes, element, say, showProblem } from "./common.js";
import { followJobs, isCommand, jobCard } from "./jobs.js";
import { pickFile } from "./files.js";

const form = byId("form");
const state = { asked: 0, plan: null, outcomes: new Map(), jobs: [], ours: "" };
window.makeState = state;  // for tests
for (const [name, kinds] of [["model", "any"], ["other", "any"], ["calibration", "any"], ["text", "file"]]) pickFile(form.elements[name], { kinds });

export const inAddress = () => Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
export function setAddress(words) { location.hash = new URLSearchParams(words).toString(); }

/** The model that is shown goes into the form, with what the address says besides. */
export function prepare(found, wanted) {
  const from = found?.lineage?.[0]?.from;
  if (found?.is_ours) form.elements.model.value = state.ours = found.path;
  else if (found?.kind === "adapter") {
    form.elements.model.value = found.path;
    if (!wanted.do) form.elements.do.value = "merge";
  } else if (found?.path) {
    form.elements.model.value = from || state.ours;
    form.elements.other.value = found.path;
    if (!wanted.do) form.elements.do.value = "verify";
  }
  if (found?.is_ours && form.elements.do.value === "merge") form.elements.do.value = "quantize";
  for (const [name, value] of Object.entries(wanted)) if (form.elements[name] && (name !== "model" || !found)) form.elements[name].value = value;
  form.elements.out.value = wanted.out || "";
  plan();
  if (wanted.do) byId("make").scrollIntoView({ block: "start" });
}

function values() {
  const chosen = new Set([form.elements.do.value, form.elements.do.value === "export" ? form.elements.format.value : ""]);
  for (const place of form.querySelectorAll("[data-when]")) place.hidden = !place.dataset.when.split(" ").some((when) => chosen.has(when));
  const shown = (control) => control.name && !control.closest("[hidden]") && (control.type !== "radio" || control.checked) && (control.type !== "checkbox" || control.checked);
  return Object.fromEntries([...form.elements].filter(shown).map((control) => [control.name, control.type === "checkbox" ? "on" : control.value]));
}

async function plan() {
  const body = values();
  const number = (state.asked += 1);
  try {
    const found = await ask("models/plan", { body });
    if (number !== state.asked) return;
    state.plan = found;
    showProblem(found.problem);
    for (const id of ["start", "enqueue"]) if (byId(id)) byId(id).disabled = Boolean(found.problem);
    byId("command").querySelector("code").textContent = found.command || "";
    byId("command").hidden = !found.command;
    showSize(found.size);
  } catch (error) { say(error.message, "error"); }
}

function showSize(size) {
  const rows = size ? [["in BF16", size.bf16_bytes], ["the result", size.bytes], ...size.parts.map((part) => [`${part.name}`, part.bytes, part.stored])] : [];
  const most = Math.max(0, ...rows.map((row) => row[1]));
  byId("size").replaceChildren(...rows.map(([name, value, title]) => element("div", { title }, element("span", {}, name), element("meter", { min: 0, max: most, value, "aria-label": `${name}: ${bytes(value)}` }), element("span", {}, bytes(value)))));
  byId("how").textContent = size ? [size.how, ...size.remarks].join(". ") : "";
}

let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); values(); timer = setTimeout(plan, 150); });

async function start(isQueued) {
  for (const id of ["start", "enqueue"]) byId(id).disabled = true;
  try {
    say((await ask("models/start", { body: { ...values(), is_queued: isQueued } })).said);
    refresh();
  } catch (error) { say(error.message, "error"); } finally { plan(); }
}
form.addEventListener("submit", (event) => { event.preventDefault(); if (byId("start")) start(false); });
byId("enqueue")?.addEventListener("click", () => start(true));

/* ---- jobs with their result lines ---- */
function card(job, again) {
  const outcome = state.outcomes.get(`${job.home}/${job.id}`);
  const more = !outcome ? [] : [outcome.lines.length ? element("pre", { tabindex: 0, class: "outcome" }, outcome.lines.join("\n")) : null,
    outcome.out ? element("button", { type: "button", class: "link", onclick: () => setAddress({ model: outcome.out }) }, outcome.out) : null].filter((each) => each);
  return jobCard(outcome?.lines.length ? { ...job, last_line: null } : job, again, { more });
}

const refresh = followJobs("jobs", (job) => isCommand(job, "quantize", "export", "verify", "adapters"), { card, onchange: async (jobs) => {
  const before = state.jobs;
  state.jobs = jobs;
  const ended = jobs.filter((job) => job.state === "ended" && !state.outcomes.has(`${job.home}/${job.id}`));
  for (const job of ended) {
    try { state.outcomes.set(`${job.home}/${job.id}`, await ask(`models/outcome/${job.home}/${job.id}`)); } catch (error) { say(error.message, "error"); }
  }
  if (!ended.length) return;
  byId("jobs").replaceChildren(...state.jobs.map((job) => card(job, refresh)));
  if (before.length) { dispatchEvent(new Event("modelsChanged")); plan(); }  // the name that was proposed is taken now
} });
