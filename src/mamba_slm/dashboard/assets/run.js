// One run: increments of its metrics, appended to what the page has; nothing twice, nothing missed.
import { ask, byId, bytes, commandLine, duration, element, every, FORMATS, pointers, root, runPath, say, whole } from "./common.js";
import { Chart, color, Cursor } from "./chart.js";
import { usesOf } from "./uses.js";

const key = { home: pointers.dataset.home, name: pointers.dataset.name };
const path = runPath(key);
const MEASURES = ["loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_bytes"];
const AXES = ["step", "tokens", "seconds"];
const MOST = 600;  // points asked for; when live rows double them, they are asked for again
const state = { series: null, zoom: null, position: null, versions: {}, facts: {}, pages: [], events: [], asked: 0 };
window.runState = state;  // for tests

const cursor = new Cursor();
const axis = () => byId("axis").value;
const formatX = (value) => FORMATS[axis()](value);
const charts = {};
for (const name of [...MEASURES, "validation"])
  charts[name] = new Chart(byId(`chart-${name}`), { cursor, format: FORMATS[name], formatX, zoomed, picked });

/* ---- curves ---- */
async function readSeries() {
  const number = (state.asked += 1);
  const window = state.zoom ? `&first=${state.zoom[0]}&last=${state.zoom[1]}` : "";
  const series = await ask(`${path}/series?most=${MOST}${window}`);
  if (number < state.asked) return;  // another window was asked for meanwhile
  series.fresh = 0;
  state.series = series;
  state.position = series.position;
  drawCharts();
}

function append(rows) {
  const { series } = state;
  for (const row of rows.train) {
    if (state.zoom && row[0] > state.zoom[1]) continue;
    AXES.forEach((name, i) => series[name].push(row[i]));
    MEASURES.forEach((name, i) => {
      const value = row[AXES.length + i];
      const part = series[name];
      part.mean.push(value);
      if (part.low) { part.low.push(value); part.high.push(value); }
    });
    series.count += 1;
    series.fresh += 1;
  }
  for (const row of rows.validation) if (!state.zoom || row.step <= state.zoom[1]) series.validation.push(row);
}

function alongAxis(row) {  // validation rows have step and tokens; their time is that of the step before
  const { series } = state;
  if (axis() !== "seconds") return row[axis()];
  let i = series.step.findIndex((step) => step >= row.step);
  if (i < 0) i = series.step.length - 1;
  return i < 0 ? null : series.seconds[i];
}

function drawCharts() {
  const { series } = state;
  if (!series) return;
  const options = { smoothing: Number(byId("smoothing").value), marks: spikesOnAxis() };
  const x = series[axis()];
  MEASURES.forEach((name, i) => charts[name].show([{ x, ...series[name], color: color(i), name }], { ...options, logarithmic: name === "loss" && byId("logarithmic").checked }));
  const rows = series.validation.filter((row) => alongAxis(row) != null);
  const along = rows.map(alongAxis);
  charts.validation.show([
    { x: along, mean: rows.map((row) => row.loss), color: color(6), name: "loss", dots: true },
    { x: along, mean: rows.map((row) => row.bits_per_byte), color: color(7), name: "bits/byte", dots: true },
  ], { ...options, smoothing: 0, span: x.length ? [x[0], x[x.length - 1]] : null });
  if (byId("chart-values").open) drawTable();
}

function spikesOnAxis() {
  const { series } = state;
  if (!series || !series.step.length) return [];
  const scale = series[axis()];
  return state.events.filter((each) => ["spike", "diverged"].includes(each.event)).map((each) => {
    const i = series.step.findIndex((step) => step >= each.step + 1);
    return i < 0 ? null : scale[i];
  }).filter((x) => x != null);
}

function drawTable() {
  const { series } = state;
  const rows = Math.min(20, series.step.length);
  const head = element("thead", {}, element("tr", {}, ...["step", ...MEASURES].map((name) => element("th", { scope: "col" }, name.replaceAll("_", " ")))));
  const body = element("tbody");
  for (let k = 0; k < rows; k += 1) {
    const i = Math.round(k * (series.step.length - 1) / Math.max(1, rows - 1));
    body.append(element("tr", {}, element("th", { scope: "row" }, whole(series.step[i])), ...MEASURES.map((name) => element("td", {}, FORMATS[name](series[name].mean[i])))));
  }
  byId("chart-table").replaceChildren(byId("chart-table").caption, head, body);
}

function zoomed(first, last) {
  const { series } = state;
  if (first == null) state.zoom = null;
  else {  // from the shown axis to steps
    const scale = series[axis()];
    const begin = scale.findIndex((x) => x >= first);
    let end = scale.length - 1;
    while (end > 0 && scale[end] > last) end -= 1;
    if (begin < 0 || end <= begin) return;
    state.zoom = [series.step[begin], series.step[end]];
  }
  byId("whole").disabled = !state.zoom;
  readSeries().catch((error) => say(error.message, "error"));
}

function picked(x) {
  const { series } = state;
  const scale = series[axis()];
  let i = scale.findIndex((each) => each >= x);
  if (i < 0) i = scale.length - 1;
  turnTo(pageNear(series.step[i]));
}

/* ---- state and numbers ---- */
function showFacts(facts) {
  state.facts = facts;
  byId("state").textContent = facts.state;
  byId("state").dataset.state = facts.state;
  const of = facts.steps ? ` of ${whole(facts.steps)} (${Math.min(100, Math.floor(100 * facts.step / facts.steps))}%)` : "";
  const left = facts.seconds_left != null ? `, about ${duration(facts.seconds_left)} left` : "";
  byId("progress-text").textContent = `step ${whole(facts.step)}${of}${left}${facts.state === "running" && facts.message ? ` · ${facts.message}` : ""}`;
  byId("progress").hidden = !facts.steps;
  byId("progress").value = facts.steps ? Math.min(1, facts.step / facts.steps) : 0;
  for (const name of ["loss", "validation_loss", "bits_per_byte", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory_bytes", "seconds", "cost_usd"])
    byId(`figure-${name}`).textContent = FORMATS[name](facts[name]);
  byId("figure-cost_usd").parentElement.hidden = facts.cost_usd == null;  // nobody pays by the hour here
  const broken = ["crashed", "failed", "stopped"].includes(facts.state);
  byId("trouble").hidden = !broken;
  if (broken) {
    byId("trouble").dataset.state = facts.state;
    byId("trouble-title").textContent = facts.state === "stopped" ? `Stopped after step ${whole(facts.step)}: ${facts.message || "everything is saved"}`
      : facts.state === "crashed" ? `Stopped unexpectedly after step ${whole(facts.step)}: nobody owns this run any more`
      : `Failed after step ${whole(facts.step)}: ${facts.message}`;
    byId("trouble-line").textContent = facts.last_line || "";
    byId("trouble-line").parentElement.hidden = !facts.last_line;
    const took = facts.step > 0 || facts.state !== "failed";
    byId("trouble-how").replaceChildren(...(took ? ["Go on with:"] : ["It took no step. Its name may be used again with other settings on ", element("a", { href: `${root}/train#${new URLSearchParams({ name: facts.name })}` }, "Train"), "; the same once more:"]));
    byId("resume-command").hidden = false;
    byId("resume-command").querySelector("code").textContent = facts.resume_command || facts.cannot_resume || "";
  }
  if (byId("stop")) {
    byId("stop").hidden = facts.state !== "running";
    byId("stop").title = facts.stop_command;
    byId("resume").hidden = !facts.resume_command;
    byId("resume").title = facts.resume_command || "";
  }
  document.title = `${facts.state === "running" && facts.steps ? `${Math.floor(100 * facts.step / facts.steps)}% ` : ""}${facts.name} · mamba-slm`;
}

async function act(button, what, body) {
  button.disabled = true;
  try {
    say((await ask(`${path}/${what}`, { body })).said);
    update();
  } catch (error) { say(error.message, "error"); } finally { button.disabled = false; }
}
byId("stop")?.addEventListener("click", (event) => act(event.target, "stop", {}));
byId("resume")?.addEventListener("click", (event) => act(event.target, "resume", {}));

/* ---- samples ---- */
let playing = 0;
const pageNear = (step) => state.pages.reduce((best, page, i) => (Math.abs(page.step - step) < Math.abs(state.pages[best].step - step) ? i : best), 0);

function turnTo(number) {
  if (!state.pages.length) return;
  const i = Math.max(0, Math.min(state.pages.length - 1, number));
  byId("page").value = i;
  const page = state.pages[i];
  const prompt = Number(byId("prompt").value || 0);
  byId("page-step").textContent = `step ${whole(page.step)}`;
  const text = page.texts[prompt];
  byId("sample-text").replaceChildren(element("span", { class: "prompt" }, state.prompts[prompt] ?? ""), text == null ? "(no sample)" : text);
}

async function readSamples() {
  const { prompts, pages } = await ask(`${path}/samples`);
  const wasLast = Number(byId("page").value) >= state.pages.length - 1;
  state.pages = pages;
  state.prompts = prompts;
  byId("page").max = Math.max(0, pages.length - 1);
  byId("prompt-label").hidden = prompts.length < 2;
  if (byId("prompt").options.length !== prompts.length)
    byId("prompt").replaceChildren(...prompts.map((text, i) => element("option", { value: i }, text.slice(0, 60) || "(empty document)")));
  if (pages.length) turnTo(wasLast ? pages.length - 1 : Number(byId("page").value));
}
const turn = (far) => turnTo(Number(byId("page").value) + far);
byId("page").addEventListener("input", () => turn(0));
byId("prompt").addEventListener("change", () => turn(0));
byId("page-before").addEventListener("click", () => turn(-1));
byId("page-after").addEventListener("click", () => turn(1));
byId("page-play").addEventListener("click", () => {
  if (playing) { clearInterval(playing); playing = 0; byId("page-play").textContent = "Play"; return; }
  byId("page-play").textContent = "Pause";
  if (Number(byId("page").value) >= state.pages.length - 1) turnTo(0);
  playing = setInterval(() => { turn(1); if (Number(byId("page").value) >= state.pages.length - 1) byId("page-play").click(); }, 900);
});

/* ---- events, checkpoints, log ---- */
async function readEvents() {
  const { events } = await ask(`${path}/events`);
  state.events = events;
  const shown = events.map((each) => {
    const documents = each.documents.map((one) => element("tr", {}, element("td", {}, whole(one.row)), element("td", {}, whole(one.position)), element("td", {}, whole(one.tokens)), element("td", {}, typeof one.begins === "string" ? one.begins : JSON.stringify(one.begins))));
    const head = element("tr", {}, ...["row", "from", "tokens", "begins"].map((name) => element("th", { scope: "col" }, name)));
    return element("li", { "data-event": each.event },
      element("button", { type: "button", class: "link", onclick: () => turnTo(pageNear(each.step)) }, `step ${whole(each.step)}`), " ",
      element("b", {}, each.event), " ", each.text,
      documents.length ? element("details", {}, element("summary", {}, "The batch"), element("div", { class: "scroll", tabindex: 0 }, element("table", {}, element("thead", {}, head), element("tbody", {}, ...documents))),
        each.more_documents ? `and ${each.more_documents} more` : null) : null);
  });
  byId("event-list").replaceChildren(...(shown.length ? shown : [element("li", { class: "hint" }, "no spike, no interruption")]));
  drawCharts();
}

async function readCheckpoints() {
  const { checkpoints } = await ask(`${path}/checkpoints`);
  const rows = checkpoints.map((each) => element("tr", {},
    element("th", { scope: "row" }, whole(each.step), each.is_best ? element("span", { class: "badge" }, "best") : null),
    element("td", {}, bytes(each.bytes)),
    element("td", {}, element("div", { class: "uses" }, ...usesOf(each.path, "Chat", "Evaluate", "Export", "Quantize", "Fine-tune"))),
    element("td", {}, element("div", { class: "uses" }, ...Object.entries(each.commands).map(([name, command]) => element("button", { type: "button", class: "quiet", title: command, onclick: (event) => showCommand(event.target, command) }, name))))));
  byId("checkpoint-rows").replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { colspan: 4, class: "hint" }, "none yet"))]));
}

function showCommand(button, command) {
  byId("checkpoint-rows").querySelector(".shown")?.remove();
  button.closest("tr").after(element("tr", { class: "shown" }, element("td", { colspan: 4 }, commandLine(command))));
}

async function readLog() {
  const { text } = await ask(`${path}/log`);
  const place = byId("log-text");
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 40;
  place.textContent = text || "nothing yet";
  if (atEnd) place.scrollTop = place.scrollHeight;
}

/* ---- the loop ---- */
const PARTS = { samples: readSamples, events: readEvents, checkpoints: readCheckpoints, log: readLog };
const update = every(1, async () => {
  if (!state.series) await readSeries();
  if (!state.series) return;
  const after = state.position;
  const now = await ask(`${path}/live?after=${encodeURIComponent(after)}`);
  if (after !== state.position) return;  // a window was read meanwhile, with some of these rows
  if (!now.fits) await readSeries();
  else if (now.position !== state.position) {
    append(now);
    state.position = now.position;
    if (state.series.fresh > MOST) await readSeries(); else drawCharts();
  }
  showFacts(now.facts);
  for (const [name, read] of Object.entries(PARTS))
    if (state.versions[name] !== now.versions[name]) { await read(); state.versions[name] = now.versions[name]; }
});

for (const name of ["axis", "smoothing", "logarithmic"]) byId(name).addEventListener("input", drawCharts);
byId("whole").addEventListener("click", () => zoomed(null, null));
byId("chart-values").addEventListener("toggle", () => { if (state.series) drawTable(); });
