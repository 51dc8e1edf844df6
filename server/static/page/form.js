// A run without the editor: the form of a workflow, shipped or brought.

import { ask, queue } from "./api.js";
import { BUILT_IN, controlOf, sizes } from "./controls.js";
import { at, h, icon } from "./dom.js";
import { sorry, toast } from "./toast.js";
import { plural, rough } from "./words.js";

const TRY = ["an owl on a blue background", "a rocket on a grey background", "a pink guitar"];
const MAIN = ["image", "text", "seed", "width", "height", "steps"];
const RUN_KEYS = /Mac|iP/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵";
let shipped = null;
let number = 0;

/** The shipped workflows as forms, asked for once. */
export async function shippedForms() {
  shipped ??= ask("/forms");
  try {
    return await shipped;
  } catch (error) {
    shipped = null;
    throw error;
  }
}

/** Open the dialog; with `brought` `{name, title, workflow, fields}` its form comes first and is filled in. */
export async function compose(brought = null, words = "New image") {
  const dialog = at("compose");
  let forms;
  try {
    forms = await shippedForms();
  } catch (error) {
    return sorry(error);
  }
  const close = () => dialog.close();
  dialog.replaceChildren(
    h(
      "div.head",
      {},
      h("h2", { id: "compose-h" }, words),
      h("button.btn.quiet.square", { "aria-label": "Close", onclick: close }, icon("x")),
    ),
    workflowForm(brought ? [brought, ...ready(forms)] : ready(forms), { after: close }),
  );
  if (!dialog.open) dialog.showModal();
  (dialog.querySelector("textarea") ?? dialog.querySelector("input, select"))?.focus();
}

/** Those that can run; the others need model files that are not here. One that lacks only an image is asked for it. */
export const ready = forms => forms.filter(form => form.problems.every(problem => isOfImage(form, problem)));

const isOfImage = (form, problem) =>
  form.fields.some(
    field =>
      field.kind === "image" && field.places.some(([node, input]) => node === problem.node && input === problem.input),
  );

/** The form with a choice of workflows. `first`: examples of prompts are offered. */
export function workflowForm(forms, { after = () => {}, first = false } = {}) {
  const id = "f" + ++number + "-";
  const body = h("div.form"),
    note = h("span.small.soft", { id: id + "note", role: "status" }),
    wrong = h("div.wrong", { role: "alert", hidden: true });
  const run = h(
    "button.btn.main",
    { "aria-describedby": id + "note" },
    "Run",
    h("kbd", { "aria-hidden": "true" }, RUN_KEYS),
  );
  let now = null;

  const choose = form => {
    now = { form, controls: [] };
    wrong.hidden = true;
    fill(body, now, id, first, estimate);
    estimate();
  };
  let timer = null;
  const estimate = () => {
    clearTimeout(timer);
    note.textContent = "";
    const mine = now;
    timer = setTimeout(async () => {
      const found = await ask("/validate", { prompt: workflowOf(mine) }).catch(() => null);
      if (found === null || mine !== now) return;
      note.textContent = found.expected_seconds ? "About " + rough(found.expected_seconds) + " on this machine" : "";
    }, 400);
  };
  const pick = h(
    "fieldset",
    {},
    h("legend", {}, "Workflow"),
    h(
      "div.pick",
      {},
      forms.map((form, index) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name: id + "wf",
            value: form.name,
            checked: index === 0,
            onchange: () => choose(form),
          }),
          h(
            "span",
            { title: form.description || null },
            form.brought
              ? icon("graph")
              : h("img", {
                  src: "/templates/" + encodeURIComponent(form.name) + "-1.webp",
                  alt: "",
                  width: 32,
                  height: 32,
                }),
            form.title,
          ),
        ),
      ),
    ),
  );
  const submit = async event => {
    event.preventDefault();
    if (run.disabled) return;
    run.disabled = true;
    now.controls.forEach(control => control.mark(null));
    wrong.hidden = true;
    try {
      const accepted = await queue(workflowOf(now), { name: now.form.name });
      after();
      toast("Queued at place " + accepted.place, "Undo", () =>
        ask("/jobs/" + accepted.prompt_id + "/cancel", {}).catch(sorry),
      );
    } catch (error) {
      refuse(error, now, wrong);
    } finally {
      run.disabled = false;
    }
  };
  const node = h(
    "form.form",
    {
      novalidate: "",
      onsubmit: submit,
      onkeydown: event => {
        if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) {
          event.preventDefault();
          node.requestSubmit();
        }
      },
    },
    pick,
    body,
    wrong,
    h("div.go", {}, run, note),
  );
  choose(forms[0]);
  return node;
}

/** The workflow with what was typed. */
function workflowOf({ form, controls }) {
  const workflow = structuredClone(form.workflow);
  for (const { field, value } of controls) {
    for (const [node, input] of field.places) workflow[node].inputs[input] = value();
  }
  return workflow;
}

/** Each problem beside its field, and the others above the button. */
function refuse(error, { form, controls }, wrong) {
  const problems = error.problems?.length ? error.problems : [{ message: error.message }];
  const rest = [];
  for (const problem of problems) {
    const control = controls.find(({ field }) =>
      field.places.some(([node, input]) => node === problem.node && input === problem.input),
    );
    if (control) control.mark(sentence(problem));
    else rest.push(h("p", {}, problem.title ? problem.title + ": " : "", sentence(problem)));
  }
  wrong.replaceChildren(...rest);
  wrong.hidden = rest.length === 0;
  controls.find(control => control.isMarked())?.focus();
}

const sentence = problem => [problem.message, problem.hint].filter(Boolean).join(". ");

function fill(body, now, id, first, changed) {
  const made = new Map(),
    all = [];
  now.form.fields.forEach((field, index) => {
    const control = controlOf(field, id + index, changed);
    now.controls.push(control);
    all.push(control);
    made.set(field.name, [...(made.get(field.name) ?? []), control]);
  });
  const of = name => made.get(name) ?? [];
  const [width] = of("width"),
    [height] = of("height"),
    text = of("text")[0];
  const isBuiltIn = of("model")[0]?.field.value === BUILT_IN;
  const offers =
    first && text && isBuiltIn
      ? h(
          "div.try",
          {},
          h("span", {}, "Try"),
          TRY.map(words =>
            h(
              "button",
              {
                type: "button",
                onclick: () => {
                  text.set(words);
                  text.focus();
                },
              },
              words,
            ),
          ),
        )
      : null;
  if (offers) text.node.append(offers);
  const columns = [of("seed")[0]?.node, width && height ? sizes(width, height, id) : null, of("steps")[0]?.node].filter(
    Boolean,
  );
  const others = all.filter(
    ({ field }) => !MAIN.includes(field.name) || field.name === "width" || field.name === "height",
  );
  const rest = others.filter(({ field }) => field.name !== "negative"),
    negative = others.filter(({ field }) => field.name === "negative");
  body.replaceChildren(
    ...[
      ...of("image").map(control => control.node),
      ...of("text").map(control => control.node),
      columns.length ? h("div.cols", {}, columns) : null,
      others.length
        ? h(
            "details.opt",
            {},
            h("summary", {}, icon("r", true), "More settings"),
            h(
              "div.form",
              {},
              negative.map(control => control.node),
              h(
                "div.pairs",
                {},
                rest.map(control => control.node),
              ),
            ),
          )
        : null,
      now.form.fields.length
        ? null
        : h("p.soft", {}, "This workflow has no settings that a form could show. It runs as it is."),
    ].filter(Boolean),
  );
}

/** A form for what a job ran with. */
export const formOfJob = job => ({
  name: job.summary.workflow ?? "workflow",
  title: job.summary.workflow ?? "This workflow",
  brought: true,
  description: "",
  workflow: job.workflow.prompt,
  problems: [],
  fields: job.fields.map(field => ({ ...field, brought: true })),
});

export const checkedNote = form =>
  "Checked: " +
  plural(Object.keys(form.workflow).length, "node") +
  (form.problems.length ? ", " + plural(form.problems.length, "problem") : ", nothing missing");
