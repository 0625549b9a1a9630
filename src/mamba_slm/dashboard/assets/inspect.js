// Documents of a file, page by page: as text, as they stand in the file, as tokens, and with what is learned.
import { ask, byId, element, say, short, whole } from "./common.js";
import { pickFile } from "./files.js";
import { followJobs } from "./jobs.js";

const MOST = 5;
const form = byId("form");
const state = { page: null, first: 0, view: "text", like: null, before: [], asked: 0 };
window.inspectState = state;  // for tests
const wanted = new URLSearchParams(location.hash.slice(1));
for (const name of ["path", "tokenizer", "search", "key"]) form.elements[name].value = wanted.get(name) || "";
state.first = Math.max(0, (Number(wanted.get("number")) || 1) - 1);
state.like = Number(wanted.get("like")) >= 1 ? Number(wanted.get("like")) - 1 : null;
state.view = ["text", "raw", "tokens", "mask"].includes(wanted.get("view")) ? wanted.get("view") : "text";
byId("train-on").value = wanted.get("train_on") || "answers";
for (const radio of document.querySelectorAll("[name=view]")) radio.checked = radio.value === state.view;
pickFile(form.elements.path, { title: "Choose a file, a folder or token shards" });
pickFile(form.elements.tokenizer, { title: "Choose a run, a model or a tokenizer" });

const value = (name) => form.elements[name].value.trim();
const query = () => new URLSearchParams(["path", "tokenizer", "search", "key"].map((name) => [name, value(name)]).filter(([, text]) => text));

function remember() {  // so that an address shows what one sees
  const now = query();
  if (state.first) now.set("number", state.first + 1);
  if (state.like != null) now.set("like", state.like + 1);
  if (state.view !== "text") now.set("view", state.view);
  if (byId("train-on").value !== "answers") now.set("train_on", byId("train-on").value);
  history.replaceState(null, "", now.size ? `#${now}` : location.pathname);
}

async function read(first) {
  state.first = first;
  remember();
  if (!value("path")) return;
  const number = (state.asked += 1);
  const asked = query();
  for (const [name, text] of [["first", first], ["most", MOST], ["train_on", byId("train-on").value]]) asked.set(name, text);
  if (state.like != null) asked.set("like", state.like);
  byId("like").hidden = state.like == null;
  byId("like").firstElementChild.textContent = `Only documents that share at least half of their runs of five words with number ${whole((state.like ?? 0) + 1)}. `;
  byId("said").textContent = state.like == null ? "reading …" : "comparing …";
  try {
    const found = await ask(`data/documents?${asked}`);
    if (number < state.asked) return;  // something else was asked for meanwhile
    say("");
    state.page = found;
    draw();
  } catch (error) {
    if (number < state.asked) return;
    state.page = null;
    byId("rows").replaceChildren();
    byId("said").textContent = "";
    say(error.message, "error");
  }
}

function draw() {
  const found = state.page;
  byId("command").querySelector("code").textContent = found.command;
  const tokens = state.view === "tokens" || state.view === "mask";
  byId("learned").hidden = state.view !== "mask";
  byId("learned").firstElementChild.hidden = found.kind !== "conversations";
  const range = found.rows.length ? `${whole(found.rows[0].number + 1)} to ${whole(found.rows.at(-1).number + 1)}${found.count == null ? "" : ` of ${whole(found.count)}`}` : "nothing";
  const end = found.is_end ? (found.rows.length ? " · the end" : "") : found.rows.length < MOST ? ` · looked up to number ${whole(found.next)} so far: Further looks on` : "";
  const empty = found.is_end && !found.rows.length ? (value("search") || state.like != null ? `: nothing from number ${whole(state.first + 1)} on ${[value("search") && `holds “${value("search")}”`, state.like != null && "is like it"].filter(Boolean).join(" and ")}` : ": there is no document from this number on") : "";
  byId("said").textContent = `${found.kind} (${found.form}) · ${range}${empty}${end}${tokens && !value("tokenizer") ? " · choose a tokenizer to see tokens" : ""}`;
  byId("rows").replaceChildren(...found.rows.map(card));
  byId("first").value = state.first + 1;
  byId("earlier").disabled = state.first === 0;
  byId("further").disabled = found.is_end;
}

/** Show what is like a document, from the first one on; or everything again. */
function compare(number) {
  state.like = number;
  state.before = [];
  read(number == null ? state.first : 0);
}

const VIEWS = { text: asText, raw: asRaw, tokens: asTokens, mask: asTokens };

function card(row) {
  const about = [`${short(row.characters)} characters`];
  if (row.similarity != null) about.unshift(row.number === state.like ? "the document itself" : `similarity ${row.similarity.toFixed(2)}`);
  const part = row.is_part ? ` in the ${short(row.text.length)} characters that were read for this page` : "";
  if (row.num_tokens != null) about.push(`${whole(row.num_tokens)} tokens${part}`);
  if (row.num_tokens && row.tokens && !row.begin && row.text.length === row.characters) about.push(`${(row.num_tokens / Math.max(1, row.characters)).toFixed(2)} tokens per character`);
  if (row.num_trained != null && state.view === "mask") about.push(`${whole(row.num_trained)} learned`);
  if (row.template && state.view === "mask") about.push(row.template);
  for (const [name, text] of Object.entries(row.metadata)) about.push(`${name}: ${text}`);
  const cut = state.view === "text" && row.text.length < row.characters ? element("p", { class: "hint" }, `${row.begin ? `from character ${whole(row.begin + 1)}; ` : ""}${short(row.text.length)} of ${short(row.characters)} characters are shown`) : null;
  return element("li", { "data-number": row.number }, element("h3", {}, `${whole(row.number + 1)} · ${row.id}`),
    row.problem ? element("p", { class: "problem" }, row.problem) : null, row.problem ? (row.raw && state.view === "raw" ? asRaw(row) : null) : VIEWS[state.view](row), cut,
    element("p", { class: "hint" }, about.join(" · "), " · ", element("button", { type: "button", class: "link", "aria-label": `Find documents like number ${row.number + 1}`, onclick: () => compare(row.number) }, "near-duplicates")));
}

function asText(row) {
  if (row.messages) return element("div", { class: "messages" }, ...row.messages.map((one) => element("div", { class: "turn", "data-role": one.role }, element("b", {}, one.role), element("div", { class: "text" }, one.content))));
  return element("pre", { tabindex: 0, "aria-label": `Document ${row.number + 1}` }, ...marked(row.text));
}
function asRaw(row) {
  return element("pre", { tabindex: 0, "aria-label": `Document ${row.number + 1}` }, ...marked(row.raw ?? row.text));
}

/** The text with what was searched marked. */
function marked(text) {
  const search = value("search").toLowerCase();
  if (!search) return [text];
  const parts = [], lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(search); at >= 0 && parts.length < 400; at = lower.indexOf(search, from)) {
    parts.push(text.slice(from, at), element("mark", {}, text.slice(at, at + search.length)));
    from = at + search.length;
  }
  return [...parts, text.slice(from)];
}

/** Each token in a frame of its own: by turns in two shades, or where it is learned in green and underlined. */
function asTokens(row) {
  if (!row.tokens) return asText(row);
  const masks = state.view === "mask";
  const spans = row.tokens.map(([id, text, kind], i) => {
    const shade = masks ? (row.trained[i] ? "learned" : "read") : i % 2 ? "odd" : "even";
    return element("span", { class: `token ${shade}${kind ? " special" : ""}`, title: `${id}${kind === 1 ? ": bytes of a part of a character" : ""}` }, kind === 1 ? `⟨${text}⟩` : text);
  });
  const more = row.num_tokens > spans.length ? element("p", { class: "hint" }, `the first ${whole(spans.length)} of ${whole(row.num_tokens)} tokens${row.is_part ? " of this part" : ""} are shown`) : null;
  return element("div", {}, element("div", { class: "tokens", tabindex: 0, role: "group", "aria-label": `Tokens of document ${row.number + 1}` }, ...spans), more);
}

form.addEventListener("submit", (event) => { event.preventDefault(); state.before = []; read(state.page ? 0 : state.first); });
form.elements.path.addEventListener("change", () => { state.before = []; state.like = null; read(0); });
byId("like").lastElementChild.addEventListener("click", () => compare(null));
for (const name of ["tokenizer", "search", "key"]) form.elements[name].addEventListener("change", () => { state.before = []; read(name === "search" ? 0 : state.first); });
for (const radio of document.querySelectorAll("[name=view]")) radio.addEventListener("change", () => {
  state.view = radio.value;
  remember();
  if (state.page) draw();
});
byId("train-on").addEventListener("change", () => read(state.first));
byId("further").addEventListener("click", () => { state.before.push(state.first); read(state.page.next); });
byId("earlier").addEventListener("click", () => read(state.before.length ? state.before.pop() : Math.max(0, state.first - MOST)));
byId("first").addEventListener("change", () => { state.before = []; read(Math.max(0, Number(byId("first").value) - 1 || 0)); });
addEventListener("hashchange", () => location.reload());  // an address with other data was opened in this tab

byId("count")?.addEventListener("click", async () => {
  try { say((await ask("data/count", { body: Object.fromEntries([["kind", state.page?.kind || ""], ...["path", "tokenizer", "key"].map((name) => [name, value(name)])]) })).said); refresh(); } catch (error) { say(error.message, "error"); }
});
const refresh = followJobs("jobs", (job) => job.command.startsWith("mamba-slm data inspect "), { most: 3 });
ask("data/library").then(({ tokenizers }) => byId("tokenizers").replaceChildren(...tokenizers.map((path) => element("option", { value: path })))).catch((error) => say(error.message, "error"));
if (value("path")) read(state.first);
