// What runs, what needs somebody, what came out.
import { ask, byId, bytes, commandLine, duration, element, every, pointers, root, runPath, say, short, whole } from "./common.js";
import { differenceText, listedScore } from "./evaluate_scores.js";
import { jobCard, jobPath } from "./jobs.js";

const link = (run) => element("a", { href: `${root}/${runPath(run)}` }, run.name);

function card(run) {
  const share = run.steps ? Math.min(1, run.step / run.steps) : null;
  const numbers = [
    run.step != null ? `step ${whole(run.step)}${run.steps ? ` of ${whole(run.steps)}` : ""}` : null,
    run.loss != null ? `loss ${short(run.loss, 4)}` : null,
    run.validation_loss != null ? `validation ${short(run.validation_loss, 4)}` : null,
    run.bits_per_byte != null ? `${short(run.bits_per_byte, 4)} bits/byte` : null,
    run.state === "running" && run.tokens_per_second != null ? `${whole(run.tokens_per_second)} tokens/s` : null,
    run.seconds_left != null ? `about ${duration(run.seconds_left)} left` : run.seconds != null ? duration(run.seconds) : null,
  ].filter((text) => text);
  return element("article", { class: "card" },
    element("h3", {}, link(run), element("span", { class: "state", "data-state": run.state }, run.state)),
    share == null || run.state !== "running" ? null : element("progress", { max: 1, value: share, "aria-label": "Steps taken" }),
    element("span", {}, numbers.join(" · ") || "nothing measured yet"),
    run.state === "stopped" && run.message ? element("span", { class: "hint" }, run.message) : null);
}

function fill(place, runs, empty) {
  byId(place).replaceChildren(...(runs.length ? runs.map(card) : [element("p", { class: "hint" }, empty)]));
}

/* ---- what waits for somebody ---- */
const needs = {
  run: (row) => element("article", { class: "card" },
    element("h3", {}, link(row), element("span", { class: "state", "data-state": row.state }, row.state)),
    row.text ? element("code", { class: "last" }, row.text) : null,
    row.command ? element("span", {}, row.has_begun ? "Go on with:" : "It took no step; the same once more:") : element("span", { class: "hint" }, row.cannot || ""), row.command ? commandLine(row.command) : null),
  job: (row) => element("article", { class: "card" },
    element("h3", {}, element("a", { href: jobPath(row) }, `Job ${Number(row.id)}`), element("span", { class: "state", "data-state": "failed" }, "failed")),
    row.text ? element("code", { class: "last" }, row.text) : null, commandLine(row.command)),
  evaluation: (row) => element("article", { class: "card" },
    element("h3", {}, element("a", { href: `${root}/evaluate#${new URLSearchParams(row.baseline ? { show: row.baseline, beside: row.at } : { show: row.at })}` }, `${row.name} is measured`),
      element("span", { class: "state", "data-state": "done" }, "new")),
    row.differences ? element("span", {}, `against its baseline: ${row.differences.map((each) => `${each.task} ${differenceText(each)}`).join(", ")}`)
      : element("span", {}, row.problem || row.scores.map(listedScore).join(", ") + (row.more > row.scores.length ? ` and ${row.more - row.scores.length} more` : "")),
    row.limit ? element("span", { class: "hint" }, `of the first ${row.limit} questions of each`) : null),
  disk: (row) => element("article", { class: "card" }, element("h3", {}, "The disk is nearly full"), element("span", {}, `${bytes(row.free_bytes)} are free in ${row.folder}.`)),
  more: (row) => element("article", { class: "card" }, element("a", { href: `${root}/runs#filter=${encodeURIComponent("state:crashed,failed")}` }, `${row.count} more runs that broke`)),
};

/* ---- the way from text to a model that talks ---- */
const pages = pointers.dataset.pages.split(" ");
const MARKS = { done: "✓", running: "●", next: "→", open: "○" };
const WORDS = { done: "done", running: "running now", next: "next", open: "later" };
const address = (step) => (pages.includes(step.page) ? `${root}/${step.page}${Object.keys(step.where).length ? `#${new URLSearchParams(step.where)}` : ""}` : null);

function showSteps(steps) {
  byId("path").replaceChildren(...steps.map((step) => {
    const href = address(step);
    return element("li", { "data-state": step.state, "aria-current": step.state === "next" ? "step" : null },
      element("span", { class: "mark", "aria-hidden": "true" }, MARKS[step.state]), href ? element("a", { href }, step.name) : element("b", {}, step.name),
      element("span", { class: "unseen" }, `: ${WORDS[step.state]}`), element("small", {}, step.text || WORDS[step.state]));
  }));
  const next = steps.find((step) => step.state === "next");
  byId("next-line").hidden = byId("next-command").hidden = !next;
  if (!next) return;
  const href = address(next);
  byId("next-words").replaceChildren("Next: ", href ? element("a", { href }, next.name) : element("b", {}, next.name), ".");
  byId("next-command").querySelector("code").textContent = next.command;
}

let lastHome = "";
const look = every(5, async () => {
  const found = await ask("home");
  const now = JSON.stringify(found);
  if (now === lastHome) return;
  lastHome = now;
  window.homeState = found;  // for tests
  showSteps(found.steps);
  byId("broken").replaceChildren(...(found.needs.length ? found.needs.map((row) => needs[row.kind](row)) : [element("p", { class: "hint" }, "Nothing: no run or command failed.")]));
});

byId("quick")?.addEventListener("click", async () => {
  byId("quick").disabled = true;
  try { say((await ask("quick", { body: {} })).said); refresh(); look(); } catch (error) { say(error.message, "error"); } finally { byId("quick").disabled = false; }
});

let last = "";
const refresh = every(2, async () => {
  const [{ runs }, { jobs }] = await Promise.all([ask("runs"), ask("jobs")]);
  const now = JSON.stringify([runs, jobs]);
  if (now === last) return;
  last = now;
  fill("running", runs.filter((run) => run.state === "running"), jobs.some((job) => job.state === "running") ? "No training; what else runs stands under Jobs." : "Nothing runs.");
  fill("results", runs.filter((run) => ["done", "stopped"].includes(run.state)).slice(0, 9), "No run has ended yet. Start a quick run, or train on your own text.");
  byId("jobs").className = "cards";
  byId("jobs").replaceChildren(...(jobs.length ? jobs.slice(0, 6).map((job) => jobCard(job, refresh)) : [element("p", { class: "hint" }, "No job was started from here.")]));
});
