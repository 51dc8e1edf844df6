// Results: search, filters, tiles by day.

import { address, ask } from "./api.js";
import { breakable, h, icon, sync } from "./dom.js";
import { failure, isImage, isSound, isVideo } from "./jobs.js";
import { sorry } from "./toast.js";
import { ago, day, duration, nameOf, plural } from "./words.js";

const PAGE = 60;
const KINDS = [
  ["completed,failed,cancelled", "All"],
  ["completed", "Done"],
  ["failed", "Failed"],
];
const state = { jobs: [], total: 0, limit: PAGE, counts: [0, 0, 0], models: new Set() };
const hidden = new Set();
const tiles = new Map();
let open = () => {};
let shown = [];

const place = h("div", { id: "results" });
const said = h("p.vh", { role: "status" });
const count = h("span.count.num");
const input = h("input.input", {
  type: "search",
  id: "search",
  placeholder: "Prompt, model, seed…",
  "aria-label": "Search results",
  "aria-controls": "results",
  oninput: search,
});
const model = h(
  "select.input.wide",
  { "aria-label": "Model", onchange: search },
  h("option", { value: "" }, "Any model"),
);
const numbers = KINDS.map(() => h("span.faint.num.small"));
const kinds = h(
  "div.seg.scroll",
  { role: "radiogroup", "aria-label": "Show" },
  KINDS.map(([value, label], index) =>
    h(
      "label",
      {},
      h("input", { type: "radio", name: "kind", value, checked: index === 0, onchange: search }),
      h("span", {}, label, numbers[index]),
    ),
  ),
);
const more = h(
  "button.btn.show-more",
  {
    hidden: true,
    onclick: () => {
      state.limit += PAGE;
      refreshGallery().catch(sorry);
    },
  },
  "Show more",
);

/** `opener(id)` shows one result large. */
export function gallery(opener) {
  open = opener;
  place.addEventListener("keydown", walk);
  return h(
    "section.gallery",
    { "aria-labelledby": "g-h" },
    h("div.head", {}, h("h2", { id: "g-h" }, "Results ", count)),
    h(
      "div.tools",
      {},
      h("div.search", {}, icon("find"), input, h("kbd.wide", { "aria-hidden": "true" }, "/")),
      model,
      kinds,
    ),
    said,
    place,
    more,
  );
}

export const focusSearch = () => input.focus();
/** The jobs as they are shown, for going from one to the next. */
export const results = () => shown;
export const hasResults = () => state.counts[0] > 0;

let timer = null;
function search() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    state.limit = PAGE;
    refreshGallery().catch(sorry);
  }, 150);
}

export async function refreshGallery() {
  const kind = kinds.querySelector(":checked").value,
    words = (input.value + " " + model.value).trim();
  const query = (status, limit, q = "") => ask("/jobs?" + new URLSearchParams({ status, limit, q }));
  const [page, ...counts] = await Promise.all([
    query(kind, state.limit, words),
    ...KINDS.map(([status]) => query(status, 1)),
  ]);
  Object.assign(state, {
    jobs: page.jobs,
    total: page.pagination.total,
    counts: counts.map(each => each.pagination.total),
  });
  drawGallery();
}

/** Take a result out of the view; `show` brings it back. */
export function hide(id) {
  hidden.add(id);
  drawGallery();
}
export function show(id) {
  hidden.delete(id);
  drawGallery();
}

function drawGallery() {
  shown = state.jobs.filter(job => !hidden.has(job.id));
  count.textContent = plural(state.counts[0], "prompt");
  numbers.forEach((number, index) => {
    number.textContent = String(state.counts[index]);
  });
  more.hidden = state.jobs.length >= state.total;
  const words = plural(state.total, "result");
  if (said.textContent !== words) said.textContent = words;
  drawModels();
  for (const id of tiles.keys()) if (!shown.some(job => job.id === id)) tiles.delete(id);
  const days = Map.groupBy ? Map.groupBy(shown, job => day(job.create_time)) : grouped(shown);
  const known = new Map([...place.querySelectorAll("ul.grid")].map(list => [list.dataset.day, list]));
  sync(
    place,
    shown.length
      ? [...days].flatMap(([name, jobs]) => {
          const list = known.get(name) ?? h("ul.grid", { "aria-label": name });
          list.dataset.day = name;
          sync(list, jobs.map(tileOf));
          const heading = list.previousElementSibling?.matches("h3.day")
            ? list.previousElementSibling
            : h("h3.day", {}, name);
          return [heading, list];
        })
      : [nothing()],
  );
}

function grouped(jobs) {
  const days = new Map();
  for (const job of jobs) days.set(day(job.create_time), [...(days.get(day(job.create_time)) ?? []), job]);
  return days;
}

function drawModels() {
  state.jobs.forEach(job => job.summary?.model && state.models.add(job.summary.model));
  const listed = new Set([...model.options].map(option => option.value));
  for (const name of [...state.models].sort()) if (!listed.has(name)) model.append(h("option", { value: name }, name));
  model.hidden = state.models.size < 2;
}

function nothing() {
  const filtered = input.value || model.value || kinds.querySelector("input:not(:checked)[value*=',']");
  if (!filtered) return h("div.none", {}, "There are no results yet.");
  return h(
    "div.none",
    {},
    "Nothing matches.",
    h(
      "button.btn",
      {
        onclick: () => {
          input.value = model.value = "";
          kinds.querySelector("input").checked = true;
          input.focus();
          refreshGallery().catch(sorry);
        },
      },
      "Clear the filters",
    ),
  );
}

/** The tile of a job, made once; only its time changes. */
function tileOf(job) {
  const tile =
    tiles.get(job.id) ??
    h(
      "li",
      {},
      h(
        "button.tile",
        { "aria-haspopup": "dialog", onclick: () => open(job.id) },
        image(job),
        h("span.cap", {}, nameOf(job)),
        h("span.meta.num"),
      ),
    );
  tiles.set(job.id, tile);
  tile.querySelector(".meta").textContent = [ago(job.create_time), aside(job)].filter(Boolean).join(" · ");
  return tile;
}

function aside(job) {
  if (job.status === "failed") return job.summary?.workflow;
  return job.status === "completed" && job.execution_start_time ? duration(secondsOf(job)) : null;
}

const secondsOf = job => (job.execution_end_time - job.execution_start_time) / 1000;

function image(job) {
  if (job.status === "failed") {
    const { title, message } = failure(job);
    return h(
      "span.pic.failed",
      {},
      h("b", {}, icon("warn"), title),
      h("span.msg", {}, breakable(message)),
      h("span.more", {}, "Show all"),
    );
  }
  if (job.status === "cancelled")
    return h(
      "span.pic.stopped",
      {},
      icon("stop"),
      job.execution_start_time ? "Stopped after " + duration(secondsOf(job)) : "Stopped",
    );
  if (job.preview_output && isSound(job.preview_output)) {
    return h("span.pic.stopped", {}, icon("play"), job.outputs_count > 1 ? "Sound, " + job.outputs_count + " files" : "Sound");
  }
  if (!isImage(job.preview_output)) {
    return h(
      "span.pic.stopped",
      {},
      icon("graph"),
      job.preview_output ? job.preview_output.mediaType : job.outputs_count ? "A file" : "No image",
    );
  }
  const many = job.outputs_count > 1;
  return h(
    many ? "span.pic.stack" : "span.pic",
    {},
    isVideo(job.preview_output)
      ? h("video", { src: address(job.preview_output), preload: "metadata", "aria-hidden": "true" })
      : h("img", { src: address(job.preview_output, true), alt: "", loading: "lazy" }),
    many
      ? h(
          "span.tag.num",
          {},
          icon("stack", true),
          h("span", {}, String(job.outputs_count)),
          h("span.vh", {}, " images"),
        )
      : null,
  );
}

/** Arrows go from tile to tile, as they lie on the screen. */
function walk(event) {
  const all = [...place.querySelectorAll(".tile")],
    here = all.indexOf(document.activeElement);
  if (here < 0) return;
  const top = tile => tile.getBoundingClientRect().top;
  const column = tile => tile.getBoundingClientRect().left;
  const same = tile => Math.abs(column(tile) - column(all[here])) < 2;
  const below = all.findIndex((tile, index) => index > here && top(tile) > top(all[here]) && same(tile));
  const above = all.findLastIndex((tile, index) => index < here && top(tile) < top(all[here]) && same(tile));
  const to = {
    ArrowRight: here + 1,
    ArrowLeft: here - 1,
    ArrowDown: below,
    ArrowUp: above,
    Home: 0,
    End: all.length - 1,
  }[event.key];
  if (all[to]) {
    event.preventDefault();
    all[to].focus();
  }
}
