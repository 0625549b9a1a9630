// One server: what its /metrics said during the last minute and since its start, its last requests, how to ask it.
import { ask, byId, bytes, commandLine, duration, element, every, pointers, quoted, root, say, short, whole } from "./common.js";
import { Chart, color, Cursor } from "./chart.js";
import { jobPath } from "./jobs.js";

export const keyOf = (server) => (server.at ? `at ${server.at}` : `${server.home}/${server.job}`);
export const live = { key: null, of: null, points: [], found: null, elsewhere: new Map() };  // elsewhere: key -> {address, key}

const known = () => { try { return JSON.parse(localStorage.getItem("watched") || "[]"); } catch { return []; } };
/** From now on the address of a page may name this server: a link from elsewhere lets nobody be asked before. */
export function watchElsewhere(server, key) {
  live.elsewhere.set(keyOf(server), { at: server.at, address: server.address, key });
  localStorage.setItem("watched", JSON.stringify([...new Set([server.at, ...known()])].slice(0, 20)));
}

/** Which server the address of this page names: server=HOME/JOB or at=ADDRESS. */
export function fromHash() {
  const hash = new URLSearchParams(location.hash.slice(1));
  const at = hash.get("at");
  if (at && !live.elsewhere.has(`at ${at}`) && known().includes(at)) live.elsewhere.set(`at ${at}`, { at, address: at, key: "" });
  live.key = live.elsewhere.has(`at ${at}`) ? `at ${at}` : /^\d+\/\d+$/.exec(hash.get("server"))?.[0] ?? null;
  if (at && live.key === null) {
    byId("elsewhere").elements.address.value = at;
    byId("elsewhere").closest("details").open = true;
  }
}
fromHash();

const clock = (at) => new Date(1000 * at).toLocaleTimeString("en-GB");
const time = (seconds) => (seconds == null ? "–" : seconds < 1 ? `${+(1000 * seconds).toPrecision(2)} ms` : duration(seconds));
const share = (part) => (part == null ? "–" : `${Math.round(100 * part)}%`);
const cursor = new Cursor();
const chart = (name, format) => new Chart(byId(`chart-${name}`), { cursor, format, formatX: clock });
const charts = { requests: chart("requests", (v) => short(v)), load: chart("load", (v) => short(v)), first_token: chart("first_token", time), speed: chart("speed", (v) => short(v)) };

const NAMES = { first_token: "first token", token_gap: "between tokens", request: "whole request", queue: "waiting for a slot" };
const about = (row, name) => {
  if (row?.[name] == null) return "–";
  const [low, high] = row[`${name}_bounds`];
  const [from, to] = [time(low).split(" "), time(high).split(" ")];
  return high == null ? `> ${time(low)}` : `≈ ${time(row[name])} (${low ? `${from[1] === to[1] ? from[0] : from.join(" ")}–` : "≤ "}${to.join(" ")})`;
};

function figures({ gauges, minute, start }) {
  const set = (name, text, title) => { byId(`figure-${name}`).textContent = text; byId(`figure-${name}`).title = title || ""; };
  const middle = (name) => (minute?.times[name].p50 == null ? "–" : `≈ ${time(minute.times[name].p50)}`);
  const since = minute || start;
  const few = minute?.ended > 0 && minute.ended < 100 ? "≈ " : "";
  set("requests_per_minute", minute ? `${few}${short(minute.requests_per_minute, few ? 2 : 3)}` : "–", "requests that ended");
  set("first_token", middle("first_token"));
  set("token_gap", middle("token_gap"));
  set("new_tokens_per_second", minute ? short(minute.new_tokens_per_second) : "–");
  set("running", gauges ? `${whole(gauges.running)} of ${whole(gauges.slots)}` : "–", "slots that are used");
  set("waiting", gauges ? whole(gauges.waiting) : "–", gauges ? `${whole(gauges.queue_capacity)} may wait` : "");
  set("kv_share", gauges ? share(gauges.kv_share) : "–", "of the blocks of keys and values that running requests hold");
  set("cached_share", since ? share(since.cached_share) : "–", "tokens of prompts whose states were there");
  set("errors", start ? whole(start.errors + start.failed) : "–", start ? `since the start; and ${whole(start.refused)} requests refused with a status of 400 to 499` : "");
  set("memory_bytes", gauges ? bytes(gauges.memory_bytes) : "–", gauges?.cache_bytes == null ? "" : `of the process; its prefix cache holds ${bytes(gauges.cache_bytes)} of ${bytes(gauges.cache_capacity_bytes)}`);
  byId("live-window").textContent = !start ? "" : `${minute ? `Over the last ${duration(minute.seconds)}: ${whole(minute.ended)} requests ended, ${whole(minute.new_tokens)} new tokens. ` : ""}Since the start: ${whole(start.ended)} requests, ${whole(start.prompt_tokens)} tokens of prompts (${share(start.cached_share)} reused), ${whole(start.new_tokens)} new; ${whole(start.refused)} refused, ${whole(start.errors + start.failed)} failed.`;
  byId("times").replaceChildren(...Object.entries(NAMES).map(([name, title]) => {
    const [now, all] = [minute?.times[name], start?.times[name]];
    return element("tr", {}, element("th", { scope: "row" }, title), ...[now ? whole(now.count) : "–", about(now, "p50"), about(now, "p95"), all ? whole(all.count) : "–", about(all, "p50"), about(all, "p95")].map((text) => element("td", {}, text)));
  }));
}

function curves() {
  const x = live.points.map((point) => point.at);
  const line = (name, number, title = name) => ({ x, mean: live.points.map((point) => point[name]), color: color(number), name: title });
  charts.requests.show([line("requests_per_minute", 0)], {});
  charts.load.show([line("running", 0), line("waiting", 1)], {});
  charts.first_token.show([line("first_token", 3)], {});
  charts.speed.show([line("new_tokens_per_second", 4)], {});
}

function request(row) {
  const cells = [row.status, `${row.method} ${row.path}`, row.prompt_tokens, row.new_tokens, row.seconds, row.key];
  return element("tr", {}, element("th", { scope: "row", title: row.id }, new Date(row.time).toLocaleTimeString("en-GB")),
    ...cells.map((value) => element("td", {}, value == null ? "–" : typeof value === "number" ? String(value) : value)));
}

function show(found) {
  const { server } = found;
  byId("live-state").textContent = server.state;
  byId("live-state").dataset.state = { ready: "running", loading: "waiting", ended: "done", silent: "failed" }[server.state];
  byId("live-log").hidden = byId("live-chat").hidden = Boolean(server.at);
  if (!server.at) {
    byId("live-log").href = jobPath({ home: server.home, id: server.job });
    byId("live-chat").href = `${root}/chat#model=${encodeURIComponent(server.model)}`;
    byId("live-chat").hidden = server.state !== "ready";
  }
  const problem = server.state === "loading" ? null : found.wants_key && server.at ? `${found.problem}: add it again, with the key` : found.problem;
  byId("live-problem").textContent = problem || "";
  byId("live-problem").hidden = !problem;
  byId("live-key").hidden = !found.wants_key || Boolean(server.at) || pointers.dataset.readOnly === "yes";
  if (found.wants_key && !byId("live-key").childElementCount) byId("live-key").replaceChildren(
    element("button", { type: "button", onclick: newKey }, "Make a key for this page"), commandLine(`mamba-slm api-keys add dashboard-metrics --metrics --file ${quoted(server.keys)}`));
  figures(found);
  const rows = (found.requests || []).map(request);
  byId("requests").replaceChildren(...(rows.length ? rows : [element("tr", {}, element("td", { colspan: 7, class: "hint" }, server.at ? "Its log is not here." : server.state === "loading" ? server.last_line || "It loads." : "None yet: ask it with one of the lines below."))]));
  byId("curl").hidden = !found.snippets;
  byId("curl").querySelector("code").textContent = found.snippets?.curl || "";
  byId("python").querySelector("code").textContent = found.snippets?.python || "";
}

async function newKey() {
  try { say((await ask(`serve/${live.key}/key`, { body: {} })).said); watched(); } catch (error) { say(error.message, "error"); }
}

/** Looks at once, at the server that is chosen now. */
export const watched = every(2, async () => {
  byId("live-some").hidden = !live.key;
  if (!live.key) return;
  if (live.of !== live.key) { Object.assign(live, { of: live.key, points: [], found: null }); byId("live-key").replaceChildren(); }
  const { key, points } = live;
  const after = points.length ? points[points.length - 1].at : 0;
  const other = live.elsewhere.get(key);
  const found = other ? await ask("serve/elsewhere", { body: { address: other.address, key: other.key, after } }) : await ask(`serve/${key}?after=${after}`);
  if (key !== live.key) return;
  live.found = found;
  points.push(...found.points);
  if (points.length > 1200) points.splice(0, points.length - 1200);
  show(found);
  curves();
});
