// Servers: those that run, the form of another one, and keys. serve-live.js watches one of them.
import { ask, byId, commandLine, element, every, pointers, quoted, say, showProblem, whole } from "./common.js";
import { pickFile } from "./files.js";
import { buttons, jobPath } from "./jobs.js";
import { fromHash, keyOf, live, watched, watchElsewhere } from "./serve-live.js";

const form = byId("form");
const readOnly = pointers.dataset.readOnly === "yes";
const state = { servers: null, asked: 0, shown: 0, plan: null, live };
window.serveState = state;  // for tests

/* ---- the form ---- */
const given = new URLSearchParams(location.hash.slice(1));
for (const [name, value] of Object.entries(JSON.parse(sessionStorage.getItem("serve") || "{}"))) if (form.elements[name]) form.elements[name].value = value;
for (const [name, value] of given) if (form.elements[name]) form.elements[name].value = value;
if ([...form.querySelectorAll("details input")].some((each) => each.value)) form.querySelector("details").open = true;
pickFile(form.elements.model, { kinds: "folder", title: "Choose a run, a checkpoint or a model folder" });
for (const name of ["adapter_dir", "prefix_cache_dir"]) pickFile(form.elements[name], { kinds: "folder", title: "Choose a folder" });
pickFile(form.elements.api_keys, { kinds: "file", title: "Choose a file of keys" });
const values = () => Object.fromEntries([...new FormData(form)]);

async function plan() {
  const body = values();
  sessionStorage.setItem("serve", JSON.stringify(body));
  const number = (state.asked += 1);
  try {
    const found = await ask("serve/plan", { body });
    if (number < state.shown) return;  // a later answer is there already
    state.shown = number;
    state.plan = found;
    showProblem(found.problem);
    byId("command").querySelector("code").textContent = found.command;
    if (byId("start")) byId("start").disabled = Boolean(found.problem);
  } catch (error) { say(error.message, "error"); }
}
let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(plan, 150); });
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (readOnly) return;
  byId("start").disabled = true;
  try {
    const begun = await ask("serve/start", { body: values() });
    say(begun.said);
    choose(`${begun.home}/${begun.job}`);
    await refresh();
  } catch (error) { say(error.message, "error"); } finally { plan(); }
});

/* ---- the list ---- */
function choose(key) {
  live.key = key;
  const hash = new URLSearchParams(location.hash.slice(1));
  hash.delete("at"); hash.delete("server");
  if (live.elsewhere.has(key)) hash.set("at", live.elsewhere.get(key).at); else hash.set("server", key);
  history.replaceState(null, "", `#${hash}`);
  watched();
}
byId("which").addEventListener("change", (event) => choose(event.target.value));
addEventListener("hashchange", () => { fromHash(); watched(); });

function otherCard(server) {
  const forget = () => { live.elsewhere.delete(keyOf(server)); last = ""; refresh(); };
  return element("article", { class: "card" }, element("h3", {}, server.address, element("span", { class: "badge" }, "elsewhere")),
    element("div", { class: "uses" }, element("button", { type: "button", class: "quiet", onclick: () => { choose(keyOf(server)); byId("live").scrollIntoView(); } }, "Watch"),
      element("button", { type: "button", class: "quiet", onclick: forget }, "Forget")));
}
byId("elsewhere").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { address, key } = Object.fromEntries(new FormData(event.target));
  try {
    const { server } = await ask("serve/elsewhere", { body: { address, key } });
    watchElsewhere(server, key);
    event.target.reset();
    choose(keyOf(server));
    last = "";
    refresh();
  } catch (error) { say(error.message, "error"); }
});

function card(server) {
  const shown = { ready: "running", loading: "waiting", ended: "failed" }[server.state];
  const words = server.state === "ended" ? `failed${server.exit_code == null ? "" : ` with exit code ${server.exit_code}`}` : server.state;
  const job = { home: server.home, id: server.job, state: server.state === "ended" ? "ended" : "running" };
  return element("article", { class: "card" },
    element("h3", {}, server.name || server.model, element("span", { class: "state", "data-state": shown }, words)),
    server.address ? element("span", {}, `${server.address}/v1${server.keys ? " · needs a key" : " · no key needed"}`) : null,
    server.state !== "ready" && server.last_line ? element("code", { class: "last" }, server.last_line) : null,
    commandLine(server.command),
    element("div", { class: "uses" },
      server.state === "ended" ? null : element("button", { type: "button", class: "quiet", onclick: () => { choose(keyOf(server)); byId("live").scrollIntoView(); } }, "Watch"),
      element("a", { href: jobPath(job) }, "What it says"), ...buttons(job, () => refresh()).map((button) => { button.textContent = "Stop"; return button; })));
}

let last = "";
const refresh = every(2, async () => {
  const before = live.key;
  const { servers, models } = await ask("serve");
  const now = JSON.stringify([servers, models]);
  if (now === last) return;
  last = now;
  state.servers = servers;
  byId("models").replaceChildren(...models.map((path) => element("option", { value: path })));
  const others = [...live.elsewhere.values()];
  byId("cards").replaceChildren(...(servers.length || others.length ? [...servers.map(card), ...others.map(otherCard)] : [element("p", { class: "hint" }, "No server runs that was started from here. Fill in the form below, or type:"), commandLine(`mamba-slm serve ${quoted(models[0] || "runs/quickstart")}`)]));
  const alive = [...servers.filter((each) => each.state !== "ended"), ...others];
  byId("which").replaceChildren(...alive.map((each) => element("option", { value: keyOf(each) }, each.at ? each.address : `${each.name || each.model}${each.address ? ` at ${each.address.replace("http://", "")}` : ""}`)));
  const keys = alive.map(keyOf);
  if (live.key === before && !keys.includes(live.key)) live.key = keys.includes(given.get("server")) ? given.get("server") : keys[0] || null;
  byId("which").value = live.key || "";
  if (!form.elements.model.value && models.length) { form.elements.model.value = models[0]; plan(); }
  watched();
});

/* ---- keys ---- */
const keyForm = byId("key-form");
const DATE = new Intl.DateTimeFormat("en-CA");
async function keys(what, body) {
  const found = await ask(`keys/${what}`, { body });
  byId("key-command").querySelector("code").textContent = found.command;
  return found;
}
function keyRow(key) {
  const name = keyForm.elements.file.value;
  const remove = async () => { try { await keys("remove", { file: name, name: key.name }); say(`${key.name}: its key is refused from the next request on`); await listKeys(); } catch (error) { say(error.message, "error"); } };
  const cells = [key.id, key.role, DATE.format(1000 * key.created), key.requests_per_minute, key.tokens_per_minute];
  return element("tr", {}, element("th", { scope: "row" }, key.name), ...cells.map((value) => element("td", {}, typeof value === "number" ? whole(value) : value ?? "–")),
    element("td", {}, element("button", { type: "button", class: "quiet", "aria-label": `Remove the key of ${key.name}`, onclick: remove }, "Remove")));
}
let listed = 0;
async function listKeys() {
  const number = (listed += 1);
  const found = await keys("list", { file: keyForm.elements.file.value });
  if (number < listed) return;  // they were listed again meanwhile
  byId("key-rows").replaceChildren(...found.keys.map(keyRow));
  byId("key-table").hidden = !found.keys.length;
  byId("key-none").hidden = found.keys.length > 0;
  byId("key-none").textContent = found.problem || "There is no key in this file.";
}
if (keyForm) {
  keyForm.elements.file.addEventListener("change", () => { byId("key-made").hidden = true; listKeys().catch((error) => say(error.message, "error")); });
  keyForm.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { key } = await keys("add", Object.fromEntries([...new FormData(keyForm)]));
      byId("new-key").hidden = byId("key-made").hidden = false;
      byId("new-key").querySelector("code").textContent = key;
      keyForm.elements.name.value = "";
      await listKeys();
      plan();
    } catch (error) { say(error.message, "error"); }
  });
  listKeys().catch((error) => say(error.message, "error"));
}
plan();
