// The machine now, who uses it, and the last examination.
import { ask, byId, bytes, commandLine, element, every, root, say, short, whole } from "./common.js";
import { Chart, color, Cursor } from "./chart.js";
import { jobPath } from "./jobs.js";

const state = { points: [], found: null };
window.systemState = state;  // for tests
const clock = (at) => new Date(1000 * at).toLocaleTimeString("en-GB");
const share = (part) => (part == null ? "–" : `${Math.round(100 * part)}%`);
const cursor = new Cursor();
const chart = (name, format) => new Chart(byId(`chart-${name}`), { cursor, format, formatX: clock });
const charts = { processor: chart("processor", share), memory: chart("memory", (v) => `${short(v)} GiB`), gpu: chart("gpu", share) };

function bar(name, part, text) {
  const value = part == null ? 0 : Math.min(1, Math.max(0, part));
  return element("div", {}, element("span", {}, name), element("meter", { min: 0, max: 1, value, "aria-label": `${name}: ${text}` }), element("span", {}, text));
}

function bars({ now, processors, disks }) {
  const of = processors.usable === processors.all ? `${processors.all} cores` : `${processors.all} cores, ${processors.usable} for us`;
  const rows = [bar("processor", now.busy_share, now.busy_share == null ? `of ${of}` : `${share(now.busy_share)} of ${of}`)];
  rows.push(bar("memory", now.total_bytes && now.used_bytes != null ? now.used_bytes / now.total_bytes : null, `${bytes(now.used_bytes)} of ${bytes(now.total_bytes)}`));
  for (const disk of disks) rows.push(bar(`disk of ${disk.path}`, disk.used_bytes / (disk.used_bytes + disk.free_bytes), `${bytes(disk.free_bytes)} free`));
  for (const card of now.gpus) {
    const more = [card.celsius == null ? null : `${whole(card.celsius)} °C`, card.watts == null ? null : `${whole(card.watts)} W`].filter((text) => text).join(", ");
    rows.push(bar(`GPU ${card.index}: ${card.name}`, card.busy_share, `${share(card.busy_share)}${more ? `, ${more}` : ""}`));
    rows.push(bar(`memory of GPU ${card.index}`, card.total_bytes ? card.used_bytes / card.total_bytes : null, `${bytes(card.used_bytes)} of ${bytes(card.total_bytes)}`));
  }
  byId("bars").replaceChildren(...rows);
  const said = [processors.load == null ? null : `${short(processors.load)} processes wanted a core, in the mean of the last minute`,
    now.gpu_problem || (now.gpus.length ? null : "no NVIDIA GPU: nvidia-smi is not there")].filter((text) => text);
  byId("now-said").textContent = `${said.join("; ")}.`;
}

function curves() {
  const x = state.points.map((point) => point.at);
  const line = (name, number) => [{ x, mean: state.points.map((point) => point[name]), color: color(number), name }];
  charts.processor.show(line("busy_share", 0), { bounds: [0, 1] });
  const gib = (value) => (value == null ? null : value / 2 ** 30);  // round numbers of it on the axis
  const memory = { x, mean: state.points.map((point) => gib(point.used_bytes)), color: color(3), name: "used" };
  charts.memory.show([memory], { bounds: [0, gib(state.points.at(-1)?.total_bytes) || 1] });
  byId("figure-gpu").hidden = !state.points.some((point) => point.gpu_share != null);
  charts.gpu.show(line("gpu_share", 2), { bounds: [0, 1] });
}

function user(row) {
  const cells = [row.pid, row.processes, row.cores == null ? "–" : row.cores.toFixed(2), bytes(row.memory_bytes), row.gpu_bytes == null ? "–" : bytes(row.gpu_bytes)];
  const what = row.path ? element("a", { href: `${root}/${row.path}` }, row.what) : row.is_ours ? row.what : `not ours: ${row.what}`;
  return element("tr", { "data-ours": row.is_ours }, element("th", { scope: "row" }, what), ...cells.map((text) => element("td", {}, String(text))));
}

/* ---- doctor ---- */
const form = byId("doctor-form");
const command = () => `mamba-slm doctor --json --measure ${form?.elements.measure.value || "none"}`;
form?.addEventListener("change", () => { byId("doctor-command").querySelector("code").textContent = command(); });
form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("examine").disabled = true;
  try { say((await ask("system/doctor", { body: { measure: form.elements.measure.value } })).said); refresh(); } catch (error) { say(error.message, "error"); byId("examine").disabled = false; }
});

const MARKS = { ok: "✓", note: "!", missing: "✗" };
function toMend(check) {
  return element("article", { class: "card", "data-status": check.status },
    element("h3", {}, `${MARKS[check.status]} ${check.name}`, element("span", { class: "badge" }, check.section)),
    element("span", {}, check.text), check.cost ? element("span", { class: "hint" }, `cost: ${check.cost}`) : null,
    check.hint ? commandLine(check.hint) : null);
}

let shown = "";
function examination(found) {
  const now = JSON.stringify(found);
  if (now === shown) return;
  shown = now;
  const runs = found && ["waiting", "running"].includes(found.state);
  if (byId("examine")) byId("examine").disabled = Boolean(runs);
  const place = byId("doctor-said");
  if (!found) { place.textContent = "Nothing was examined from here yet."; return; }
  const link = element("a", { href: jobPath({ home: found.home, id: found.job }) }, `job ${Number(found.job)}`);
  const when = new Date(1000 * found.created).toLocaleString("en-GB");
  place.replaceChildren(found.checks ? `${when}: ${found.summary}. ` : runs ? `It is being examined … ${found.last_line || ""} ` : `It ended without findings: ${found.last_line || "it said nothing"} `, link);
  const checks = found.checks || [];
  byId("to-mend").replaceChildren(...checks.filter((check) => check.status !== "ok").map(toMend));
  byId("all").hidden = !checks.length;
  const parts = [...new Set(checks.map((check) => check.section))];
  byId("checks").replaceChildren(...parts.flatMap((part) => [element("h3", {}, part), element("dl", {}, ...checks.filter((check) => check.section === part).map((check) =>
    element("div", {}, element("dt", {}, `${MARKS[check.status]} ${check.name}`), element("dd", {}, check.text, check.cost ? ` (cost: ${check.cost})` : null))))]));
}

const refresh = every(2, async () => {
  const { points } = state;
  const found = await ask(`system?after=${points.length ? points[points.length - 1].at : 0}`);
  state.found = found;
  points.push(...found.points);
  if (points.length > 900) points.splice(0, points.length - 900);
  bars(found);
  byId("rows").replaceChildren(...found.who.map(user));
  examination(found.doctor);
  curves();
});
