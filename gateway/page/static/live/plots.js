// Two small plots over the last five minutes, in the page's own colours.

const KEPT_POINTS = 300;
const SHORTEST_VIEW_S = 60;
const HEIGHT = 130;

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

  build() {
    for (const { chart } of this.charts) chart.destroy();
    this.charts = [
      plot("rate-plot", [["rate", "--accent"]]),
      plot("load-plot", [["active", "--accent"], ["waiting", "--warn"]]),
    ];
    this.draw();
  }

  draw() {
    const times = this.points.map((point) => point.at);
    for (const { chart, fields } of this.charts) {
      chart.setData([times, ...fields.map((field) => this.points.map((point) => point[field]))]);
    }
  }

  resize() {
    for (const { chart, box } of this.charts) chart.setSize({ width: box.clientWidth, height: HEIGHT });
  }
}

function plot(id, lines) {
  const box = document.getElementById(id);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const chart = new window.uPlot(
    {
      width: box.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: (chart, low, high) => [Math.min(low, high - SHORTEST_VIEW_S), high] },
        y: { range: (chart, low, high) => [0, Math.max(1, (high ?? 0) * 1.15)] },
      },
      axes: [
        { ...axis, values: clocks, space: 90 },
        { ...axis, size: 44 },
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
  return { chart, box, fields: lines.map(([field]) => field) };
}

function clocks(chart, times, axis, space, apart) {
  const parts = { hour: "2-digit", minute: "2-digit" };
  if (apart < 60) parts.second = "2-digit";
  return times.map((time) => new Date(time * 1000).toLocaleTimeString([], parts));
}
