// Every page: the theme button, the copy buttons, keys.
import { byId, copy } from "./common.js";

const order = ["system", "light", "dark"];
const button = byId("theme");
function show() {
  const now = document.documentElement.dataset.theme || "system";
  button.textContent = { system: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[now];
  button.setAttribute("aria-label", `Theme: ${now}`);
}
button.addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "system";
  const next = order[(order.indexOf(now) + 1) % order.length];
  if (next === "system") { delete document.documentElement.dataset.theme; localStorage.removeItem("theme"); }
  else { document.documentElement.dataset.theme = next; localStorage.setItem("theme", next); }
  show();
  dispatchEvent(new Event("themechange"));
});
show();

document.addEventListener("click", (event) => {
  const pressed = event.target.closest("button.copy");
  if (pressed) copy(pressed.previousElementSibling.textContent, pressed);
});

// g then the first letter of a page goes there
let waiting = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]")) return;
  if (waiting) {
    waiting = false;
    const link = [...document.querySelectorAll("header nav a")].find((each) => each.textContent[0].toLowerCase() === event.key);
    if (link) link.click();
  } else if (event.key === "g") {
    waiting = true;
    setTimeout(() => { waiting = false; }, 1500);
  }
});
