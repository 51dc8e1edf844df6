// Shortcuts of one key, and the sheet that lists them. They can be switched off: speech input types letters.

import { at, h, icon } from "./dom.js";

const STORED = "graphflow.single-keys";
const ROWS = [
  [["N"], "New image"],
  [["/"], "Search results"],
  [["?"], "This list"],
  [["←", "→"], "Previous and next result"],
  [["↑", "↓"], "Move through results, and a waiting prompt in the queue"],
  [["R"], "Run again"],
  [["S"], "Run with a new seed"],
  [["E"], "Edit its settings"],
  [["C"], "Copy workflow"],
  [["G"], "Open its graph in the editor"],
  [["D"], "Download"],
  [["Del"], "Delete"],
  [["Ctrl", "↵"], "Run the form"],
  [["Esc"], "Close"],
];

export const singleKeys = () => localStorage.getItem(STORED) !== "off";

/** `actions` by key, on the page itself; in a text or a dialog they rest. */
export function listenForKeys(actions) {
  document.addEventListener("keydown", event => {
    if (!singleKeys() || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, dialog") || document.querySelector("dialog[open]")) return;
    const action = { ...actions, "?": showKeys }[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
}

export function showKeys() {
  const dialog = at("keys");
  dialog.replaceChildren(
    h(
      "div.head",
      {},
      h("h2", { id: "keys-h" }, "Keyboard"),
      h("button.btn.quiet.square", { "aria-label": "Close", onclick: () => dialog.close() }, icon("x")),
    ),
    h(
      "dl.keys",
      {},
      ROWS.flatMap(([names, what]) => [
        h(
          "dt",
          {},
          names.map(key => h("kbd", {}, key)),
        ),
        h("dd", {}, what),
      ]),
    ),
    h(
      "label.switch",
      {},
      h("input", {
        type: "checkbox",
        checked: singleKeys(),
        onchange: event => localStorage.setItem(STORED, event.target.checked ? "on" : "off"),
      }),
      "Use single keys as shortcuts",
    ),
  );
  dialog.showModal();
}
