// The form of a further training: plan, reach and one example follow what is typed, made by the code of the command.
import { ask, byId, bytes, duration, element, money, pointers, root, runPath, say, showProblem, short, whole } from "./common.js";
import { pickFile } from "./files.js";
import { followJobs, isCommand, jobCard } from "./jobs.js";

const form = byId("form");
const readOnly = pointers.dataset.readOnly === "yes";
const state = { asked: 0, shown: 0, plan: null, example: null, number: 0 };
window.tuneState = state;  // for tests
pickFile(form.elements.model, { kinds: "folder", title: "Choose a run, a checkpoint or a model folder" });
pickFile(form.elements.data, { title: "Choose conversations, pairs or prompts" });
pickFile(form.elements.validation, { title: "Choose held-out examples" });
const BUTTONS = ["start", "enqueue", "dry"];
const KINDS = { M: "Mamba", "*": "attention", "-": "feed-forward" };

/* ---- the form, in the address ---- */
function fill() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) if (form.elements[name]) form.elements[name].value = value;
}
const values = () => Object.fromEntries([...new FormData(form)].filter(([, text]) => text !== ""));
function keep() {
  history.replaceState(null, "", `#${new URLSearchParams(values()).toString().replaceAll("%2F", "/").replaceAll("%3A", ":")}`);
}
addEventListener("hashchange", () => { form.reset(); fill(); state.number = 0; plan(); });

async function known() {
  try {
    const { models, sets } = await ask("tune/known");
    byId("known-models").replaceChildren(...models.map((model) => element("option", { value: model })));
    const data = form.elements.data;
    byId("sets").hidden = !sets.length;
    byId("sets").replaceChildren(element("small", {}, "rated: "), ...sets.map((source) => element("button", { type: "button", class: "quiet", onclick: () => {
      data.value = [...data.value.split("\n").filter((line) => line.trim() && line !== source), source].join("\n");
      if (form.elements.task.value === "finetune") form.elements.task.value = "dpo";
      plan();
    } }, source.length > 40 ? `…${source.slice(-38)}` : source)));
  } catch (error) { say(error.message, "error"); }
}

/* ---- the plan ---- */
async function plan() {
  const task = form.elements.task.value;
  byId("rewards").hidden = task !== "grpo";
  byId("learned").hidden = task !== "finetune";
  form.elements.epochs.placeholder = task === "finetune" ? "2" : "1";
  form.elements.batch.placeholder = task === "finetune" ? "8192 tokens" : "16 examples";
  for (const name of ["rank", "targets"]) form.elements[name].disabled = form.elements.method.value === "full";
  keep();
  const body = values(), number = (state.asked += 1);
  try {
    const found = await ask("tune/plan", { body });
    if (number < state.shown) return;  // a later answer is there already
    state.shown = number;
    showProblem(found.problem);
    for (const id of BUTTONS) if (byId(id)) byId(id).disabled = Boolean(found.problem);
    if (found.settings) show(found);
    look(found);
  } catch (error) { say(error.message, "error"); }
}

function show(found) {
  state.plan = found;
  byId("command").querySelector("code").textContent = found.command;
  byId("dry-run").querySelector("code").textContent = found.dry_run;
  const isRough = found.data && found.data.total !== found.data.read;
  byId("plan-model").textContent = found.parameters ? short(found.parameters) : "–";
  byId("plan-trained").textContent = found.trained ? `${short(found.trained)} · ${+(100 * found.trained / found.parameters).toPrecision(2)}%` : "–";
  byId("plan-steps").textContent = found.steps == null ? "–" : `${isRough ? "≈ " : ""}${whole(found.steps)}`;
  byId("plan-memory").textContent = bytes(found.memory_bytes);
  byId("plan-time").textContent = found.seconds == null ? "–" : `≈ ${duration(found.seconds)}`;
  byId("plan-cost").textContent = money(found.cost_usd);
  byId("plan-cost").parentElement.hidden = found.cost_usd == null;
  byId("plan-rate").textContent = found.learning_rate ? short(found.learning_rate[0], 2) : "–";
  const notes = [found.fits === false ? `It does not fit into the ${bytes(found.there)} of this ${found.on_gpu ? "GPU" : "computer"}.` : "", found.learning_rate ? `rate: ${found.learning_rate[1]}` : "", found.how, found.pace];
  byId("how").textContent = notes.filter((text) => text).join(" · ");
  byId("how").dataset.bad = found.fits === false;
  const parts = Object.entries(found.memory || {}).filter(([, size]) => size >= 1).sort((a, b) => b[1] - a[1]);
  byId("parts").replaceChildren(...parts.map(([name, size]) => element("div", {}, element("span", {}, name),
    element("meter", { min: 0, max: found.memory_bytes, value: size, "aria-label": `${name}: ${bytes(size)}` }), element("span", {}, bytes(size)))));
  showReach(found);
}

function showReach(found) {
  byId("coverage").hidden = !found.coverage;
  if (!found.coverage) return;
  const { sublayers, parts, in_full: full } = found.coverage;
  byId("layers").replaceChildren(...sublayers.map((on, i) => element("span", { "data-on": on ? "yes" : "no", title: `sublayer ${i}: ${KINDS[found.pattern[i]]}` }, found.pattern[i])));
  const kinds = Object.entries(KINDS).map(([letter, name]) => [name, sublayers.filter((on, i) => on && found.pattern[i] === letter).length, [...found.pattern].filter((each) => each === letter).length]);
  const words = kinds.filter(([, , all]) => all).map(([name, on, all]) => `${name} ${on} of ${all}`).join(", ");
  byId("layers").setAttribute("aria-label", `Sublayers that are trained: ${words}`);
  const small = parts.map(({ part, matrices, parameters }) => `${part} ${short(parameters)} in ${whole(matrices)}`).join(" · ");
  byId("reach").textContent = [words, small, full && parts.length ? `${short(full)} in full` : full ? "all weights" : ""].filter((text) => text).join(" · ");
}

/* ---- what it learns from ---- */
let looked = "";
async function look(found, isAgain = false) {
  if (readOnly) return;
  const said = found?.data?.said || [];
  byId("read").hidden = !said.length;
  byId("said").textContent = said.join("\n");
  if (!found?.data) { looked = ""; state.example = null; showExample(); return; }
  const wanted = JSON.stringify([values(), state.number, found.data]);
  if (wanted === looked && !isAgain) return;
  looked = wanted;
  let example = null;
  try { example = await ask("tune/look", { body: { ...values(), number: state.number } }); } catch (error) { if (wanted === looked) say(error.message, "error"); }
  if (wanted !== looked) return;  // something else was asked for meanwhile
  state.example = example;
  showExample();
}

function showExample() {
  const found = state.example, place = byId("example");
  byId("no-example").hidden = Boolean(found);
  for (const part of [byId("legend"), byId("borders").parentElement]) part.hidden = !found?.parts.some((each) => each.pieces);
  for (const id of ["earlier", "later"]) byId(id).disabled = !found;
  if (!found) { place.replaceChildren(); byId("which").textContent = ""; return; }
  state.number = found.number;
  byId("earlier").disabled = found.number === 0;
  byId("later").disabled = found.number + 1 >= found.count;
  const counts = found.tokens ? ` · ${whole(found.learned)} of ${whole(found.tokens)} tokens are learned` : "";
  byId("which").textContent = `example ${whole(found.number + 1)} of ${state.plan?.data?.total === state.plan?.data?.read ? "" : "the first "}${whole(found.count)} · ${found.origin}${counts}`;
  place.replaceChildren(...found.parts.map((part) => (part.pieces
    ? element("div", {}, ...part.pieces.map(([text, tokens, learned]) => element("span", { class: learned ? "token learned" : "token", title: tokens > 1 ? `${tokens} tokens` : null }, text)))
    : element("section", { "data-kind": part.kind }, element("h3", {}, part.title), part.text))));
}
const turn = (by) => { state.number = Math.max(0, state.number + by); look(state.plan, true); };
if (!readOnly) {
  byId("earlier").addEventListener("click", () => turn(-1));
  byId("later").addEventListener("click", () => turn(1));
  byId("borders").addEventListener("change", () => byId("example").classList.toggle("borders", byId("borders").checked));
}

/* ---- the start ---- */
let timer = 0;
form.addEventListener("input", () => { state.number = 0; clearTimeout(timer); timer = setTimeout(plan, 200); });
async function start(how) {
  for (const id of BUTTONS) byId(id).disabled = true;
  try { say((await ask("tune/start", { body: { ...values(), ...how } })).said); jobs(); } catch (error) { say(error.message, "error"); } finally { plan(); }
}
form.addEventListener("submit", (event) => { event.preventDefault(); if (byId("start")) start({}); });
form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(byId("start")); } });
byId("enqueue")?.addEventListener("click", () => { if (form.reportValidity()) start({ is_queued: true }); });
byId("dry")?.addEventListener("click", () => { if (form.reportValidity()) start({ is_dry: true }); });
/** Where the loop closes: the model before and after, compared blindly on the prompts that were rated. */
function again(job, name) {
  const found = /^mamba-slm align (\S+) \w+ (?:--data (\S+) )?/.exec(job.command);
  if (readOnly || job.state !== "ended" || job.has_failed || !found?.[2]?.startsWith("prefs:") || /['"]/.test(job.command)) return [];
  const words = new URLSearchParams({ "new-name": `${name}-after`, "new-models": `${found[1]}\n${job.run}`, "new-prompts": found[2] });
  return [element("a", { href: `${root}/rate#${words}` }, "Compare before and after, blindly")];
}
const jobs = followJobs("jobs", (job) => isCommand(job, "finetune", "align"), { card: (job, refresh) => {
  const name = job.run?.split("/").pop();
  return jobCard(job, refresh, name ? { title: element("a", { href: `${root}/${runPath({ home: job.home, name })}` }, name), more: again(job, name) } : {});
} });
fill();
known();
plan();
