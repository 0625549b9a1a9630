// One job, while it runs.
import { ask, byId, every, pointers } from "./common.js";
import { buttons, ended, shownState } from "./jobs.js";

const path = `jobs/${pointers.dataset.home}/${pointers.dataset.id}`;
window.jobState = {};  // for tests
const refresh = every(1, async () => {
  if (window.jobState.job && ended(window.jobState.job)) return;
  const { job, text } = await ask(path);
  window.jobState.job = job;
  const place = byId("log-text");
  const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 8;
  place.textContent = text || "nothing yet";
  if (atEnd) place.scrollTop = place.scrollHeight;
  Object.assign(byId("state").dataset, { state: shownState(job)[0] });
  byId("state").textContent = shownState(job)[1];
  byId("actions").replaceChildren(...buttons(job, () => refresh()));
});
