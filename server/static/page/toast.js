// Short notes, and changes that can be undone for ten seconds before they are sent.

import { at, h } from "./dom.js";

const WAIT = 10000;
const note = at("toast");
let timer = null;
let finish = null;

/** Show a note; with `action`, a button that calls `act`. */
export function toast(text, action, act, ended) {
  settle();
  // Beside an open modal dialog nothing can be clicked, so the note goes into it.
  (document.querySelector("dialog[open]") || document.body).append(note);
  const close = () => {
    note.replaceChildren();
    note.remove();
    document.body.append(note);
  };
  note.replaceChildren(
    text,
    action
      ? h(
          "button",
          {
            onclick: () => {
              finish = null;
              clearTimeout(timer);
              close();
              act();
            },
          },
          action,
        )
      : h("span"),
  );
  finish = ended ?? null;
  const wait = () => {
    timer = setTimeout(
      () => {
        if (!ended && note.matches(":hover, :focus-within")) return wait();
        settle();
        close();
      },
      action ? WAIT : 5000,
    );
  };
  clearTimeout(timer);
  wait();
}

/** Show that something is gone, and send it when nobody has undone it: `send(leaving)`. */
export function undoable(text, undo, send) {
  toast(text, "Undo", undo, send);
}

/** Send at once what waits to be undone. */
export function settle(leaving = false) {
  const send = finish;
  finish = null;
  if (send) send(leaving);
}

export const copied = what => toast(what + " copied");

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only pages of this machine and of https may use the clipboard; a selection can be copied everywhere.
    const box = h("textarea.vh", { "aria-hidden": "true" });
    box.value = text;
    (document.querySelector("dialog[open]") || document.body).append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
  copied(what);
}

export const sorry = error => toast(error.message || String(error));

addEventListener("pagehide", () => settle(true));
