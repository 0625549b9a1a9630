// Curation: the funnel of one that ended, what each rule removed, and the form that starts another.
import { ask, byId, element, keepForm, say, showProblem, short, whole } from "./common.js";
import { pickFile } from "./files.js";
import { followJobs, jobCard } from "./jobs.js";

const MOST = 5;
const form = byId("form");
const state = { path: "", found: null, next: 0, asked: 0, planned: 0 };
window.curateState = state;  // for tests
keepForm(form);
const wanted = new URLSearchParams(location.hash.slice(1));
if (wanted.get("inputs")) form.elements.inputs.value = wanted.get("inputs");
pickFile(form.elements.inputs, { title: "Choose text to curate" });
pickFile(byId("folder"), { kinds: "folder", title: "Choose the folder of a curation" });
const percent = (share) => `${(100 * share).toFixed(1)}%`;

/* ---- what came of it ---- */
async function show(path) {
  state.path = path;
  byId("folder").value = path;
  history.replaceState(null, "", path ? `#${new URLSearchParams({ path })}` : location.pathname);
  if (!path) { byId("summary").textContent = "No curation has ended here yet: start one above."; return; }
  try {
    const found = await ask(`data/curation?path=${encodeURIComponent(path)}`);
    if (path !== state.path) return;  // another folder was chosen meanwhile
    state.found = found;
    say("");
    draw();
    removed(0);
  } catch (error) { if (path === state.path) say(error.message, "error"); }
}

function line(name, of, read, more = {}) {
  const bar = element("meter", { min: 0, max: Math.max(read, 1), value: more.left ?? of.documents, "aria-label": `left after ${name}` });
  return element("tr", { "data-rule": name }, element("th", { scope: "row" }, name), element("td", { class: "left" }, bar),
    element("td", { class: "number" }, more.isRemoved ? `−${whole(of.documents)}` : whole(of.documents)), element("td", { class: "number" }, percent(of.documents / Math.max(read, 1))),
    element("td", { class: "number" }, `≈ ${short(of.tokens)}`), element("td", {}, ...(more.examples || [])));
}

function examples(row) {
  if (!row.examples.length) return [];
  return [element("details", {}, element("summary", {}, `${row.examples.length} of them`), ...row.examples.map((one) => element("div", { class: "example" }, element("b", {}, one.id), ` ${one.reason}`, element("p", { class: "text" }, one.text)))),
    element("button", { type: "button", class: "link", "aria-label": `Read what ${row.rule} removed`, onclick: () => { byId("rule").value = row.rule; removed(0); byId("removed").scrollIntoView(); } }, "read them")];
}

function draw() {
  const found = state.found, read = found.read.documents;
  byId("summary").textContent = `${whole(read)} ${read === 1 ? "document" : "documents"} in, ${whole(found.written.documents)} out (${percent(found.written.documents / Math.max(read, 1))}); tokens are estimated: ${found.bytes_per_token} bytes each. From ${found.sources.map((each) => `${each.kind}=${each.name}`).join(", ")}. The whole report: ${found.report}`;
  byId("funnel").replaceChildren(line("read", found.read, read), ...found.rows.map((row) => line(row.rule, row, read, { left: row.left, isRemoved: true, examples: examples(row) })), line("written", found.written, read));
  const chosen = byId("rule").value;
  byId("rule").replaceChildren(element("option", { value: "" }, "all"), ...found.rows.map((row) => element("option", { value: row.rule }, `${row.rule} (${whole(row.documents)})`)));
  byId("rule").value = found.rows.some((row) => row.rule === chosen) ? chosen : "";
  const notes = [];
  if (found.cleaned_tokens) notes.push(`≈ ${short(found.cleaned_tokens)} tokens were taken out of documents that stay: ${Object.entries(found.changes).map(([what, count]) => `${whole(count)} ${what}`).join(", ")}`);
  for (const [what, count] of Object.entries(found.unread)) notes.push(`not counted: ${whole(count)} ${what}`);
  byId("notes").replaceChildren(...[...notes, ...found.problems, ...found.quarantined.map((text) => `left out after all attempts failed: ${text}`)].map((text) => element("li", {}, text)));
  drawScores(found.scores, found.drop_share);
}

/** How many documents have which score, in bars. */
function drawScores(scores, dropped) {
  const bars = Array.from({ length: 50 }, () => 0);
  for (const [score, count] of Object.entries(scores)) bars[Math.min(Math.floor(Number(score) / 2), 49)] += count;
  const most = Math.max(...bars);
  byId("scores-figure").hidden = !most;
  byId("scores").replaceChildren(...bars.map((count) => {
    const bar = element("span", {});
    bar.style.height = `${Math.max(count ? 3 : 0, 100 * count / Math.max(most, 1))}%`;
    return bar;
  }));
  byId("scores").setAttribute("aria-label", `Quality scores from 0 on the left to 1 on the right; the most documents, ${whole(most)}, have about ${((bars.indexOf(most) * 2 + 1) / 100).toFixed(2)}`);
  byId("scores-figure").querySelector("figcaption").textContent = `Quality scores of documents that passed the rules, from 0 to 1${dropped ? `; of each kind the lowest ${percent(dropped)} were dropped` : ""}`;
}

/* ---- what was removed ---- */
async function removed(first) {
  const number = (state.asked += 1);
  try {
    const found = await ask(`data/removed?${new URLSearchParams({ path: state.path, rule: byId("rule").value, first, most: MOST })}`);
    if (number < state.asked) return;
    state.next = found.next;
    byId("further").disabled = found.is_end;
    byId("removed-said").textContent = found.rows.length ? "" : first ? "These were all." : "Nothing was removed.";
    byId("removed-rows").replaceChildren(...found.rows.map((row) => element("li", {}, element("h3", {}, row.id),
      element("p", { class: "hint" }, `${row.rule}: ${row.value == null ? row.detail : `${short(row.value, 6)}, allowed is ${row.detail} ${row.threshold == null ? "" : short(row.threshold, 6)}`}`),
      row.text == null ? element("p", { class: "hint" }, "Its text was not kept: --keep-rejects keeps it.") : element("pre", { tabindex: 0, "aria-label": `Text of ${row.id}` }, row.text))));
  } catch (error) { say(error.message, "error"); }
}
byId("rule").addEventListener("change", () => removed(0));
byId("further").addEventListener("click", () => removed(state.next));
byId("folder").addEventListener("change", () => show(byId("folder").value.trim()));

/* ---- the form ---- */
const values = () => Object.fromEntries([...new FormData(form)]);
async function plan() {
  const number = (state.planned += 1);
  try {
    const found = await ask("data/curate/plan", { body: values() });
    if (number < state.planned) return;
    showProblem(found.problem);
    byId("command").hidden = !found.command;
    byId("command").querySelector("code").textContent = found.command || "";
    if (byId("start")) byId("start").disabled = Boolean(found.problem);
  } catch (error) { say(error.message, "error"); }
}
let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(plan, 150); });
async function begin(isEstimate) {
  try {
    say((await ask("data/curate/start", { body: { ...values(), is_estimate: isEstimate } })).said);
    refresh();
  } catch (error) { say(error.message, "error"); }
}
form.addEventListener("submit", (event) => { event.preventDefault(); if (byId("start")) begin(false); });
byId("estimate")?.addEventListener("click", () => begin(true));

/** The folder of a job's `--out`. */
const outOf = (job) => job.command.match(/ --out (?:'([^']+)'|(\S+))/)?.slice(1).find((text) => text);
const refresh = followJobs("jobs", (job) => job.command.startsWith("mamba-slm data curate "), {
  most: 6,
  card: (job, again) => jobCard(job, again, { more: job.state === "ended" && !job.has_failed && outOf(job) && !job.command.endsWith(" --dry-run") ? [element("button", { type: "button", class: "link", onclick: () => { show(outOf(job)); byId("result").scrollIntoView(); } }, "see what came of it")] : [] }),
});
addEventListener("hashchange", () => location.reload());
ask("data/library").then(({ found }) => {
  const folders = found.filter((each) => each.kind === "curated text" && !each.problem).map((each) => each.path);
  byId("folders").replaceChildren(...folders.map((path) => element("option", { value: path })));
  if (!state.path) return show(wanted.get("path") || folders[0] || "");  // else somebody was faster
}).then(() => { if (wanted.get("path")) byId("result").scrollIntoView(); }).catch((error) => say(error.message, "error"));
plan();
