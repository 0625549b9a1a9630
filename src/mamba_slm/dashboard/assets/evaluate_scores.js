// Scores as tables: each with its interval and the number of questions; a difference within noise says ≈.
import { commandLine, duration, element, short, whole } from "./common.js";

const NS = "http://www.w3.org/2000/svg";
export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)}%`;
export const scoreText = (row, value) => (value == null ? "–" : row.is_share ? percent(value) : short(value, 4));
const half = (row, interval) => (interval ? ` ± ${row.is_share ? (50 * (interval[1] - interval[0])).toFixed(1) : short((interval[1] - interval[0]) / 2)}` : "");
const isFlat = (row) => row.is_share && (row.value === 0 || row.value === 1);  // none or all right: no error by the formula, which is no certainty
export const intervalOf = (row) => (isFlat(row) ? wilson(row.value * row.questions, row.questions) : row.interval);
export const shortScore = (row) => (isFlat(row) ? `${percent(row.value, 0)} (${row.value ? `≥ ${percent(intervalOf(row)[0])}` : `≤ ${percent(intervalOf(row)[1])}`})` : `${scoreText(row, row.value)}${half(row, row.interval)}`);
/** The name of a measured model: that of its folder; of a run's model or checkpoint the run's, too. */
export function modelName(row) {
  const parts = (row.model || row.name).split("/").filter((part) => part);
  if (parts.at(-1) === "model" && parts.length > 1) return parts.at(-2);
  return parts.at(-2) === "checkpoints" && parts.length > 2 ? `${parts.at(-3)}, ${parts.at(-1)}` : parts.at(-1) || row.name;
}
export const when = (text) => (text ? text.slice(0, 16).replace("T", " ") : "–");
const signed = (row, value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${scoreText(row, Math.abs(value))}`;
export const differenceText = (row) => `${signed(row, row.difference)}${half(row, row.interval)} ${row.verdict}${row.num_pairs ? ` (n=${whole(row.num_pairs)})` : ""}`;
/** For a list, where no column says how many were asked. */
export const listedScore = (row) => `${row.task} ${shortScore(row)} (n=${whole(row.questions)})`;

/** An interval with its middle on a scale, and strokes where something stands; decoration of the numbers beside it. */
function picture([low, value, high], [from, to], strokes = []) {
  const place = (at) => `${Math.min(100, Math.max(0, (100 * (at - from)) / (to - from)))}%`;
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("class", "interval");
  svg.setAttribute("aria-hidden", "true");
  const add = (name, attributes) => { const made = document.createElementNS(NS, name); for (const [key, text] of Object.entries(attributes)) made.setAttribute(key, text); svg.append(made); };
  for (const at of strokes) if (at != null) add("line", { x1: place(at), x2: place(at), y1: 0, y2: "100%", class: "mark" });
  if (low != null) add("line", { x1: place(low), x2: place(high), y1: "50%", y2: "50%", class: "reach" });
  add("circle", { cx: place(value), cy: "50%", r: 4 });
  return svg;
}

const cell = (text, kind = "number") => element("td", { class: kind }, text);
const LEFT = ["benchmark", "text", "how", "task", "", "answers", "measured", "verdict", "tokens by place"];
/** A column whose name begins with | is left out on a phone. */
function table(names, rows, caption = null) {
  const header = (name) => element("th", { scope: "col", class: `${LEFT.includes(name.replace("|", "")) ? "" : "number"}${name.startsWith("|") ? " aside" : ""}` }, name.replace("|", "") || element("span", { class: "unseen" }, "picture"));
  return element("div", {}, caption && element("p", { class: "hint" }, caption), element("div", { class: "scroll", tabindex: 0 }, element("table", {},
    element("thead", {}, element("tr", {}, ...names.map(header))), element("tbody", {}, ...rows))));
}
const facts = (pairs) => element("dl", { class: "facts" }, ...pairs.filter(([, value]) => value != null && value !== "" && value !== false)
  .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))));

export function showScores(place, shown, options) {
  const kinds = { questions, texts, probe, speed, baselines };
  const body = shown && kinds[shown.kind] ? kinds[shown.kind](shown, options) : [element("p", { class: "hint" }, "Choose a measurement in the list: it is shown here, and up to three beside it are compared with it question by question.")];
  place.replaceChildren(...(shown ? [heading(shown, options)] : []), ...body.filter((each) => each != null));
}

function heading(shown, options) {
  const again = shown.model && !options.readOnly ? element("button", { type: "button", class: "quiet", onclick: () => options.evaluate(shown.model) }, "Measure this model again") : null;
  return element("div", { class: "heading" }, element("h3", {}, shown.model || shown.name), element("code", {}, shown.folder), again);
}

/* ---- questions ---- */
function questions(shown, { differences, other, read, without, many, only }) {
  const limit = shown.summary.settings?.limit;
  const parts = [limit ? element("p", { class: "problem" }, `Only the first ${limit} questions of each benchmark were asked: for trying things out, not to be compared with other people's scores.`) : null];
  if (many) parts.push(...comparedWithMany(shown, many, only, without));
  else if (differences) parts.push(...compared(shown, differences, other, read, without));
  else {
    const theirs = shown.scores.some((row) => row.published);
    const members = {};
    const rows = shown.scores.map((row) => {
      const made = element("tr", { class: row.group ? "member" : null, hidden: Boolean(row.group) }, ...scoreCells(row, shown, read, theirs, () => toggle(members[row.task])));
      if (row.group) (members[row.group] ||= []).push(made);
      return made;
    });
    parts.push(table(["benchmark", "score", "|", "guessing", ...(theirs ? ["|GPT-3"] : []), "n", "|examples", "answers"], rows,
      "± is half of a 95% interval over the questions; ≈ says that guessing lies within it."));
    const cited = shown.scores.filter((row) => row.published);
    if (cited.length) parts.push(element("details", {}, element("summary", {}, "Where the scores of GPT-3 come from"),
      element("ul", {}, ...cited.map(({ task, published }) => element("li", {}, `${task}: ${percent(published.value)}, ${published.how}; ${published.source}${published.note ? ` (${published.note})` : ""}`))),
      element("p", { class: "hint" }, "Landmarks only: they were asked with other prompts.")));
  }
  const notes = shown.scores.filter((row) => row.note).map((row) => `${row.task}: ${row.note}`);
  if (notes.length) parts.push(element("ul", { class: "hint" }, ...notes.map((note) => element("li", {}, note))));
  const { seconds, tokens, versions, fingerprint } = shown.summary;
  parts.push(element("details", {}, element("summary", {}, "How it was measured"), facts([
    ["took", duration(seconds)], ["tokens read", tokens && whole(tokens.computed)], ["tokens written", tokens && whole(tokens.generated)],
    ["precision", fingerprint?.precision], ["computed by", fingerprint?.backend], ["weights", fingerprint?.weights?.slice(0, 12)],
    ["questions from", shown.summary.settings?.data_dir], ["chat template", shown.summary.settings?.chat ? "yes" : "no"],
    ...Object.entries(versions || {})])));
  return parts;
}

const toggle = (rows) => { for (const row of rows) row.hidden = !row.hidden; };
const named = (row) => element("th", { scope: "row" }, row.task, element("small", {}, `${row.metric} ${row.higher_is_better ? "↑" : "↓"}`));
const aside = (made) => { made.classList.add("aside"); return made; };  // what a phone leaves out

function scoreCells(row, shown, read, theirs, open) {
  const chance = shown.chances[row.task] ?? (row.is_group ? groupChance(row, shown) : null);
  const interval = intervalOf(row);
  const isNoise = chance != null && interval && interval[0] <= chance && chance <= interval[1];
  const drawing = row.is_share ? picture([interval?.[0], row.value, interval?.[1]], [0, 1], [chance, row.published?.value]) : "";
  const members = shown.scores.filter((each) => each.group === row.task).length;
  const look = row.is_group ? element("button", { type: "button", class: "link", "aria-label": `The ${members} parts of ${row.task}`, onclick: open }, `${members} parts`)
    : element("button", { type: "button", class: "link", "aria-label": `Wrong answers of ${row.task}`, onclick: () => read(row.task, "wrong") }, "wrong ▸");
  return [named(row), cell(`${shortScore(row)}${isNoise ? " ≈" : ""}`), aside(element("td", {}, drawing)), cell(chance == null ? "–" : percent(chance, 0)),
    ...(theirs ? [aside(cell(row.published ? percent(row.published.value) : "–"))] : []), cell(whole(row.questions)), aside(cell(row.examples)), element("td", {}, look)];
}
function groupChance(row, shown) {
  const members = shown.scores.filter((each) => each.group === row.task);
  const known = members.filter((each) => shown.chances[each.task] != null);
  const asked = known.reduce((sum, each) => sum + each.questions, 0);
  return known.length && known.length === members.length ? known.reduce((sum, each) => sum + shown.chances[each.task] * each.questions, 0) / asked : null;
}

function compared(shown, { differences, command }, other, read, without) {
  const shares = differences.filter((row) => row.is_share);
  const widest = Math.max(1e-9, ...shares.flatMap((row) => (row.interval || [row.difference]).map(Math.abs)));
  const known = Object.fromEntries(shown.scores.map((row) => [row.task, row]));
  const members = {};
  const order = differences.filter((row) => !known[row.task]?.group).flatMap((row) => [row, ...differences.filter((each) => known[each.task]?.group === row.task)]);
  const rows = order.map((row) => {
    const { group, is_group: isGroup } = known[row.task] || {};
    const isPart = order.some((each) => each.task === group);
    const made = element("tr", { class: isPart ? "member" : null, hidden: isPart }, ...differenceCells(row, widest, isGroup, read, () => toggle(members[row.task] || [])));
    if (isPart) (members[group] ||= []).push(made);
    return made;
  });
  const [first, second] = shown.model === other.model ? [shown.name, other.name] : [shown, other].map(modelName);
  return [element("p", {}, "First: ", element("b", {}, shown.model || shown.name), ` (${shown.name}). Second: `, element("b", {}, other.model || other.name), ` (${other.name}). `,
    element("button", { type: "button", class: "quiet", onclick: without }, "Show the first alone")),
  table(["benchmark", `|${first}`, `|${second}`, "difference", "verdict", "|", "pairs", "answers"], rows,
    "Second − first over the questions that both were asked with the same prompt; ± is half of a 95% interval, ≈ says that it holds 0. Among many benchmarks one in twenty differs by chance."),
  element("h4", {}, "The same in a terminal"), commandLine(command)];
}

/** Several evaluations, each paired with the first one by question. */
function comparedWithMany(shown, many, only, without) {
  const names = [shown, ...many.map(({ other }) => other)].map((row, i, all) => (all.some((each) => each !== row && modelName(each) === modelName(row)) ? row.name : modelName(row)));
  const rows = shown.scores.filter((row) => !row.group).map((row) => element("tr", {}, named(row), cell(shortScore(row)), ...many.map(({ differences }) => {
    const found = differences.find((each) => each.task === row.task);
    return found ? element("td", { class: "number" }, scoreText(found, found.second), element("small", {}, differenceText(found))) : cell("not asked");
  })));
  return [element("p", {}, "First: ", element("b", {}, shown.model || shown.name), ` (${shown.name}). `, element("button", { type: "button", class: "quiet", onclick: without }, "Show the first alone")),
    table(["benchmark", ...names], rows, "Under each score its difference to the first, over the questions that both were asked with the same prompt; ± is half of a 95% interval, ≈ says that it holds 0. Among many differences one in twenty is chance."),
    element("h4", {}, "The same in a terminal, and answer by answer"),
    ...many.flatMap(({ other, command }, i) => [commandLine(command), element("p", {}, element("button", { type: "button", class: "link", onclick: () => only(other.at) }, `Only ${names[i + 1]} beside the first`))])];
}

function differenceCells(row, widest, isGroup, read, open) {
  const button = (label, text, onclick) => element("button", { type: "button", class: "link", "aria-label": label, onclick }, text);
  const look = isGroup ? button(`The parts of ${row.task}`, `${whole(row.num_changed)} in parts`, open)
    : row.num_changed ? button(`Changed answers of ${row.task}`, `${whole(row.num_changed)} changed ▸`, () => read(row.task, "changed")) : row.num_pairs ? "none changed" : "";
  return [named(row), aside(cell(scoreText(row, row.first))), aside(cell(scoreText(row, row.second))), cell(`${signed(row, row.difference)}${half(row, row.interval)}`),
    element("td", {}, element("span", { class: "verdict", "data-verdict": row.verdict }, row.verdict)),
    aside(element("td", {}, row.is_share ? picture([row.interval?.[0], row.difference, row.interval?.[1]], [-widest, widest], [0]) : "")),
    cell(row.num_pairs ? whole(row.num_pairs) : "not paired"), element("td", {}, look)];
}

/* ---- texts, long texts, speed, baselines ---- */
function texts({ summary }) {
  const rows = summary.texts.map((one) => element("tr", {}, element("th", { scope: "row" }, one.text), cell(short(one.bits_per_byte, 4)), cell(short(one.token_perplexity, 4)),
    cell(short(one.word_perplexity, 4)), cell(whole(one.num_tokens)), cell(whole(one.num_words)), cell(whole(one.num_bytes))));
  const positions = summary.texts.filter((one) => one.positions?.length).map((one) => {
    const most = Math.max(...one.positions.map((at) => at.loss));
    return element("div", {}, element("h4", {}, `${one.text}: by the place in a window`), table(["tokens by place", "perplexity", "", "n"], one.positions.map((at) => element("tr", {},
      cell(`${whole(at.start)} to ${whole(at.end)}`, ""), cell(short(at.perplexity, 4)),
      element("td", {}, element("meter", { min: 0, max: most, value: at.loss, "aria-label": `${short(at.loss, 4)} nats` })), cell(whole(at.num_tokens)))), one.position_rows));
  });
  return [table(["text", "bits/byte ↓", "per token ↓", "per word ↓", "tokens", "words", "bytes"], rows,
    "Bits per byte and perplexity by word compare models of different vocabularies, perplexity by token does not. Every token was scored once: the numbers are exact for this text, and say nothing of how another text would do."),
  ...summary.texts.map((one) => element("p", { class: "hint" }, `${one.text}: ${one.how}`)), ...positions];
}

/** Wilson's interval of a share, 95%. */
export function wilson(right, asked) {
  const z = 1.96, share = right / asked, scale = 1 + z * z / asked;
  const middle = (share + z * z / (2 * asked)) / scale, reach = (z * Math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))) / scale;
  return [Math.max(0, middle - reach), Math.min(1, middle + reach)];
}

function probe({ summary }) {
  const rows = summary.results.map((one) => {
    const [low, high] = wilson(one.right, one.asked);
    return element("tr", {}, element("th", { scope: "row" }, one.task), cell(whole(one.tokens)), cell(one.depth == null ? "all" : percent(one.depth, 0)),
      cell(`${percent(one.share, 0)}${low <= one.chance && one.chance <= high ? " ≈" : ""}`), cell(`${percent(low, 0)} to ${percent(high, 0)}`),
      element("td", {}, picture([low, one.share, high], [0, 1], [one.chance])), cell(percent(one.chance, 1)), cell(whole(one.asked)));
  });
  return [table(["task", "tokens", "depth", "found", "95% interval", "", "guessing", "n"], rows,
    "needle: a pass key at some depth of a long text, told from nine others. recall: arbitrary pairs, asked again. ≈ says that guessing lies within the interval.")];
}

function speed({ summary }) {
  const ms = (value) => short(1000 * value);
  const rows = summary.speeds.map((one) => element("tr", {}, cell(one.batch), cell(whole(one.prompt_tokens)), cell(whole(one.prefill_tokens_per_second)), cell(whole(one.decode_tokens_per_second)),
    cell(ms(one.step_seconds.p50)), cell(ms(one.step_seconds.p90)), cell(ms(one.step_seconds.p99))));
  return [table(["rows", "prompt", "reading tokens/s", "writing tokens/s", "token p50 ms", "p90", "p99"], rows, `${summary.runtime}; ${summary.num_runs} times each, ${summary.new_tokens} tokens written each time.`)];
}

function baselines({ summary }) {
  const rows = [...summary.rows].sort((a, b) => a.bits_per_byte - b.bits_per_byte);
  const most = Math.max(...rows.map((row) => row.bits_per_byte));
  return [table(["measured", "bits/byte ↓", "", "bytes", "how"], rows.map((row) => element("tr", {}, element("th", { scope: "row" }, row.name), cell(short(row.bits_per_byte, 4)),
    element("td", {}, element("meter", { min: 0, max: most, value: row.bits_per_byte, "aria-label": `${row.name}: ${short(row.bits_per_byte, 4)} bits per byte` })), cell(whole(row.bytes)), cell(row.how, ""))),
  "The same held-out documents for all; fewer bits are better. One text: no interval.")];
}
