// What runs, what needs somebody, what came out.
import { ask, byId, commandLine, duration, element, every, root, runPath, say, short, whole } from "./common.js";

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
    run.state === "crashed" ? element("span", { class: "hint" }, "Its process is gone. Its page shows how to go on.") : null,
    run.state === "failed" && run.message ? element("span", { class: "hint" }, run.message) : null);
}

function fill(place, runs, empty) {
  byId(place).replaceChildren(...(runs.length ? runs.map(card) : [element("p", { class: "hint" }, empty)]));
}

export function jobRow(job, refresh) {
  const cancel = element("button", { type: "button", class: "quiet", onclick: async () => {
    try { say((await ask(`jobs/${job.home}/${job.id}/cancel`, { body: {} })).said); refresh(); } catch (error) { say(error.message, "error"); }
  } }, "Take back");
  const code = job.has_failed && job.exit_code != null ? ` with exit code ${job.exit_code}` : "";
  const what = [job.command.split(" ")[1], job.run?.split("/").pop()].filter((text) => text).join(" ");
  return element("article", { class: "card" },
    element("h3", {}, `Job ${Number(job.id)}: ${what}`, element("span", { class: "state", "data-state": job.has_failed ? "failed" : job.state === "ended" ? "done" : job.state }, job.state + code)),
    commandLine(job.command), job.state === "waiting" ? cancel : null);
}

let last = "";
every(2, async function refresh() {
  const [{ runs }, { jobs }] = await Promise.all([ask("runs"), ask("jobs")]);
  const now = JSON.stringify([runs, jobs]);
  if (now === last) return;
  last = now;
  fill("running", runs.filter((run) => run.state === "running"), "Nothing runs.");
  fill("broken", runs.filter((run) => ["crashed", "failed"].includes(run.state)).slice(0, 6), "Nothing: no run failed.");
  fill("results", runs.filter((run) => ["done", "stopped"].includes(run.state)).slice(0, 9), "No run has ended yet.");
  byId("jobs").className = "cards";
  byId("jobs").replaceChildren(...(jobs.length ? jobs.slice(0, 6).map((job) => jobRow(job, refresh)) : [element("p", { class: "hint" }, "No job was started from here.")]));
});
