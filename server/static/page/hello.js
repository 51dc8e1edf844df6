// The page of a server that has run nothing yet.

import { ask } from "./api.js";
import { chooseFile } from "./drop.js";
import { h, icon } from "./dom.js";
import { ready, shippedForms, workflowForm } from "./form.js";
import { devicesOf } from "./machine.js";
import { copy } from "./toast.js";
import { bytes, plural } from "./words.js";

const COMMAND = "graphflow run text_to_image";

export async function hello() {
  const [forms, stats] = await Promise.all([shippedForms(), ask("/system_stats")]);
  const device = devicesOf(stats)[0],
    can = ready(forms),
    missing = forms.length - can.length;
  return h(
    "div.hello",
    {},
    h("h1", {}, "Make your first image"),
    h(
      "p.lead",
      {},
      "GraphFlow runs image workflows on this machine. Nothing is sent anywhere, and a small model is included, " +
        "so you can start now.",
    ),
    h(
      "div.start",
      {},
      h("section.card", { "aria-label": "Start with a form" }, workflowForm(can, { first: true })),
      h(
        "div",
        {},
        h(
          "section.card.bring",
          {},
          h("h2", {}, "Bring a workflow"),
          h("p", {}, "A JSON file from ComfyUI or GraphFlow, or an image that was made with one."),
          h(
            "div.drop",
            {},
            icon("drop"),
            h("span", {}, "Drop a file anywhere on this page"),
            h("button.btn", { onclick: chooseFile }, "Choose a file"),
          ),
        ),
        h(
          "section.card",
          {},
          h("h2", {}, "Use the command line"),
          h("p", {}, "The same workflow, from a terminal:"),
          h(
            "div.cli",
            {},
            h("code", { tabindex: "0", "aria-label": "Command" }, COMMAND),
            h(
              "button.btn.quiet.tight.square",
              { "aria-label": "Copy the command", title: "Copy", onclick: () => copy(COMMAND, "Command") },
              icon("copy"),
            ),
          ),
        ),
      ),
    ),
    h(
      "div.ready",
      {},
      h("span", {}, h("span.dot.on"), "Ready"),
      h(
        "span.num",
        {},
        device.name +
          ", " +
          ((device.total - device.used) / 1e9).toFixed(1) +
          " of " +
          bytes(device.total).replace(".0 ", " ") +
          " free",
      ),
      h("span", {}, "Included model: graphflow-tiny, 20 subjects at 64 × 64"),
      missing
        ? h(
            "span",
            {},
            plural(missing, "more workflow") +
              " for models that you put into models/checkpoints and the folders beside it",
          )
        : null,
    ),
  );
}
