// Every page: the theme button, the copy buttons, keys, the palette.
import { byId, copy } from "./common.js";
import "./palette.js";

const order = ["system", "light", "dark"];
const button = byId("theme");
function show() {
  const now = document.documentElement.dataset.theme || "system";
  button.textContent = { system: "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[now];
  button.setAttribute("aria-label", `Theme: ${now}`);
}
function choose(next) {
  if (next === "system") { delete document.documentElement.dataset.theme; localStorage.removeItem("theme"); }
  else { document.documentElement.dataset.theme = next; localStorage.setItem("theme", next); }
  show();
  dispatchEvent(new Event("themechange"));
}
button.addEventListener("click", () => choose(order[(order.indexOf(document.documentElement.dataset.theme || "system") + 1) % order.length]));
addEventListener("theme", (event) => choose(event.detail));
show();

// where the navigation is wider than the screen it scrolls: this page is seen in it
const nav = document.querySelector("header nav");
const center = (link) => { nav.scrollLeft = link.offsetLeft - (nav.clientWidth - link.offsetWidth) / 2; };
nav.addEventListener("focusin", (event) => center(event.target));
const here = nav.querySelector("[aria-current]");
if (here) center(here);

// g then the key of a page goes there
let waiting = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  if (waiting) {
    waiting = false;
    const link = [...document.querySelectorAll("header nav a")].find((each) => each.dataset.key === event.key);
    if (link) link.click();
  } else if (event.key === "g") {
    waiting = true;
    setTimeout(() => { waiting = false; }, 1500);
  }
});
