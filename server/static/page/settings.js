// With what a result was made: texts, numbers, and the nodes that came from the cache.

import { h, icon } from "./dom.js";
import { copy } from "./toast.js";
import { duration, nameOf, size, when } from "./words.js";

export function settings(job) {
  const { summary } = job,
    cached = cachedNodes(job);
  const seconds = job.execution_start_time ? (job.execution_end_time - job.execution_start_time) / 1000 : null;
  const batch = Number(summary.batch) > 1 ? ", " + summary.batch + " images" : "";
  const line = (name, value, canCopy) =>
    value === null || value === undefined || value === ""
      ? null
      : h(
          "div",
          {},
          h("dt", {}, name),
          h(
            "dd.num",
            {},
            h("span", {}, String(value)),
            canCopy
              ? h(
                  "button.btn.quiet.tight.square",
                  {
                    "aria-label": "Copy " + name.toLowerCase(),
                    title: "Copy",
                    onclick: () => copy(String(value), name),
                  },
                  icon("copy"),
                )
              : null,
          ),
        );
  const sampler = [summary.sampler, summary.scheduler].filter(Boolean).join(", ");
  return [
    h(
      "div",
      {},
      h("h2", {}, nameOf(job)),
      h("p.sub.num", {}, [summary.workflow, when(job.create_time), summary.client].filter(Boolean).join(" · ")),
    ),
    summary.negative === null
      ? null
      : h(
          "div",
          {},
          h("p.label-s", {}, "Negative prompt"),
          h("p", { class: summary.negative ? "" : "faint" }, summary.negative || "none"),
        ),
    h(
      "dl.list",
      {},
      line("Seed", summary.seed, true),
      line("Steps", summary.steps),
      line("CFG", summary.cfg),
      line("Sampler", sampler),
      line("Model", summary.model, true),
      line("Size", size(summary) ? size(summary) + batch : null),
      line("Time", seconds === null ? null : duration(seconds)),
    ),
    cached.length
      ? h(
          "div",
          {},
          h("p.label-s", {}, "From the cache, " + cached.length + " of " + Object.keys(job.titles).length + " nodes"),
          h(
            "ul.chips",
            {},
            cached.slice(0, 16).map(node => h("li.chip.cached", {}, icon("bolt", true), job.titles[node] ?? node)),
            cached.length > 16 ? h("li.chip.wait", {}, cached.length - 16 + " more") : null,
          ),
        )
      : null,
  ].filter(Boolean);
}

const cachedNodes = job => [
  ...new Set(
    (job.execution_status?.messages ?? [])
      .filter(([type]) => type === "execution_cached")
      .flatMap(([, data]) => data.nodes),
  ),
];
