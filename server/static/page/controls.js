// The controls of a form: one for each field, with its label and what is wrong with it.

import { upload } from "./api.js";
import { h, icon } from "./dom.js";
import { typedNumber } from "./exact.js";
import { newSeed } from "./jobs.js";
import { sorry } from "./toast.js";

export const BUILT_IN = "graphflow-tiny";

/** `{field, node, value(), set(value), mark(text), isMarked(), focus()}`. */
export function controlOf(field, id, changed) {
  const wrong = h("p.field-wrong", { id: id + "-wrong", hidden: true });
  const [input, extra] = inputOf(field, id, changed);
  const label = h("label", { for: id }, field.label);
  const node = h("div.field", {}, label, extra ?? input, wrong);
  return {
    field,
    node,
    value: () => valueOf(field, input),
    set: value => {
      input.value = String(value);
      changed();
    },
    focus: () => input.focus(),
    isMarked: () => !wrong.hidden,
    mark: text => {
      wrong.hidden = text === null;
      wrong.textContent = text ?? "";
      input.toggleAttribute("aria-invalid", text !== null);
      if (text === null) input.removeAttribute("aria-describedby");
      else {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", id + "-wrong");
      }
      const folded = node.closest("details");
      if (text !== null && folded) folded.open = true;
    },
  };
}

/** Square, wide and tall of about the same area, in steps of the model's; the numbers are in More settings. */
export function sizes(width, height, id) {
  const base = Number(width.field.value),
    other = Number(height.field.value),
    side = Math.min(base, other);
  const step = Number(width.field.step) || 8,
    long = Math.round((side * 1.5) / step) * step;
  const offered = [
    [side, side, "Square"],
    [long, side, "Wide"],
    [side, long, "Tall"],
  ];
  if (!offered.some(([w, t]) => w === base && t === other)) offered.unshift([base, other, "As it is"]);
  return h(
    "fieldset.field.size",
    {},
    h("legend.label", {}, "Size"),
    h(
      "div.seg.fill",
      {},
      offered.slice(0, 3).map(([w, t, label]) =>
        h(
          "label",
          {},
          h("input", {
            type: "radio",
            name: id + "size",
            checked: w === base && t === other,
            "aria-label": label + ", " + w + " × " + t,
            onchange: () => {
              width.set(w);
              height.set(t);
            },
          }),
          h("span.num", {}, w + " × " + t),
        ),
      ),
    ),
  );
}

const valueOf = (field, input) => {
  if (field.kind !== "int" && field.kind !== "float") return input.value;
  return typedNumber(input.value) ?? input.value; // the server says what is wrong with a word
};

function inputOf(field, id, changed) {
  const value = String(field.value ?? "");
  if (field.kind === "image") return imageOf(field, id, changed);
  if (field.kind === "choice") {
    const names = field.choices.includes(field.value) ? field.choices : [field.value, ...field.choices];
    const select = h(
      "select.input",
      { id, onchange: changed },
      names.map(name => h("option", { value: name }, name === BUILT_IN ? name + " (included)" : name)),
    );
    select.value = value;
    return [select];
  }
  if (field.kind === "text") {
    const area = h("textarea.input", { id, rows: field.name === "text" ? "3" : "2", oninput: changed });
    area.value = value;
    return [area];
  }
  const input = h("input.input.num", {
    id,
    inputmode: field.kind === "int" ? "numeric" : "decimal",
    autocomplete: "off",
    oninput: changed,
  });
  input.value = value;
  if (field.name !== "seed") return [input];
  return [
    input,
    h(
      "div.join",
      {},
      input,
      h(
        "button.btn.square",
        {
          type: "button",
          "aria-label": "New seed",
          title: "New seed",
          onclick: () => {
            input.value = String(newSeed());
            changed();
          },
        },
        icon("dice"),
      ),
    ),
  ];
}

/** An image of the user: chosen, or dropped on the field; it is in the input folder before the form is sent. */
function imageOf(field, id, changed) {
  const input = h("input", { type: "hidden" });
  input.value = String(field.value ?? "");
  const preview = h("img", {
      alt: "",
      hidden: true,
      onerror: () => {
        preview.hidden = true;
      },
    }),
    words = h("span.cut", {}, "Choose or drop an image");
  const chooser = h("input.vh", {
    type: "file",
    id,
    accept: "image/*",
    tabindex: "-1",
    onchange: () => bring(chooser.files[0]),
  });
  const button = h(
    "button.btn.image-drop",
    { type: "button", onclick: () => chooser.click() },
    icon("drop"),
    preview,
    words,
  );
  const bring = async file => {
    if (!file) return;
    words.textContent = "Bringing in " + file.name;
    try {
      input.value = await upload(file);
      show(input.value);
      changed();
    } catch (error) {
      words.textContent = "Choose or drop an image";
      sorry(error);
    }
  };
  const show = name => {
    words.textContent = name;
    preview.src = "/view?" + new URLSearchParams({ filename: name, type: "input", preview: "webp;60" });
    preview.hidden = false;
  };
  button.addEventListener("dragover", event => event.preventDefault());
  button.addEventListener("drop", event => {
    event.preventDefault();
    event.stopPropagation();
    dispatchEvent(new Event("dropped"));
    bring(event.dataTransfer.files[0]);
  });
  if (field.brought) show(input.value);
  input.focus = () => button.focus();
  return [input, h("div", {}, button, chooser, input)];
}
