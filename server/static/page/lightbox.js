// One result, large: all images of its prompt, its settings, and what can be done with it.

import { address, ask } from "./api.js";
import { at, breakable, h, icon } from "./dom.js";
import { hide, results, show as unhide } from "./gallery.js";
import {
  copyWorkflow,
  download,
  failure,
  forget,
  imagesOf,
  isSound,
  isVideo,
  openGraph,
  runAgain,
  runWithNewSeed,
  textsOf,
  whole,
} from "./jobs.js";
import { singleKeys } from "./keys.js";
import { copy, sorry, undoable } from "./toast.js";
import { settings } from "./settings.js";
import { nameOf } from "./words.js";

const LARGEST = 8;
const box = at("box");
const now = { job: null, index: 0, hasEditor: false };
let opener = null;
let edit = () => {};

/** `onEdit(job)` opens the form with the settings of a job. */
export function lightbox(hasEditor, onEdit) {
  now.hasEditor = hasEditor;
  edit = onEdit;
  box.addEventListener("close", () => {
    now.job = null;
    if (opener?.isConnected) opener.focus();
  });
  box.addEventListener("keydown", press);
  let startX = null;
  box.addEventListener("pointerdown", event => {
    startX = event.target.closest(".view") && event.pointerType === "touch" ? event.clientX : null;
  });
  box.addEventListener("pointerup", event => {
    if (startX !== null && Math.abs(event.clientX - startX) > 48) turn(event.clientX < startX ? 1 : -1);
    startX = null;
  });
  new ResizeObserver(fit).observe(box);
}

/** Show image `index` of a job; a negative one counts from the end. */
export async function openResult(id, index = 0) {
  let job;
  try {
    job = await whole(id);
  } catch (error) {
    return sorry(error);
  }
  const images = imagesOf(job);
  if (!box.open) opener = document.activeElement;
  Object.assign(now, { job, index: index < 0 ? Math.max(0, images.length + index) : index });
  draw(images);
  box.setAttribute("aria-label", nameOf(job));
  if (!box.open) box.showModal();
  at("view").focus();
}

function turn(by) {
  const to = now.index + by,
    jobs = results(),
    here = jobs.findIndex(job => job.id === now.job.id);
  if (to >= 0 && to < imagesOf(now.job).length) return openResult(now.job.id, to);
  const next = jobs[here + by];
  if (next) openResult(next.id, by > 0 ? 0 : -1);
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by) {
    event.preventDefault();
    return turn(by);
  }
  if (!singleKeys() || event.target.closest("input, textarea, select")) return;
  const name = event.key === "Delete" ? "del" : event.key.toLowerCase();
  const button = [...box.querySelectorAll("[aria-keyshortcuts]")].find(item => item.dataset.key === name);
  if (button) {
    event.preventDefault();
    button.click();
  }
}

function draw(images) {
  const { job, index } = now,
    file = images[index],
    summary = job.summary;
  const close = h("button.btn.quiet.square", { "aria-label": "Close", onclick: () => box.close() }, icon("x"));
  const name = file ? file.filename : (summary.workflow ?? "Workflow");
  box.replaceChildren(
    h(
      "div.stage",
      {},
      h(
        "div.stage-top",
        {},
        h("span.num.cut.grow", {}, h("span", {}, name), h("span.faint", { id: "scale" })),
        images.length > 1 ? h("span.num", { role: "status" }, index + 1 + " of " + images.length) : null,
        close,
      ),
      h(
        "div.view",
        { tabindex: "-1", id: "view" },
        file ? picture(file, images) : message(),
        h("button.btn.turn.p", { "aria-label": "Previous result", onclick: () => turn(-1) }, icon("l")),
        h("button.btn.turn.n", { "aria-label": "Next result", onclick: () => turn(1) }, icon("r")),
      ),
      h(
        "div.film",
        { role: "group", "aria-label": "Images of this prompt" },
        images.length > 1
          ? images.map((each, number) =>
              h(
                "button",
                {
                  "aria-label": "Image " + (number + 1),
                  "aria-current": number === index ? "true" : null,
                  onclick: () => openResult(job.id, number),
                },
                isSound(each)
                  ? icon("play")
                  : isVideo(each)
                    ? h("video", { src: address(each), preload: "metadata" })
                    : h("img", { src: address(each, true), alt: "" }),
              ),
            )
          : null,
      ),
    ),
    h(
      "aside.panel",
      { "aria-label": "Settings and actions" },
      h("div.panel-scroll", {}, settings(now.job)),
      actions(file),
    ),
  );
}

function picture(file, images) {
  const of = images.length > 1 ? " " + (now.index + 1) + " of " + images.length : "";
  if (isSound(file)) {
    return h("audio", { src: address(file), controls: true, "aria-label": nameOf(now.job) + ", sound" + of });
  }
  if (isVideo(file)) {
    return h("video", { src: address(file), controls: true, loop: true, "aria-label": nameOf(now.job) + ", video" + of });
  }
  const alt = nameOf(now.job) + (of ? ", image" + of : "");
  return h("img", { id: "large", src: address(file), onload: fit, alt });
}

/** Small images by whole steps up to eight times, larger ones fitted. */
function fit() {
  const image = at("large");
  if (!image?.naturalWidth) return;
  const { clientWidth, clientHeight } = at("view"),
    style = getComputedStyle(at("view"));
  const width = clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const room = Math.min(width / image.naturalWidth, (clientHeight || innerHeight * 0.48) / image.naturalHeight);
  const scale = Math.max(1, Math.min(LARGEST, Math.floor(room)));
  image.width = image.naturalWidth * scale;
  image.classList.toggle("pixels", scale > 1);
  at("scale").textContent =
    " · " +
    image.naturalWidth +
    " × " +
    image.naturalHeight +
    (scale > 1 && room >= 1 ? ", shown " + scale + " times larger" : "");
}

/** What there is in place of an image: the error in full, texts, or why there is none. */
function message() {
  const { job } = now;
  if (job.status === "failed") {
    const { title, message, hint } = failure(job);
    return h(
      "div.err",
      { role: "group", "aria-label": "Error" },
      h("h3", {}, icon("warn"), title),
      h("p", {}, breakable(message)),
      hint ? h("p.hint", {}, breakable(hint)) : null,
      h(
        "div.row",
        {},
        now.hasEditor ? h("button.btn.main", { onclick: () => openGraph(job.id) }, icon("graph"), "Open graph") : null,
        h(
          "button.btn.quiet",
          { onclick: () => copy([title, message, hint].filter(Boolean).join("\n"), "Error") },
          icon("copy"),
          "Copy error",
        ),
      ),
    );
  }
  const texts = textsOf(job);
  if (texts.length)
    return h(
      "div.err.plain",
      { role: "group", "aria-label": "Text" },
      texts.map(text => h("p.text", {}, text)),
    );
  return h(
    "div.err.plain",
    {},
    h("p", {}, job.status === "cancelled" ? "It was stopped before it had an image." : "This prompt has no image."),
  );
}

function actions(file) {
  const { job } = now,
    failed = job.status === "failed";
  const does = action => () => Promise.resolve(action()).catch(sorry);
  const act = (glyph, label, key, action, { kind = "button.btn.quiet", long = "", before = "" } = {}) =>
    h(
      kind,
      {
        "aria-keyshortcuts": key === "Del" ? "Delete" : key,
        "data-key": key.toLowerCase(),
        "aria-label": before + label + long,
        onclick: does(action),
      },
      icon(glyph),
      h("span", {}, before ? h("span.long", {}, before) : null, label, long ? h("span.long", {}, long) : null),
      h("kbd.wide", { "aria-hidden": "true" }, key),
    );
  return h(
    "div.acts-bar",
    {},
    h(
      "div.two",
      {},
      act("redo", "Run again", "R", () => runAgain(job.id), { kind: failed ? "button.btn" : "button.btn.main" }),
      failed
        ? act(
            "tune",
            "Edit settings",
            "E",
            () => {
              box.close();
              edit(job);
            },
            { kind: "button.btn" },
          )
        : act("dice", "New seed", "S", () => runWithNewSeed(job.id), { kind: "button.btn" }),
    ),
    h(
      "div.four",
      {},
      act("copy", "Copy", "C", () => copyWorkflow(job.id), { long: " workflow" }),
      now.hasEditor
        ? act("graph", "Graph", "G", () => openGraph(job.id), { before: "Open " })
        : failed
          ? null
          : act(
              "tune",
              "Edit",
              "E",
              () => {
                box.close();
                edit(job);
              },
              { long: " settings" },
            ),
      file ? act("down", "Download", "D", () => download(file)) : null,
      act("bin", "Delete", "Del", remove, { kind: "button.btn.quiet.bad" }),
    ),
  );
}

/** Out of the results now, with its files in ten seconds. */
function remove() {
  const { id } = now.job;
  box.close();
  hide(id);
  undoable(
    "Deleted, with its files",
    () => unhide(id),
    async leaving => {
      try {
        await ask("/history", { delete: [id], files: true }, { keepalive: leaving });
        forget(id);
      } catch (error) {
        unhide(id);
        sorry(error);
      }
    },
  );
}
