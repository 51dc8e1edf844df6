// Devices, their memory, and the models in it; asked for every five seconds while somebody sees the page.

import { ask } from "./api.js";
import { h, icon, s } from "./dom.js";
import { sorry, toast } from "./toast.js";
import { bytes } from "./words.js";

const EVERY = 5000;
const MOST = 6;
const card = h("div.card", { id: "devices" });
const fold = h(
  "button.fold.narrow.num",
  {
    "aria-expanded": "false",
    "aria-controls": "devices",
    onclick: () => fold.setAttribute("aria-expanded", String(section.classList.toggle("open"))),
  },
  h("span"),
  icon("r"),
);
const section = h(
  "section.machine",
  { "aria-labelledby": "m-h" },
  h(
    "div.head",
    {},
    h("h2.grow", { id: "m-h" }, "Machine"),
    fold,
    h("button.btn.quiet.tight.wide", { onclick: free }, "Free memory"),
  ),
  card,
);

export function machineCard() {
  setInterval(
    () => document.visibilityState === "visible" && section.isConnected && refreshMachine().catch(() => {}),
    EVERY,
  );
  return section;
}

export async function refreshMachine() {
  const [stats, found] = await Promise.all([ask("/system_stats"), ask("/workers")]);
  const devices = devicesOf(stats);
  card.replaceChildren(...devices.map(deviceOf), ...workersOf(found.workers));
  fold.firstChild.textContent = devices[0].name + ", " + share(devices[0]);
  fold.setAttribute("aria-label", "Machine: " + fold.firstChild.textContent);
}

/** The list of workers, where there are several. */
function workersOf(workers) {
  if (workers.length < 2) return [];
  const names = worker => [...new Set(worker.models.map(model => model.name))].join(", ");
  const does = worker => (worker.prompts.length ? "runs " + worker.prompts.length : worker.state);
  return [
    h(
      "div.dev",
      {},
      h("div.dev-head", {}, h("b.cut.grow", {}, "Workers"), h("span.num.soft.small", {}, String(workers.length))),
      h(
        "ul.models-list",
        { "aria-label": "Workers" },
        workers.map(worker =>
          h(
            "li",
            { title: names(worker) || "no models" },
            h("span.cut.grow", {}, [worker.name.replace(/^@/, ""), names(worker)].filter(Boolean).join(" · ")),
            h("span.num.faint", {}, does(worker)),
          ),
        ),
      ),
    ),
  ];
}

/** `[{name, type, used, total, models}]` of the accelerators and the main memory. */
export function devicesOf(stats) {
  const { processor, ram_total: total, ram_free: free } = stats.system;
  const of = type => (stats.models ?? []).filter(model => model.device === type);
  const onProcessor = (stats.models ?? []).filter(model => /^cpu(:|$)/.test(model.device)); // several threads may compute
  const accelerators = stats.devices
    .filter(device => device.type !== "cpu")
    .map(device => {
      const type = device.type + ":" + (device.index ?? 0);
      return {
        name: device.name,
        type,
        used: device.vram_total - device.vram_free,
        total: device.vram_total,
        models: [...of(type), ...(device.index ? [] : of(device.type))],
      };
    });
  return [
    ...accelerators,
    { name: processor || "Processor", type: "cpu", used: total - free, total, models: onProcessor },
  ];
}

const share = device => (device.used / 1e9).toFixed(1) + " of " + bytes(device.total).replace(".0 ", " ");

function deviceOf(device) {
  const models = device.models.reduce((sum, model) => sum + model.bytes, 0),
    other = Math.max(0, device.used - models);
  const part = count => (100 * Math.min(1, count / Math.max(1, device.total))).toFixed(2) + "%";
  const named = new Map();
  for (const model of device.models) {
    const name = model.name.replace(/\.(safetensors|ckpt|pt|pth|bin|sft|gguf)$/i, "");
    named.set(name, [...(named.get(name) ?? []), model]);
  }
  const rows = [...named].map(([name, parts]) => [
    name,
    parts.reduce((sum, model) => sum + model.bytes, 0),
    parts.map(model => model.part).join(", "),
  ]);
  return h(
    "div.dev",
    {},
    h(
      "div.dev-head",
      {},
      h("b.cut.grow", { title: device.name }, device.name),
      h("span.num.soft.small", {}, share(device)),
    ),
    s(
      "svg",
      {
        class: "mem",
        role: "img",
        "aria-label": bytes(models) + " of models, " + bytes(other) + " other, of " + bytes(device.total),
      },
      s("rect", { class: "models", width: part(models), height: "100%" }),
      s("rect", { class: "other", x: part(models), width: part(other), height: "100%" }),
    ),
    h(
      "p.legend.num",
      {},
      h("span", {}, h("span.key"), (models ? bytes(models) : "no") + " models"),
      h("span", {}, h("span.key.o"), bytes(other) + " other"),
      h("span", {}, device.type),
    ),
    rows.length
      ? h(
          "ul.models-list",
          { "aria-label": "Models in memory" },
          rows
            .slice(0, MOST)
            .map(([name, size, parts]) =>
              h("li", { title: parts }, h("span.cut.grow", {}, name), h("span.num.faint", {}, bytes(size))),
            ),
          rows.length > MOST ? h("li.faint", {}, "and " + (rows.length - MOST) + " more") : null,
        )
      : null,
  );
}

async function free() {
  try {
    await ask("/free", { unload_models: true, free_memory: true });
    toast("Memory is given back when nothing runs.");
  } catch (error) {
    sorry(error);
  }
}
