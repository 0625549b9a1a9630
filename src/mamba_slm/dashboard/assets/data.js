// The library: what lies here, public data sets, and the ways to look into them.
import { ask, byId, bytes, commandLine, element, every, pointers, root, say, short, whole } from "./common.js";
import { followJobs, isCommand } from "./jobs.js";

const state = { library: null };
window.dataState = state;  // for tests
const writes = pointers.dataset.readOnly !== "yes";
const at = (page, values) => `${root}/${page}#${new URLSearchParams(values)}`;
const number = (of, text) => element("td", { class: "number", "data-of": of }, text);
const none = (columns, ...said) => element("tr", {}, element("td", { colspan: columns, class: "hint" }, ...said));

function links(each) {
  const made = [element("a", { href: at("data/inspect", { path: each.path }) }, "inspect")];
  if (each.kind === "token shards") made.push(element("a", { href: at("data/mix", { add: each.path }) }, "mix"), element("a", { href: at("train", { data: each.path }) }, "train"));
  else {
    if (each.kind !== "curated text") made.push(element("a", { href: at("data/curate", { inputs: each.path }) }, "curate"));
    made.push(element("a", { href: at("data/tokenize", { inputs: each.path }) }, "tokenize"), element("a", { href: at("train", { data: each.path }) }, "train"));
  }
  if (each.kind === "curated text") made.push(element("a", { href: at("data/curate", { path: each.path }) }, "funnel"));
  return made.flatMap((link, i) => (i ? [" · ", link] : [link]));
}

function row(each) {
  return element("tr", { "data-name": each.name || each.path }, element("th", { scope: "row" }, each.path, each.problem ? element("div", { class: "bad" }, each.problem) : null),
    element("td", {}, each.kind, element("div", { class: "hint" }, each.formats), each.made_from ? element("div", { class: "hint" }, `from ${each.made_from}`) : null),
    number("documents", whole(each.documents)), number("tokens", each.tokens == null ? "–" : `${each.is_estimated ? "≈ " : ""}${short(each.tokens)}`),
    number("size", bytes(each.bytes)), element("td", {}, each.licence || element("span", { class: "hint" }, "not stated")), element("td", {}, ...links(each)));
}

function preset(each) {
  const get = each.command ? [commandLine(each.command)] : [element("span", { class: "hint" }, "nobody offers it any more")];
  if (each.command && writes) get.push(element("button", { type: "button", class: "link", "aria-label": `Download 1B tokens of ${each.name}`, onclick: async () => {
    try { say((await ask("data/download", { body: { name: each.name } })).said); refresh(); } catch (error) { say(error.message, "error"); }
  } }, "start it here"));
  return element("tr", { "data-name": each.name || each.path }, element("th", { scope: "row" }, each.name, each.access === "open" ? null : element("span", { class: "badge" }, each.access)),
    element("td", {}, each.title), number("tokens", short(each.tokens)), number("size", bytes(each.bytes)), element("td", {}, each.licence), element("td", {}, ...get));
}

let last = "";
const look = every(10, async () => {
  const found = await ask("data/library");
  const now = JSON.stringify(found);
  if (now === last) return;
  last = now;
  state.library = found;
  const hint = found.found.some((each) => each.is_estimated) ? "≈ is a guess from the size; Inspect counts." : "";
  byId("library-hint").textContent = found.is_cut ? `There is more than is listed here: start the dashboard nearer to the data, or with --data FOLDER. ${hint}` : hint;
  byId("found").replaceChildren(...(found.found.length ? found.found.map(row) : [none(7, "No text or tokens below the dashboard's folder yet. Download some below, or ", element("a", { href: `${root}/data/inspect` }, "send a file of yours"), " with Browse.")]));
  byId("presets").replaceChildren(...found.presets.map(preset));
});
const refresh = followJobs("jobs", (job) => isCommand(job, "data"), { onchange: () => look() });
