// Conversations as files, and answers of which a turn has several.
import { element } from "./common.js";

const VERSION = 1;
const MOST_TURNS = 1000;

/** Before a retry: the answer that is there goes behind the new one. */
export function putAway(turn, id) {
  const before = turn.answers[id];
  if (!before?.text) return;
  turn.older ??= {};
  const all = everyAnswer(turn, id);
  turn.older[id] = all;
  (turn.place ??= {})[id] = all.length;
}

/** The answers of a model in the order in which they came, the shown one in its place. */
export function everyAnswer(turn, id) {
  const older = [...(turn.older?.[id] ?? [])];
  if (turn.answers[id]) older.splice(turn.place?.[id] ?? older.length, 0, turn.answers[id]);
  return older;
}

/** ‹ 1/2 ›, where there are several. */
export function choicesView(turn, id, changed) {
  const all = everyAnswer(turn, id);
  if (all.length < 2) return null;
  const place = turn.place?.[id] ?? all.length - 1;
  const go = (step) => () => {
    const next = place + step;
    turn.older[id] = all.filter((_, i) => i !== next);
    turn.place[id] = next;
    turn.answers[id] = all[next];
    changed();
  };
  const button = (text, label, step, usable) => element("button", { type: "button", class: "quiet", "aria-label": label, disabled: !usable, onclick: go(step) }, text);
  return element("span", { class: "uses" }, button("‹", "The answer before", -1, place > 0), element("small", {}, `${place + 1}/${all.length}`), button("›", "The answer after", 1, place < all.length - 1));
}

export function saveTalk(content) {
  const text = JSON.stringify({ format_version: VERSION, ...content }, null, 2);
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "conversation.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const textOf = (value, what) => { if (typeof value !== "string") throw new Error(`${what} must be text`); return value; };
const numberOf = (value) => (typeof value === "number" && Number.isFinite(value) ? value : undefined);

function answerOf(value) {
  if (!isObject(value)) throw new Error("an answer must be an object");
  const answer = { text: textOf(value.text, "an answer") };
  for (const name of ["tokens", "first", "speed"]) if (numberOf(value[name]) !== undefined) answer[name] = value[name];
  for (const name of ["finish", "error"]) if (typeof value[name] === "string") answer[name] = value[name];
  return answer;
}

const mapped = (value, make) => Object.fromEntries(Object.entries(isObject(value) ? value : {}).map(([id, each]) => [id, make(each)]));

function turnOf(value) {
  if (!isObject(value)) throw new Error("a turn must be an object");
  const turn = { text: textOf(value.text, "what was asked"), answers: mapped(value.answers, answerOf) };
  turn.older = mapped(value.older, (each) => (Array.isArray(each) ? each.map(answerOf) : []));
  turn.place = {};
  for (const [id, older] of Object.entries(turn.older)) turn.place[id] = Math.max(0, Math.min(numberOf(value.place?.[id]) ?? older.length, older.length));
  if (typeof value.better === "string") turn.better = value.better;
  return turn;
}

/** A conversation from the text of a file: only what we know, each of its kind. Raises Error with what is wrong. */
export function readTalk(text) {
  const found = JSON.parse(text);
  if (!isObject(found) || !Array.isArray(found.turns)) throw new Error("it holds no turns");
  if ((found.format_version ?? 1) > VERSION) throw new Error("it was written by a newer mamba-slm");
  if (found.turns.length > MOST_TURNS) throw new Error(`more than ${MOST_TURNS} turns`);
  const settings = Object.fromEntries(Object.entries(isObject(found.settings) ? found.settings : {}).filter(([, value]) => value === null || numberOf(value) !== undefined));
  return {
    talk: { title: typeof found.title === "string" ? found.title : "", turns: found.turns.map(turnOf) },
    system: typeof found.system === "string" ? found.system : "", settings,
  };
}
