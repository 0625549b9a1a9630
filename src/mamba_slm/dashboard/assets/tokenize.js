// From text to tokens: the commands follow what is typed.
import { ask, byId, element, keepForm, root, say, showProblem } from "./common.js";
import { pickFile } from "./files.js";
import { followJobs, isCommand, jobCard } from "./jobs.js";

const form = byId("form");
const state = { plan: null, asked: 0 };
window.tokenizeState = state;  // for tests
keepForm(form);
const wanted = new URLSearchParams(location.hash.slice(1));
for (const name of ["inputs", "tokenizer", "out"]) if (wanted.get(name)) form.elements[name].value = wanted.get(name);
pickFile(form.elements.inputs, { title: "Choose text" });
pickFile(form.elements.tokenizer, { title: "Choose a run, a model or a tokenizer" });
const values = () => Object.fromEntries([...new FormData(form)]);

function line(id, text) {
  byId(id).hidden = !text;
  byId(id).querySelector("code").textContent = text || "";
}

async function plan() {
  const number = (state.asked += 1);
  try {
    const found = await ask("data/tokenize/plan", { body: values() });
    if (number < state.asked) return;
    state.plan = found;
    showProblem(found.problem);
    line("command", found.commands.at(-1));
    line("train-command", found.commands.length > 1 ? found.commands[0] : "");
    if (byId("start")) byId("start").disabled = Boolean(found.problem);
  } catch (error) { say(error.message, "error"); }
}
let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(plan, 150); });
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!byId("start")) return;
  try { say((await ask("data/tokenize/start", { body: values() })).said); refresh(); } catch (error) { say(error.message, "error"); } finally { plan(); }
});

/** Where one goes with the tokens of a job that ended. */
function next(job) {
  const out = job.command.match(/ data tokenize .* --out (?:'([^']+)'|(\S+))/)?.slice(1).find((text) => text);
  if (!out || job.state !== "ended" || job.has_failed) return [];
  const to = (page, values) => `${root}/${page}#${new URLSearchParams(values)}`;
  return [element("p", {}, element("a", { href: to("data/inspect", { path: out, tokenizer: out, view: "tokens" }) }, "inspect"), " · ", element("a", { href: to("data/mix", { add: out }) }, "mix"), " · ", element("a", { href: to("train", { data: out }) }, "train"))];
}
const refresh = followJobs("jobs", (job) => isCommand(job, "data") && ["tokenize", "train-tokenizer"].includes(job.command.split(" ")[2]), { most: 6, card: (job, again) => jobCard(job, again, { more: next(job) }) });
addEventListener("hashchange", () => location.reload());
ask("data/library").then(({ tokenizers }) => byId("tokenizers").replaceChildren(...tokenizers.map((path) => element("option", { value: path })))).catch((error) => say(error.message, "error"));
plan();
