// Files that are brought: a workflow, an image that carries one, or an image to start from.

import { Refused, formOf, upload } from "./api.js";
import { at, h, icon } from "./dom.js";
import { checkedNote, compose, shippedForms } from "./form.js";
import { sorry, toast } from "./toast.js";

const STARTS = "your_image";

/** Check first, then open the form filled in. */
export async function bring(file) {
  if (!file) return;
  try {
    const form = await formOf(file);
    await compose({ ...form, brought: true }, "Run " + form.title);
    const first = form.problems[0];
    toast(checkedNote(form) + (first ? ": " + first.message : ""));
  } catch (error) {
    if (error instanceof Refused && file.type.startsWith("image/")) return start(file).catch(sorry);
    sorry(error);
  }
}

/** An image without a workflow in it is one to start from. */
async function start(file) {
  const name = await upload(file);
  const form = (await shippedForms()).find(each => each.name === STARTS);
  if (!form) return toast("The image is in the input folder as " + name + ".");
  const fields = form.fields.map(field => (field.kind === "image" ? { ...field, value: name, brought: true } : field));
  await compose({ ...form, fields, brought: true }, "Start from " + file.name);
}

export function chooseFile() {
  const chooser = h("input", { type: "file", accept: ".json,image/*", onchange: () => bring(chooser.files[0]) });
  chooser.click();
}

/** Let files be dropped anywhere on the page. */
export function takeDrops() {
  const veil = at("veil");
  veil.append(icon("drop"), h("b", {}, "Drop to open"), h("span.soft", {}, "A workflow file, or an image"));
  let depth = 0;
  const show = on => {
    if (!on) depth = 0;
    // Above an open dialog only what is inside it can be seen.
    (document.querySelector("dialog[open]") ?? document.body).append(veil);
    veil.hidden = !on;
  };
  const hasFiles = event => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", event => {
    if (hasFiles(event)) {
      depth++;
      show(true);
    }
  });
  addEventListener("dragleave", event => {
    if (hasFiles(event) && --depth <= 0) show(false);
  });
  addEventListener("dragover", event => {
    if (hasFiles(event)) event.preventDefault();
  });
  addEventListener("dropped", () => show(false));
  addEventListener("drop", event => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(false);
    bring(event.dataTransfer.files[0]);
  });
}
