// Choosing files of the machine that the dashboard runs on, and sending it others.
import { ask, byId, bytes, element, pointers, reason, root, say, short } from "./common.js";

document.head.append(element("link", { rel: "stylesheet", href: new URL("files.css", import.meta.url).href }));
let dialog = null, target = null, wanted = {}, here = null, asked = 0;
const place = (selector) => dialog.querySelector(selector);

/** A “Browse” button behind an input. `kinds`: "any", "file" or "folder"; a textarea gets a further line. */
export function pickFile(input, { kinds = "any", label = "Browse", title = "Choose a file or folder" } = {}) {
  const button = element("button", { type: "button", class: "quiet browse", "aria-haspopup": "dialog" }, label);
  button.addEventListener("click", (event) => { event.preventDefault(); open(input, { kinds, title }); });
  const around = element("span", { class: "with-browse" });
  input.replaceWith(around);
  around.append(input, button);
  return button;
}

function build() {
  const close = element("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel");
  const path = element("input", { id: "files-path", "aria-label": "Folder", spellcheck: "false", autocomplete: "off" });
  const writes = pointers.dataset.readOnly !== "yes";
  const chosen = element("input", { type: "file", id: "files-upload", onchange: () => { if (chosen.files[0]) send(chosen.files[0]); } });
  dialog = element("dialog", { id: "files", "aria-labelledby": "files-title" },
    element("div", { class: "heading" }, element("h2", { id: "files-title" }), element("div", { class: "actions" }, close)),
    element("form", { class: "with-browse", onsubmit: (event) => { event.preventDefault(); look(path.value); } }, path, element("button", { class: "quiet" }, "Go")),
    element("div", { id: "files-roots", class: "uses" }),
    element("p", { id: "files-said", class: "problem", role: "alert", hidden: true }),
    element("ul", { id: "files-list", "aria-label": "Files", onkeydown: move }),
    element("div", { class: "controls" },
      element("button", { type: "button", id: "files-this", onclick: () => choose(here.path) }, "Use this folder"),
      writes ? element("label", { for: "files-upload" }, "Send a file to this machine ", chosen) : null,
      element("progress", { id: "files-progress", max: 1, value: 0, "aria-label": "Sent", hidden: true })));
  dialog.addEventListener("dragover", (event) => event.preventDefault());
  dialog.addEventListener("drop", (event) => { event.preventDefault(); if (writes && event.dataTransfer.files[0]) send(event.dataTransfer.files[0]); });
  document.body.append(dialog);
}

function complain(text) {
  place("#files-said").textContent = text;
  place("#files-said").hidden = !text;
}

async function open(input, asked) {
  if (!dialog) build();
  [target, wanted] = [input, asked];
  place("#files-title").textContent = asked.title;
  place("#files-this").hidden = asked.kinds === "file";
  complain("");
  dialog.showModal();
  const typed = input.value.trim().split("\n").pop().replace(/^[\w.-]+=/, "").replace(/:[\d.]+$/, "");
  const folder = typed.includes("/") ? typed.replace(/\/[^/]*$/, "") : "";
  if (!(await look(folder, true)) && folder) await look("");
}

/** Show a folder; false when there is none like that. */
async function look(path, quietly = false) {
  const number = (asked += 1), typed = place("#files-path").value;
  try {
    const found = await ask(`files?path=${encodeURIComponent(path)}`);
    if (number < asked) return true;  // another folder was opened meanwhile
    here = found;
  } catch (error) {
    if (number < asked) return true;
    if (!quietly) complain(error.message);
    return false;
  }
  complain("");
  const isTyping = place("#files-path").value !== typed;  // another path, since this one was asked for
  if (!isTyping) place("#files-path").value = here.path;
  place("#files-roots").replaceChildren(...(here.roots.length < 2 ? [] : here.roots.map((each) => element("button", { type: "button", class: "quiet", onclick: () => look(each.path) }, each.name))));
  const up = here.parent == null ? [] : [element("li", {}, element("button", { type: "button", class: "row", onclick: () => look(here.parent) }, element("span", {}, "↑ the folder above")))];
  place("#files-list").replaceChildren(...up, ...here.entries.map(row),
    ...(here.entries.length ? [] : [element("li", { class: "hint" }, "Nothing to show in this folder.")]),
    ...(here.left_out ? [element("li", { class: "hint" }, `and ${short(here.left_out)} more: type the path`)] : []));
  if (!isTyping) place("#files-list button")?.focus();
  return true;
}

function row(entry) {
  const usable = entry.is_folder ? wanted.kinds !== "file" : wanted.kinds !== "folder";
  const text = [element("span", {}, entry.is_folder ? `${entry.name}/` : entry.name), entry.what ? element("span", { class: "badge" }, entry.what) : null, entry.is_folder ? null : element("span", { class: "size" }, bytes(entry.bytes))];
  const main = element("button", { type: "button", class: "row", disabled: !entry.is_folder && !usable, onclick: () => (entry.is_folder ? look(entry.path) : choose(entry.path)) }, ...text);
  const use = entry.is_folder && usable ? element("button", { type: "button", class: "quiet", "aria-label": `Use the folder ${entry.name}`, onclick: () => choose(entry.path) }, "Use") : null;
  return element("li", {}, main, use);
}

/** Arrows go along the list, Backspace goes up. */
function move(event) {
  const buttons = [...place("#files-list").querySelectorAll("button.row:enabled")];
  const at = buttons.indexOf(event.target.closest("li")?.querySelector("button.row"));
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (to != null) { event.preventDefault(); buttons[Math.min(Math.max(to, 0), buttons.length - 1)]?.focus(); }
  else if (event.key === "Backspace" && here.parent != null) { event.preventDefault(); look(here.parent); }
}

function choose(path) {
  if (target instanceof HTMLTextAreaElement) {
    const lines = target.value.split("\n").filter((line) => line.trim());
    target.value = [...lines, path].join("\n");
  } else target.value = path;
  dialog.close();
  target.focus();
  for (const kind of ["input", "change"]) target.dispatchEvent(new Event(kind, { bubbles: true }));
}

/** Send a file; `XMLHttpRequest`, for `fetch` does not say how far it is. Resolves to the answer. */
export function upload(file, onprogress = () => {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${root}/api/upload?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onprogress(event.loaded / Math.max(1, event.total));
    request.onerror = () => reject(new Error("the dashboard did not take the file: it may be too large, or the dashboard is gone"));
    request.onload = async () => {
      if (request.status === 200) resolve(JSON.parse(request.responseText));
      else reject(new Error(await reason(new Response(request.responseText, { status: request.status }))));
    };
    request.send(file);
  });
}

async function send(file) {
  const progress = place("#files-progress");
  if (file.size > here?.upload_bytes) { complain(`${file.name} has ${bytes(file.size)}: at most ${bytes(here.upload_bytes)} are taken (mamba-slm dashboard --upload-limit)`); return; }
  progress.hidden = false;
  try {
    const sent = await upload(file, (share) => { progress.value = share; });
    say(sent.said);
    if (wanted.kinds === "folder") await look(sent.path.replace(/\/[^/]*$/, ""));
    else choose(sent.path);
  } catch (error) { complain(error.message); } finally {
    progress.hidden = true;
    byId("files-upload").value = "";
  }
}
