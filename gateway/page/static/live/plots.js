// Two small plots of the last five minutes, in the page's own colours. Their times stand below them
// as text: whole at any width, and none before there is something to show.

import { element } from "../dom.js";

const KEPT_POINTS = 300;
const FEWEST_POINTS = 2;
const HEIGHT = 120;
const FONT = "12px system-ui, sans-serif";
const LABEL_GAP = 10;
const NARROWEST = 32; // so that the two plots stand in one line while their figures are small

export class Plots {
  constructor() {
    this.points = [];
    this.charts = [];
    const redraw = () => this.build();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(() => this.resize()).observe(document.getElementById("rate-plot"));
    this.build();
  }

  restart(points) {
    this.points = points;
    this.draw();
  }

  add(point) {
    this.points = [...this.points, point].slice(-KEPT_POINTS);
    this.draw();
  }

  // Nothing new comes: what is shown is of then.
  freeze() {
    for (const { times } of this.charts) {
      times.firstChild.textContent = times.firstChild.textContent.replace("ago", "before");
      times.lastChild.textContent = "when it broke off";
    }
  }

  build() {
    for (const { chart } of this.charts) chart.destroy();
    this.charts = [
      plot("rate-plot", [["rate", "--accent"]]),
      plot("load-plot", [["active", "--accent"], ["waiting", "--warn"]], [1, 2, 5, 10, 20, 50, 100, 200, 500]),
    ];
    this.draw();
  }

  draw() {
    const times = this.points.map((point) => point.at);
    for (const { chart, box, times: below, fields } of this.charts) {
      box.classList.toggle("empty", times.length < FEWEST_POINTS);
      chart.setData([times, ...fields.map((field) => this.points.map((point) => point[field]))]);
      below.lastChild.textContent = "now";
      below.firstChild.textContent = times.length < FEWEST_POINTS ? "No figures yet." : ago(times.at(-1) - times[0]);
    }
  }

  resize() {
    for (const { chart, box } of this.charts) chart.setSize({ width: box.clientWidth, height: HEIGHT });
  }
}

// `steps`: between two labels of the left axis, where not every number makes sense.
function plot(id, lines, steps) {
  const box = document.getElementById(id);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const chart = new window.uPlot(
    {
      width: box.clientWidth,
      height: HEIGHT,
      padding: [8, 0, 4, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: (chart, low, high) => [low, high] },
        y: { range: (chart, low, high) => [0, Math.max(1, (high ?? 0) * 1.15)] },
      },
      axes: [
        { show: false },
        {
          stroke: colour("--soft"),
          grid: { stroke: colour("--line"), width: 1 },
          ticks: { show: false },
          font: FONT,
          incrs: steps,
          size: (chart, labels) => Math.max(NARROWEST, widest(labels ?? []) + LABEL_GAP),
        },
      ],
      series: [
        {},
        ...lines.map(([, name]) => ({
          stroke: colour(name),
          fill: colour(name) + "22",
          width: 2,
          points: { show: false },
        })),
      ],
    },
    [[], ...lines.map(() => [])],
    box,
  );
  box.querySelector(".times")?.remove();
  const times = element("p", { class: "times hint" }, element("span", {}), element("span", {}));
  box.append(times);
  return { chart, box, times, fields: lines.map(([field]) => field) };
}

const ruler = document.createElement("canvas").getContext("2d");

function widest(labels) {
  ruler.font = FONT;
  return Math.max(0, ...labels.map((label) => ruler.measureText(label).width));
}

function ago(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}
