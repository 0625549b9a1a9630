// What every page that starts commands shows of them.
import { ask, byId, commandLine, element, every, pointers, root, say } from "./common.js";

export const ended = (job) => ["ended", "cancelled", "lost"].includes(job.state);

/** The state for the style, and in words. */
export function shownState(job) {
  if (job.has_failed) return ["failed", job.exit_code == null ? job.state : `failed with exit code ${job.exit_code}`];
  if (job.state === "ended" && job.exit_code) return ["stopped", "stopped"];  // as somebody asked
  return job.state === "ended" ? ["done", "done"] : [job.state, job.state];
}

export const jobPath = (job) => `${root}/jobs/${job.home}/${job.id}`;

/** What can be done about a job now. */
export function buttons(job, refresh) {
  if (pointers.dataset.readOnly === "yes") return [];
  const made = (text, what) => element("button", { type: "button", class: "quiet", onclick: async () => {
    try { say((await ask(`jobs/${job.home}/${job.id}/${what}`, { body: {} })).said); refresh(); } catch (error) { say(error.message, "error"); }
  } }, text);
  if (job.state === "waiting") return [made("Take back", "cancel")];
  return job.state === "running" ? [made("End it", "end")] : [];
}

/** The command and what it is about, without quotes: names may hold spaces. */
const summary = (command) => (/^\S+ (\S+(?: (?:'[^']*'|\S+))?)/.exec(command)?.[1] ?? command).replaceAll("'", "");

/** A card. `title` is text or an element; what the page knows besides goes into `more`. */
export function jobCard(job, refresh, { title = null, more = [] } = {}) {
  const [state, words] = shownState(job);
  const what = title || element("a", { href: jobPath(job) }, `Job ${Number(job.id)}: ${summary(job.command)}`);
  return element("article", { class: "card" },
    element("h3", {}, what, element("span", { class: "state", "data-state": state }, words)), ...more,
    /^(?!\{).*[\p{L}\p{N}]/su.test(job.last_line || "") ? element("code", { class: "last" }, job.last_line) : null,
    commandLine(job.command), ...buttons(job, refresh));
}

/** Keeps the jobs whose command passes `wanted(job)` in the element `place`; returns a function that looks at once, whose
 * `redraw` makes the cards anew: what the page knows besides has changed. */
export function followJobs(place, wanted, { most = 12, onchange = () => {}, card = jobCard } = {}) {
  let last = "";
  const refresh = every(1.5, async () => {
    const jobs = (await ask("jobs")).jobs.filter(wanted).slice(0, most);
    const now = JSON.stringify(jobs);
    if (now === last) return;
    last = now;
    byId(place).replaceChildren(...(jobs.length ? jobs.map((job) => card(job, refresh)) : [element("p", { class: "hint" }, "Nothing was started from here yet.")]));
    onchange(jobs);
  });
  return Object.assign(refresh, { redraw() { last = ""; refresh(); } });
}

/** Whether a job runs this command of ours: `isCommand(job, "eval")`. */
export const isCommand = (job, ...names) => names.includes(job.command.split(" ")[1]);
