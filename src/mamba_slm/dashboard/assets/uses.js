// Links to the pages that do something with a model, with its path filled in.
import { element, root } from "./common.js";

const PAGES = { Chat: ["chat"], Evaluate: ["evaluate"], Export: ["models", { do: "export" }], Quantize: ["models", { do: "quantize" }], "Fine-tune": ["tune"], Serve: ["serve"] };

/** Links by their texts, such as `usesOf("runs/a", "Chat", "Export")`. */
export const usesOf = (path, ...texts) => texts.map((text) => {
  const [page, more] = PAGES[text];
  return element("a", { href: `${root}/${page}#${new URLSearchParams({ model: path, ...more })}` }, text);
});
