// Models: the list, one of them in detail. What is chosen stands in the address: #model=PATH or #preset=NAME.
import { ask, byId, bytes, commandLine, element, root, say, short, whole } from "./common.js";
import { Chart, color } from "./chart.js";
import { inAddress, prepare, setAddress } from "./models_form.js";
import { usesOf } from "./uses.js";

const state = { models: [], presets: [], shown: null, asked: 0, listed: 0 };
window.modelsState = state;  // for tests
const chart = new Chart(byId("memory-chart"), { format: (value) => `${short(value)} ${state.unit?.[1]}`, formatX: (tokens) => `${short(tokens)} tokens` });
const percent = (share) => (share > 0 && share < 0.0005 ? "< 0.1%" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}%`);
const count = (value) => short(value).replace("G", "B");  // as in the names of sizes
const cell = (text) => element("td", { class: "number" }, text);
const open = (words) => element("button", { type: "button", class: "link", onclick: () => setAddress(words) }, words.model || words.preset);

/* ---- what there is ---- */
async function readList() {
  const number = (state.listed += 1);
  const found = await ask("models");
  if (number < state.listed) return;  // it was read again meanwhile
  Object.assign(state, { models: found.models, presets: found.presets, looked: found.looked, whole: found.whole });
  showList();
  byId("sizes-rows").replaceChildren(...state.presets.map((each) => element("tr", {}, element("th", { scope: "row" }, open({ preset: each.name })),
    cell(count(each.parameters)), cell(bytes(each.bytes)), cell(`${each.layers}, ${each.attention_layers} attention`), element("td", {}, each.purpose))));
}

function showList() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter((word) => word);
  const rows = state.models.filter((each) => words.every((word) => `${each.path} ${each.kind} ${each.stored} ${each.how || ""}`.toLowerCase().includes(word)));
  byId("count").textContent = `${rows.length}${rows.length === state.models.length ? "" : ` of ${state.models.length}`} ${rows.length === 1 ? "model" : "models"}${state.whole ? "" : `; stopped after ${whole(state.looked)} files and folders`}`;
  const empty = state.models.length ? "No model is like that." : "No model yet. Train one, or give a path below:";
  byId("found-rows").replaceChildren(...(rows.length ? rows.map(row) : [element("tr", {}, element("td", { colspan: 6, class: "hint" }, empty, state.models.length ? null : commandLine("mamba-slm quickstart")))]));
}
byId("filter").addEventListener("input", showList);

function row(each) {
  return element("tr", { "data-path": each.path, "aria-current": state.shown?.path === each.path ? "true" : null },
    element("th", { scope: "row" }, open({ model: each.path })),
    element("td", {}, each.kind, each.is_finished ? null : element("small", {}, " not finished")),
    cell(count(each.parameters)), element("td", {}, each.problem ? element("small", {}, each.problem) : each.stored || "–"), cell(bytes(each.bytes)),
    element("td", {}, each.how ? element("small", {}, `${each.how}${each.from ? `: ${each.from}` : ""}`) : "–"));
}

/* ---- one of them ---- */
/** What the address says; `isSame` when only the files may have changed: then the form stays as somebody filled it. */
async function show({ isSame = false } = {}) {
  const wanted = inAddress();
  const number = (state.asked += 1);
  if (!wanted.model && !wanted.preset) {
    const first = state.models.find((each) => !each.problem && each.parameters);
    if (first) wanted.model = first.path; else wanted.preset = "nano";
  }
  const query = wanted.model ? `model=${encodeURIComponent(wanted.model)}` : ["preset", "layout", "pattern", "vocab_size"].filter((key) => wanted[key]).map((key) => `${key}=${encodeURIComponent(wanted[key])}`).join("&");
  let found;
  try { found = await ask(`models/one?${query}`); } catch (error) {
    if (number !== state.asked) return;
    if (wanted.preset && state.shown?.kind === "preset") { byId("what-if-of").textContent = error.message; return; }  // while somebody types
    say(error.message, "error");
    byId("detail").hidden = true;
    prepare(null, wanted);
    return;
  }
  if (number !== state.asked) return;  // somebody chose another meanwhile
  say("");
  state.shown = found;
  byId("detail").hidden = false;
  showWhatIf(found, wanted);
  showList();
  showHeading(found);
  byId("arithmetic").hidden = !found.pattern;
  byId("fitting").hidden = !found.pattern;
  if (found.pattern) { showLayers(found); showMemory(found); showFitting(found); }
  showHistory(found);
  if (isSame && state.prepared === location.hash) return;
  state.prepared = location.hash;
  prepare(found, wanted);
}

function showHeading(found) {
  byId("detail-title").textContent = found.name;
  byId("detail-kind").textContent = found.stored ? `${found.kind} · ${found.stored}` : found.kind;
  byId("detail-path").textContent = found.path ?? found.purpose;
  byId("detail-problem").hidden = !found.problem;
  byId("detail-problem").textContent = found.problem || "";
  const uses = found.kind === "preset" || found.kind === "adapter" ? [] : found.is_ours ? ["Chat", "Evaluate", "Serve", ...(found.is_quantized ? [] : ["Fine-tune"])] : found.kind === "ONNX" ? ["Chat", "Evaluate", "Serve"] : [];
  byId("links").replaceChildren(...usesOf(found.path, ...uses), ...(found.kind === "preset" ? [element("a", { href: `${root}/train#preset=${encodeURIComponent(found.name)}` }, "Train this size")] : []));
  const fact = (name, text) => { byId(`fact-${name}`).textContent = text; byId(`fact-${name}`).parentElement.hidden = text === "–"; };
  fact("parameters", count(found.parameters));
  fact("bytes", bytes(found.bytes));
  fact("bf16", bytes(found.bf16_bytes));
  fact("layers", found.layers ? String(found.layers.length) : "–");
  fact("attention", found.layers ? String(found.attention_layers) : "–");
  const room = found.settings?.max_context_tokens, rows = found.trained_context_tokens;
  fact("context", room ? whole(room) : "–");
  fact("trained", rows && rows < room ? whole(rows) : "–");
  fact("vocabulary", found.settings ? whole(found.settings.vocab_size) : "–");
  fact("flops", short(found.flops_per_token));
}

const KINDS = { M: ["mamba", "M", "Mamba-2"], "*": ["attention", "A", "attention"], "-": ["feed", "–", "feed-forward"] };
function showLayers(found) {
  const cells = found.layers.map((layer, number) => {
    const [name, letter, words] = KINDS[layer.mixer];
    const more = layer.mixer !== "-" && layer.feed_forwards ? " and feed-forward" : "";
    return element("span", { class: `layer ${name}${more ? " with-feed" : ""}`, title: `layer ${number}: ${words}${more}` }, letter);
  });
  byId("layer-map").replaceChildren(...cells);
  byId("layer-map").setAttribute("aria-label", `${found.layers.length} layers from the embedding on: ${found.layers.map((layer) => KINDS[layer.mixer][1]).join(" ")}`);
  const legend = [["mamba", `M Mamba-2: ${found.mamba_layers}`], ["attention", `A attention: ${found.attention_layers}`], ["feed", "line below: a feed-forward follows"]];
  byId("layer-legend").replaceChildren(...legend.map(([name, text]) => element("li", {}, element("span", { class: `layer swatch ${name}${name === "feed" ? " with-feed" : ""}`, "aria-hidden": "true" }), text)));
  byId("parts-rows").replaceChildren(...found.parts.map((part) => element("tr", {}, element("th", { scope: "row" }, part.parameters ? part.name : `${part.name}, tied`), cell(count(part.parameters)),
    cell(percent(part.parameters / found.parameters)), cell(part.flops ? short(part.flops) : "–"), cell(part.bytes ? `${bytes(part.bytes)} ${part.types.join("+")}` : "–"))));
  const s = found.settings;
  byId("settings-line").textContent = `width ${s.hidden_size}, feed-forward ${s.feed_forward_size}, ${s.num_heads} heads and ${s.num_kv_heads} for keys and values, of ${s.head_dim}; ${s.num_ssm_heads} SSM heads of ${s.ssm_head_dim} with a state of ${s.state_size}; ${s.tie_embeddings ? "tied" : "untied"} head; positions ${s.position}. FLOP are of one forward pass, averaged over a full context, with a scan in chunks of ${s.chunk_size}${found.kind === "GGUF" ? " (the file does not say it)" : ""}.`;
}

function showMemory({ memory }) {
  state.unit = [[30, "GiB"], [20, "MiB"], [10, "KiB"]].find(([power]) => Math.max(...memory.attention_only, ...memory.hybrid) >= 2 ** power) || [0, "B"];  // round numbers of it on the axis
  const lines = [["this model", memory.hybrid], ["attention only", memory.attention_only]].map(([name, values], i) => ({ name, mean: values.map((value) => value / 2 ** state.unit[0]), color: color(i) }));
  chart.show(lines.map((line) => ({ ...line, x: memory.contexts })));
  byId("memory-legend").replaceChildren(...lines.map((line, i) => element("li", {}, element("span", { class: `key line-${i + 1}`, "aria-hidden": "true" }), line.name)));
  byId("memory-rows").replaceChildren(...memory.table.map((each) => element("tr", {}, element("th", { scope: "row", class: "number" }, whole(each.context)), cell(bytes(each.hybrid)), cell(bytes(each.attention_only)),
    cell(each.attention_only ? percent(1 - each.hybrid / each.attention_only) : "–"))));
  const equal = memory.equal_from == null ? "It never takes less than attention alone." : memory.equal_from > 1 ? `It takes less than attention alone from ${whole(memory.equal_from)} tokens on.` : "";
  const work = memory.equal_flops_from == null ? "" : ` It needs fewer FLOP from ${whole(memory.equal_flops_from)} tokens on; time is another matter: mamba-slm bench --crossover measures it.`;
  byId("memory-line").textContent = `Constant ${bytes(memory.constant)} for the states of the Mamba layers in FP32, and ${bytes(memory.per_token)} for each token, in BF16 (attention only: ${bytes(memory.attention_only_per_token)}). ${equal}${work} All by arithmetic from the shapes.`;
}

function showFitting(found) {
  byId("runtimes").replaceChildren(...Object.entries(found.runtimes).map(([name, fits]) => element("li", { "data-fits": fits }, `${fits ? "✓" : "✗"} ${name}`)));
  byId("issues").replaceChildren(...found.issues.map((each) => element("li", {}, `${each.effect} in ${each.runtimes.join(", ")}: ${each.field} = ${each.value}; ${each.reason}`)));
  byId("formats-rows").replaceChildren(...found.formats.map((each) => element("tr", {}, element("th", { scope: "row" }, each.format), cell(bytes(each.bytes)), cell(each.bits.toFixed(2)),
    element("td", {}, found.is_ours && !found.is_quantized ? element("button", { type: "button", class: "link", onclick: () => setAddress({ model: found.path, do: "quantize", to: each.format }) }, "quantize") : null))));
}

function showHistory(found) {
  byId("history").hidden = false;
  for (const id of ["origin", "verified", "file-list"]) byId(id).hidden = found.kind === "preset";
  if (found.kind === "preset") return;
  const place = (path, here) => (here ? open({ model: path }) : path);
  const steps = found.lineage.map((step) => element("li", {}, element("b", {}, step.how), " ", step.from ? element("span", {}, "from ", place(step.from, step.is_here), step.is_here ? "" : " (not among the folders shown here)") : null,
    step.data.length ? element("div", { class: "hint" }, `data: ${step.data.join(", ")}`) : null, step.command ? commandLine(step.command) : null));
  const made = found.children.map((child) => element("li", {}, `${child.how} → `, open({ model: child.path })));
  const points = found.checkpoints.map((each) => element("li", {}, "checkpoint ", open({ model: each.path }), each.is_best ? element("span", { class: "badge" }, "best") : null));
  byId("lineage").replaceChildren(...(steps.length ? steps : [element("li", { class: "hint" }, "Nothing beside it says where it comes from: it was written elsewhere, or by a command in a terminal.")]), ...made, ...points);
  byId("checks").replaceChildren(...(found.checks.length ? found.checks.map((check) => element("div", {}, element("small", {}, check.source), element("pre", { tabindex: 0, class: check.source.startsWith("job ") ? "outcome" : null }, check.lines.join("\n"))))
    : [element("p", { class: "hint" }, found.kind === "run" || found.kind === "model" || found.kind === "checkpoint" ? "The original: an export or a quantization is compared with it." : "Nothing says how near it is to the model it came from. Compare it below.")]));
  if (found.report) byId("checks").append(element("p", { class: "hint" }, `The whole report: ${found.report}`));
  if (found.trained_for) byId("checks").append(element("p", {}, `Trained to be stored as ${found.trained_for}.`));
  byId("files-here").replaceChildren(element("p", { class: "hint" }, element("code", {}, found.folder)), element("table", {}, element("tbody", {}, ...found.files.map((each) => element("tr", {}, element("td", {}, each.name), cell(bytes(each.bytes)))))));
}

function showWhatIf(found, wanted) {
  byId("make").hidden = found.kind === "preset" && state.models.length > 0;
  byId("what-if").hidden = found.kind !== "preset";
  if (found.kind !== "preset") return;
  byId("presets").open = true;
  byId("what-if-of").textContent = `of ${found.name}`;
  for (const control of byId("what-if").elements) if (control !== document.activeElement) control.value = wanted[control.name] || "";
}
byId("what-if").addEventListener("input", () => {
  const changed = [...new FormData(byId("what-if"))].filter(([, value]) => value.trim());
  setAddress({ preset: state.shown.name, ...Object.fromEntries(changed) });
});
byId("what-if").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => show());
async function refresh(how) {
  try { await readList(); await show(how); } catch (error) { say(error.message, "error"); }
}
addEventListener("modelsChanged", () => refresh({ isSame: true }));
refresh();
