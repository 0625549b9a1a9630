// Conversations with several models: the same words and seed to each, the answers beside each other, always as text.
import { ask, byId, element, every, pointers, reason, root, say, whole } from "./common.js";
import { choicesView, putAway, readTalk, saveTalk } from "./talks.js";

const MOST = 4;
const readOnly = pointers.dataset.readOnly === "yes";
const state = { models: { servers: [], runs: [] }, elsewhere: [], chosen: [], talks: [], now: 0, running: new Map(), continues: new Set() };
window.chatState = state;  // for tests
const wanted = new URLSearchParams(location.hash.slice(1)).get("model");  // a link: chat#model=PATH

/* ---- conversations: [{title, turns: [{text, answers: {model: {text, tokens, ...}}}]}], kept in this browser ---- */
try { state.talks = JSON.parse(localStorage.getItem("talks") || "[]"); } catch { state.talks = []; }
if (!Array.isArray(state.talks) || !state.talks.length) state.talks = [{ title: "", turns: [] }];
const talk = () => state.talks[state.now];
function keep() {
  try { localStorage.setItem("talks", JSON.stringify(state.talks.slice(-30))); } catch { say("This browser keeps no more conversations: export what matters."); }
}

function showTalks() {
  byId("which").replaceChildren(...state.talks.map((each, i) => element("option", { value: i }, `${i + 1} ${(each.title || each.turns[0]?.text || "empty").slice(0, 50)}`)));
  byId("which").value = state.now;
}

/* ---- models ---- */
const idOf = (run) => `${run.home}/${run.name}`;
function options() {
  const served = state.models.servers.filter((each) => each.run);
  const rows = state.models.runs.map((run) => ({ id: idOf(run), title: run.name, run, path: run.path, server: served.find((each) => each.home === run.home && each.run === run.name) }));
  const paths = state.models.servers.filter((each) => !rows.some((row) => row.server === each) && each.state !== "ended").map((server) => ({ id: server.model, title: server.model, path: server.model, server })).filter((each, i, all) => all.findIndex((one) => one.id === each.id) === i);
  if (wanted && !rows.some((row) => row.path === wanted) && !paths.some((row) => row.id === wanted)) paths.push({ id: wanted, title: wanted, path: wanted, server: state.models.servers.find((each) => each.model === wanted) });
  return [...paths, ...rows, ...state.elsewhere];
}
const ready = (model) => Boolean(model.address || model.server?.state === "ready");

function card(model) {
  const box = element("input", { type: "checkbox", "aria-label": `Talk with ${model.title}`, onchange: (event) => {
    if (event.target.checked && state.chosen.length >= MOST) { event.target.checked = false; say(`At most ${MOST} models beside each other.`); return; }
    state.chosen = event.target.checked ? [...state.chosen, model.id] : state.chosen.filter((id) => id !== model.id);
    showPanes();
  } });
  box.checked = state.chosen.includes(model.id);
  box.disabled = !ready(model);
  const what = model.address ? "ready" : model.server ? model.server.state : "not served";
  const act = (path, body) => async (event) => {
    event.target.disabled = true;
    try { say((await ask(path, { body })).said); refresh(); } catch (error) { say(error.message, "error"); event.target.disabled = false; }
  };
  const running = model.server && model.server.state !== "ended";
  const button = model.address || readOnly ? null
    : running ? element("button", { type: "button", class: "quiet", onclick: act("chat/end", { home: model.server.home, job: model.server.job }) }, "End the server")
    : element("button", { type: "button", class: "quiet", onclick: act("chat/serve", model.run ? { run: model.id } : { model: model.path }) }, "Serve it");
  return element("article", { class: "card" }, element("h3", {}, element("label", {}, box, ` ${model.title}`), element("span", { class: "state", "data-state": what === "ready" ? "running" : what === "ended" ? "failed" : what }, what)),
    model.server && !ready(model) && model.server.last_line ? element("code", { class: "last" }, model.server.last_line) : null,
    model.server?.command ? element("code", { class: "last" }, model.server.command) : null,
    model.address ? element("span", { class: "hint" }, model.address) : null, button);
}

let last = "";
const refresh = every(2, async () => {
  const models = await ask("chat/models");
  const now = JSON.stringify([models, state.elsewhere.length]);
  if (now === last) return;
  last = now;
  state.models = models;
  const all = options();
  state.chosen = state.chosen.filter((id) => all.some((model) => model.id === id && ready(model)));
  if (!state.chosen.length) { const first = all.find((model) => ready(model) && (!wanted || model.path === wanted)) || (wanted ? null : all.find(ready)); if (first) state.chosen = [first.id]; }
  byId("choices").replaceChildren(...(all.length ? all.map(card) : [element("p", { class: "hint" }, "No run has a checkpoint yet: ", element("a", { href: `${root}/` }, "start a quick run"), ", or ", element("a", { href: `${root}/train` }, "train on your own text"), ".")]));
  if (!state.running.size) showPanes();
});

byId("elsewhere").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { address, key } = Object.fromEntries(new FormData(event.target));
  try {
    const found = await ask("chat/look", { body: { address, key } });
    for (const name of found.names) {
      const id = `${found.address} ${name}`;
      if (!state.elsewhere.some((each) => each.id === id)) state.elsewhere.push({ id, title: name, address: found.address, model: name, key });
    }
    event.target.reset();
    refresh();
  } catch (error) { say(error.message, "error"); }
});

/* ---- panes ---- */
function answerView(model, turn, number) {
  const answer = turn.answers[model.id];
  const stats = answer ? [answer.tokens != null ? `${whole(answer.tokens)} tokens` : null, answer.speed ? `${answer.speed.toFixed(0)} tokens/s` : null,
    answer.first != null ? `first after ${Math.round(answer.first)} ms` : null, answer.finish && answer.finish !== "stop" ? { length: "as long as allowed" }[answer.finish] ?? answer.finish : null].filter((text) => text).join(" · ") : "";
  return element("div", { class: "answer", "data-model": model.id },
    element("p", { class: "text" }, answer ? answer.text : ""), answer?.error ? element("p", { class: "problem" }, answer.error) : null,
    element("div", { class: "uses" }, element("small", {}, stats),
      answer && !state.running.size ? element("button", { type: "button", class: "quiet", onclick: () => run(number, [model.id]) }, "Retry") : null,
      answer && !state.running.size ? choicesView(turn, model.id, () => { keep(); showPanes(); }) : null,
      answer && !state.running.size && !readOnly && others(model, turn).length ? element("button", { type: "button", class: "quiet", "aria-pressed": String(turn.better === model.id), onclick: () => prefer(model, number) }, turn.better === model.id ? "✓ Better" : "▢ Better") : null,
      answer ? element("button", { type: "button", class: "quiet", onclick: (event) => navigator.clipboard?.writeText(answer.text).then(() => { event.target.textContent = "Copied"; }) }, "Copy") : null));
}

const others = (model, turn) => state.chosen.filter((id) => id !== model.id && turn.answers[id] && !turn.answers[id].error && turn.answers[id].text !== turn.answers[model.id].text);
const titleOf = (id) => options().find((each) => each.id === id)?.title ?? id;

/** Keeps that this answer is better than the ones beside it, where Rate finds it. */
async function prefer(model, number) {
  const turn = talk().turns[number];
  try {
    for (const id of others(model, turn)) {
      const answers = [model.id, id].map((each) => ({ text: turn.answers[each].text, model: titleOf(each) }));
      say((await ask("rate/0/chat/add", { body: { prompt: messagesFor(model.id, number), answers, better: 0, rater: "chat" } })).said);
    }
    turn.better = model.id;
    keep();
    showPanes();
  } catch (error) { say(error.message, "error"); }
}

function showPanes() {
  const models = state.chosen.map((id) => options().find((model) => model.id === id)).filter((model) => model);
  const rows = [];
  talk().turns.forEach((turn, number) => {
    const buttons = state.running.size ? [] : [
      element("button", { type: "button", class: "quiet", onclick: () => edit(number) }, "Edit"),
      element("button", { type: "button", class: "quiet", onclick: () => branch(number) }, "Branch")];
    rows.push(element("div", { class: "asked" }, element("p", { class: "text" }, turn.text), element("div", { class: "uses" }, ...buttons)));
    const row = element("div", { class: "answers" }, ...models.map((model) => element("div", {}, models.length > 1 || number === 0 ? element("small", {}, `${model.title}${number === 0 && state.continues.has(model.id) ? " · continues the text: it has no chat template" : ""}`) : null, answerView(model, turn, number))));
    rows.push(row);
  });
  byId("panes").replaceChildren(...(rows.length ? rows : [element("p", { class: "hint" }, models.length ? `Say something to ${models.map((model) => model.title).join(", ")}.` : "Choose a model above; serve it first.")]));
  byId("halt").hidden = !state.running.size;
  byId("send").hidden = state.running.size > 0;
  showTalks();
}

function messagesFor(id, number) {
  const found = byId("system").value.trim() ? [{ role: "system", content: byId("system").value }] : [];
  talk().turns.slice(0, number + 1).forEach((turn, i) => {
    found.push({ role: "user", content: turn.text });
    if (i < number && turn.answers[id]) found.push({ role: "assistant", content: turn.answers[id].text });
  });
  return found;
}

async function run(number, ids = state.chosen) {
  const models = ids.map((id) => options().find((model) => model.id === id)).filter((model) => model && ready(model));
  if (!models.length) { say("No chosen model is ready.", "error"); return; }
  say("");
  await Promise.all(models.map((model) => answer(model, number)));
}

async function answer(model, number) {
  const stop = new AbortController();
  const turn = talk().turns[number];
  putAway(turn, model.id);
  const answer = turn.answers[model.id] = { text: "" };
  state.running.set(model.id, stop);
  showPanes();
  const place = () => [...byId("panes").querySelectorAll(".answers")][number]?.querySelector(`[data-model="${CSS.escape(model.id)}"] .text`);
  const began = performance.now();
  let firstAt = null, pieces = 0;
  const body = { messages: messagesFor(model.id, number), continues: state.continues.has(model.id) };
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) body[name] = byId(name).value === "" ? null : Number(byId(name).value);
  if (model.address) Object.assign(body, { address: model.address, model: model.model, key: model.key });
  else Object.assign(body, { home: model.server.home, job: model.server.job });
  try {
    const response = await fetch(`${root}/api/chat/answer`, { method: "POST", signal: stop.signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await reason(response));
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message || event.error);
      const choice = event.choices?.[0];
      const piece = choice ? choice.delta?.content ?? choice.text : null;
      if (choice?.finish_reason) answer.finish = choice.finish_reason;
      if (event.usage) answer.tokens = event.usage.completion_tokens;
      if (!piece) continue;
      if (firstAt == null) { firstAt = performance.now(); answer.first = firstAt - began; }
      pieces += 1;
      answer.text += piece;
      const shown = place();
      if (shown) shown.append(piece);  // a text node: never HTML
    }
  } catch (error) {
    if (error.name === "AbortError") answer.finish = "stopped";
    else if (!state.continues.has(model.id) && /no chat template/.test(error.message)) { state.continues.add(model.id); state.running.delete(model.id); return await again(model, number); }
    else answer.error = error.message;
  }
  answer.tokens ??= pieces;
  if (firstAt != null && answer.tokens > 1) answer.speed = 1000 * (answer.tokens - 1) / Math.max(1, performance.now() - firstAt);
  state.running.delete(model.id);
  keep();
  showPanes();
}
const again = (model, number) => answer(model, number);

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function edit(number) {
  const turn = talk().turns[number];
  byId("message-text").value = turn.text;
  branch(number, { silent: true });
  byId("message-text").focus();
}

function branch(number, { silent = false } = {}) {  // the turns before, in a conversation of their own; nothing is lost
  const before = structuredClone(talk().turns.slice(0, number));
  if (!silent) byId("message-text").value = "";
  state.talks.push({ title: `branch of ${state.now + 1}: ${(talk().turns[0]?.text || "").slice(0, 30)}`, turns: silent ? before : structuredClone(talk().turns.slice(0, number + 1)) });
  state.now = state.talks.length - 1;
  keep();
  showPanes();
}

byId("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("message-text").value;
  if (!text.trim() || state.running.size) return;
  if (!state.chosen.length) { say("Choose a model first, and serve it.", "error"); return; }
  talk().turns.push({ text, answers: {} });
  byId("message-text").value = "";
  run(talk().turns.length - 1);
});
byId("message-text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); byId("say").requestSubmit(); }
});
const halt = () => { for (const stop of state.running.values()) stop.abort(); };
byId("halt").addEventListener("click", halt);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") halt(); });
byId("new").addEventListener("click", () => { halt(); state.talks.push({ title: "", turns: [] }); state.now = state.talks.length - 1; showPanes(); byId("message-text").focus(); });
byId("which").addEventListener("change", () => { halt(); state.now = Number(byId("which").value); showPanes(); });
const SETTINGS = ["temperature", "top_p", "max_tokens", "seed"];
byId("export").addEventListener("click", () => {
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, byId(name).value === "" ? null : Number(byId(name).value)]));
  saveTalk({ system: byId("system").value, settings, models: Object.fromEntries(state.chosen.map((id) => [id, titleOf(id)])), ...talk() });
});
byId("import").addEventListener("click", () => byId("import-file").click());
byId("import-file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  try {
    const { talk: read, system, settings } = readTalk(await file.text());
    halt();
    state.talks.push(read);
    state.now = state.talks.length - 1;
    byId("system").value = system;
    for (const name of SETTINGS) if (name in settings) byId(name).value = settings[name] ?? "";
    keep();
    showPanes();
  } catch (error) { say(`${file.name} cannot be read: ${error.message}`, "error"); }
});
showPanes();
