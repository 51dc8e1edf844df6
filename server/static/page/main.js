// The status page: puts its parts together, and keeps them up to date.

import { ask } from "./api.js";
import { at, h, icon } from "./dom.js";
import { takeDrops } from "./drop.js";
import { compose, formOfJob } from "./form.js";
import { focusSearch, gallery, hasResults, refreshGallery } from "./gallery.js";
import { hello } from "./hello.js";
import { listenForKeys, showKeys } from "./keys.js";
import { lightbox, openResult } from "./lightbox.js";
import { connect, on } from "./live.js";
import { machineCard, refreshMachine } from "./machine.js";
import { drawQueue, isPaused, queueCard, refreshQueue, stopRemoved, waiting } from "./queue.js";
import { pickUp, running, runningCount, runningId } from "./running.js";
import { sorry } from "./toast.js";

const LATER = 300;
let view = null;

async function start() {
  const features = await ask("/features");
  at("editor").append(icon("ext"), "Editor");
  at("editor").hidden = !features.editor;
  at("new").append(icon("plus"), h("span", {}, "New", h("span.long", {}, " image")));
  at("new").addEventListener("click", () => compose());
  at("help").addEventListener("click", showKeys);
  takeDrops();
  listenForKeys({ n: () => compose(), "/": focusSearch });
  lightbox(features.editor, job => compose(formOfJob(job), "Edit settings"));
  on("connection", isUp => {
    at("lost").hidden = isUp;
    if (isUp) refresh().catch(sorry);
  });
  on("status", later);
  on("execution_start", () => {
    stopRemoved();
    later();
  });
  connect();
  setInterval(() => view === "page" && drawQueue(), 5000);
}

/** Many things change at once; the lists are asked for a few times a second at most. */
let timer = null;
function later() {
  timer ??= setTimeout(() => {
    timer = null;
    refresh().catch(sorry);
  }, LATER);
}

/** One at a time, so that no older answer is drawn over a newer one; what changes meanwhile is asked for again. */
let isAsking = false,
  again = false;
async function refresh() {
  again = true;
  if (isAsking) return;
  isAsking = true;
  try {
    while (again) {
      again = false;
      await askAll();
    }
  } finally {
    isAsking = false;
  }
}

async function askAll() {
  await Promise.all([refreshQueue(), refreshGallery()]);
  const isBusy = waiting() > 0 || runningId() !== null;
  if (view !== "page") {
    const { pagination } = await ask("/jobs?status=in_progress&limit=1");
    await lay(isBusy || pagination.total > 0 || hasResults() ? "page" : "hello");
  }
  if (view === "page") await pickUp();
  drawState();
}

async function lay(wanted) {
  if (view === wanted) return;
  const first = view === null;
  view = wanted;
  at("new").hidden = view === "hello";
  if (view === "hello") return at("main").replaceChildren(await hello());
  at("main").replaceChildren(
    h("h1.vh", {}, "GraphFlow status"),
    h(
      "div.wrap.page",
      {},
      h("div.left", {}, running(later), gallery(openResult)),
      h("aside.rail", { "aria-label": "Queue and machine" }, queueCard(), machineCard()),
    ),
  );
  if (!first) at("main").focus(); // the form that had the focus is gone
  await refreshMachine();
}

function drawState() {
  const waits = waiting(),
    runs = runningCount(),
    all = waits + runs;
  const word = runs > 1 ? runs + " running" : runs ? "Running" : isPaused() ? "Paused" : "Ready";
  const more = waits ? ", " + waits + " waiting" : "";
  if (at("state").textContent !== word + more) {
    at("state").replaceChildren(h(runs ? "span.dot.on" : "span.dot"), h("span", {}, word, h("span.wide", {}, more)));
  }
  document.title = all ? "(" + all + ") GraphFlow" : "GraphFlow";
}

start().catch(sorry);
