// Single answers: what was expected, what was given, and how likely each choice was.
import { ask, byId, element, say, short, whole } from "./common.js";

const MOST = 20;
const NAMES = { wrong: "wrong", right: "right", all: "all", changed: "changed", better: "now better", worse: "now worse" };

export class Answers {
  constructor(choose) {
    this.choose = choose;
    this.asked = 0;
    byId("task").addEventListener("change", (event) => choose({ task: event.target.value, from: null }));
    byId("which").addEventListener("change", (event) => choose({ which: event.target.value, task: byId("task").value, from: null }));
    for (const [id, by] of [["answers-before", -MOST], ["answers-after", MOST]])
      byId(id).addEventListener("click", () => choose({ from: Math.max(0, this.first + by) || null }));
  }

  /** Shows a page of the answers of `shown`, beside those of `other` where there is one. */
  async show(shown, other, { task, which = null, from = "0" }) {
    const tasks = shown?.kind === "questions" ? shown.scores.filter((row) => !row.is_group) : [];
    byId("answers").hidden = !tasks.length;
    if (!tasks.length) return;
    const row = tasks.find((each) => each.task === task) || tasks[0];
    const choices = other ? ["changed", "better", "worse", "wrong", "right", "all"] : ["wrong", "right", "all"];
    const chosen = choices.includes(which) ? which : choices[0];
    fill(byId("task"), tasks.map((each) => [each.task, each.task]), row.task);
    fill(byId("which"), choices.map((each) => [each, NAMES[each]]), chosen);
    const query = new URLSearchParams({ at: shown.at, task: row.task, metric: row.metric, which: chosen, first: from });
    if (other) query.set("beside", other.at);
    if (this.last === String(query)) return;
    this.last = String(query);
    const number = (this.asked += 1);
    try {
      const found = await ask(`evaluations/answers?${query}`);
      if (number === this.asked) this.draw(found, row, shown, other, chosen);
    } catch (error) {
      if (number === this.asked) this.last = null;  // asked again with the next look
      say(error.message, "error");
    }
  }

  draw(found, row, shown, other, which) {
    this.first = found.first;
    const end = found.first + found.answers.length;
    byId("answers-count").textContent = found.count ? `${whole(found.first + 1)} to ${whole(end)} of ${whole(found.count)} ${NAMES[which]}, ${whole(found.asked)} asked` : `none of ${whole(found.asked)}`;
    byId("answers-before").disabled = found.first === 0;
    byId("answers-after").disabled = end >= found.count;
    byId("answers-note").hidden = !found.answers.length || found.answers.some((answer) => answer.prompt);
    byId("answer-list").replaceChildren(...found.answers.map((answer) => card(answer, row, other)),
      ...(found.answers.length ? [] : [element("p", { class: "hint" }, "No such answers here. Choose others above.")]));
    window.evaluateState.answers = found;
  }
}

function fill(select, options, value) {
  const now = JSON.stringify(options);
  if (select.dataset.options !== now) select.replaceChildren(...options.map(([key, text]) => element("option", { value: key }, text)));
  select.dataset.options = now;
  select.value = value;
}

function card(answer, row, other) {
  const said = (each, title) => element("div", { class: "given" }, element("b", {}, title), element("p", { class: "text" }, each.answer || "nothing"),
    element("span", { class: "state", "data-state": each.score ? "done" : each.score === 0 ? "failed" : "" }, each.score == null ? "no score" : `${row.metric} ${short(each.score)}`));
  return element("article", { class: "card" }, element("h3", {}, `Question ${whole(answer.question)}`),
    answer.prompt ? element("p", { class: "text asked-text" }, answer.prompt) : null,
    element("div", { class: "sides" }, element("div", { class: "given" }, element("b", {}, "Expected"), element("p", { class: "text" }, answer.target)),
      said(answer, other ? "First" : "Given"), ...(answer.beside ? [said(answer.beside, "Second")] : [])),
    answer.choices.length ? choices(answer) : null);
}

function choices(answer) {
  const other = answer.beside?.choices || [];
  const names = ["choice", "log-probability", "by character", ...(other.length ? ["second", "by character"] : [])];
  const number = (value) => element("td", { class: "number" }, short(value, 4));
  return element("details", {}, element("summary", {}, `${answer.choices.length} choices and how likely each was`),
    element("div", { class: "scroll", tabindex: 0 }, element("table", {}, element("thead", {}, element("tr", {}, ...names.map((name, i) => element("th", { scope: "col", class: i ? "number" : null }, name)))),
      element("tbody", {}, ...answer.choices.map((each, i) => element("tr", { class: each.text === answer.target ? "right" : null },
        element("th", { scope: "row" }, `${each.text}${each.text === answer.target ? " ✓" : ""}`), number(each.logprob), number(each.per_character),
        ...(other[i] ? [number(other[i].logprob), number(other[i].per_character)] : [])))))));
}
