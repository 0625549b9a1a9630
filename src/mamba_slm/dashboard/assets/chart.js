// A line chart on a canvas. A line is {x, mean, low?, high?, color, name, dots?}: `low` and `high` are drawn as a band
// under the smoothed mean, so that smoothing never hides a spike. What is drawn is bounded by what the server sends.
import { bytes } from "./common.js";

const MARGIN = { left: 52, right: 10, top: 8, bottom: 20 };
const cursors = new Set();

/** Charts that are made with the same cursor show it at the same x. */
export class Cursor {
  constructor() { this.x = null; this.charts = new Set(); cursors.add(this); }
  move(x) { if (x !== this.x) { this.x = x; for (const chart of this.charts) chart.later(); } }
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const color = (number) => css(`--line-${1 + (number % 8)}`);

/** Exponential mean that begins without bias; gaps stay gaps. */
export function smooth(values, weight) {
  if (!weight) return values;
  let sum = 0, total = 0;
  return values.map((value) => {
    if (value == null) return null;
    sum = weight * sum + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return sum / total;
  });
}

/** About `count` round numbers between two others. */
export function ticks(low, high, count) {
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.8);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step)
    found.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return found;
}

/** Index of the x nearest to `wanted`; x rises. */
export function nearest(x, wanted) {
  let low = 0, high = x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] < wanted) low = middle; else high = middle;
  }
  return Math.abs(x[low] - wanted) <= Math.abs(x[high] - wanted) ? low : high;
}

export class Chart {
  constructor(canvas, { cursor = new Cursor(), format = String, formatX = String, zoomed, picked } = {}) {
    Object.assign(this, { canvas, cursor, format, formatX, zoomed, picked });
    this.lines = []; this.marks = []; this.span = null; this.smoothing = 0; this.logarithmic = false; this.drawn = 0;
    this.label = canvas.getAttribute("aria-label");
    canvas.chart = this;
    cursor.charts.add(this);
    new ResizeObserver(() => this.later()).observe(canvas);
    addEventListener("themechange", () => this.later());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.later());
    canvas.addEventListener("pointermove", (event) => this.onMove(event));
    canvas.addEventListener("pointerleave", () => cursor.move(null));
    canvas.addEventListener("pointerdown", (event) => { if (event.button === 0) { this.dragFrom = event.offsetX; canvas.setPointerCapture(event.pointerId); } });
    canvas.addEventListener("pointerup", (event) => this.onUp(event));
    canvas.addEventListener("pointercancel", () => { this.dragFrom = null; this.later(); });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  show(lines, { span = null, bounds = null, marks = this.marks, smoothing = this.smoothing, logarithmic = this.logarithmic } = {}) {
    Object.assign(this, { lines, span, bounds, marks, smoothing, logarithmic });
    this.later();
  }

  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  range() {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    const usable = (value) => value != null && (!this.logarithmic || value > 0);
    for (const line of this.lines) {
      if (!line.x.length) continue;
      left = Math.min(left, line.x[0]);
      right = Math.max(right, line.x[line.x.length - 1]);
      for (const values of [line.mean, line.low, line.high])
        if (values) for (const value of values) if (usable(value)) { if (value < low) low = value; if (value > high) high = value; }
    }
    if (!(left <= right) || !(low <= high)) return null;
    if (this.span) { left = Math.min(left, this.span[0]); right = Math.max(right, this.span[1]); }
    if (left === right) { left -= 1; right += 1; }
    if (this.bounds) return { left, right, low: this.bounds[0], high: this.bounds[1] };
    if (this.logarithmic) return { left, right, low: low / 1.02, high: high * 1.02 };
    const room = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.04;
    return { left, right, low: low >= 0 ? Math.max(0, low - room) : low - room, high: high + room };
  }

  draw() {
    const { canvas } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const scale = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const range = this.area = this.range();
    this.drawn += 1;
    if (!range) {
      pen.fillStyle = css("--faint");
      pen.textAlign = "center";
      pen.fillText("nothing measured yet", width / 2, height / 2);
      return;
    }
    const bend = this.logarithmic ? Math.log : (value) => value;
    const [low, high] = [bend(range.low), bend(range.high)];
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const px = this.px = (x) => MARGIN.left + (x - range.left) / (range.right - range.left) * inner.width;
    const py = (y) => MARGIN.top + (1 - (bend(y) - low) / (high - low)) * inner.height;
    this.xAt = (pixel) => range.left + (pixel - MARGIN.left) / inner.width * (range.right - range.left);
    this.axes(pen, range, inner, px, py, width, height);
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left, MARGIN.top, inner.width, inner.height);
    pen.clip();
    for (const line of this.lines) this.line(pen, line, px, py);
    pen.strokeStyle = css("--warn");
    pen.setLineDash([3, 3]);
    for (const mark of this.marks) { pen.beginPath(); pen.moveTo(px(mark), MARGIN.top); pen.lineTo(px(mark), MARGIN.top + inner.height); pen.stroke(); }
    pen.setLineDash([]);
    pen.restore();
    this.pointer(pen, range, px, py, width, height);
  }

  axes(pen, range, inner, px, py, width, height) {
    pen.strokeStyle = css("--grid");
    pen.fillStyle = css("--faint");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    const unit = this.format === bytes && range.high >= 1 ? 2 ** (10 * Math.floor(Math.log2(range.high) / 10)) : 1;  // round numbers of MiB, not of bytes
    let levels = ticks(range.low / unit, range.high / unit, inner.height / 38).map((level) => level * unit);
    if (this.logarithmic && range.high / range.low > 20) {
      levels = [];
      for (let power = Math.floor(Math.log10(range.low)); power <= Math.log10(range.high); power += 1)
        for (const factor of [1, 2, 5]) if (factor * 10 ** power >= range.low && factor * 10 ** power <= range.high) levels.push(factor * 10 ** power);
    }
    for (const level of levels) {
      if (this.logarithmic && level <= 0) continue;
      const y = Math.round(py(level)) + 0.5;
      pen.beginPath(); pen.moveTo(MARGIN.left, y); pen.lineTo(width - MARGIN.right, y); pen.stroke();
      pen.fillText(this.format(level), MARGIN.left - 6, y);
    }
    pen.textAlign = "center";
    for (const x of ticks(range.left, range.right, inner.width / 80)) pen.fillText(this.formatX(x), Math.min(px(x), width - pen.measureText(this.formatX(x)).width / 2 - 1), height - 8);
  }

  line(pen, line, px, py) {
    const drawable = (value) => value != null && (!this.logarithmic || value > 0);
    pen.lineJoin = "round";
    if (line.low) {
      pen.fillStyle = line.color;
      pen.globalAlpha = 0.22;
      pen.beginPath();
      let open = false;
      for (let i = 0; i < line.x.length; i += 1)
        if (drawable(line.high[i])) { pen[open ? "lineTo" : "moveTo"](px(line.x[i]), py(line.high[i])); open = true; }
      for (let i = line.x.length - 1; i >= 0; i -= 1) if (drawable(line.low[i])) pen.lineTo(px(line.x[i]), py(line.low[i]) + 0.5);
      pen.fill();
      pen.globalAlpha = 1;
    }
    const stroke = (values, width, alpha) => {
      pen.strokeStyle = line.color;
      pen.lineWidth = width;
      pen.globalAlpha = alpha;
      pen.beginPath();
      let open = false;
      for (let i = 0; i < values.length; i += 1) {
        if (!drawable(values[i])) { open = false; continue; }
        pen[open ? "lineTo" : "moveTo"](px(line.x[i]), py(values[i]));
        open = true;
      }
      pen.stroke();
      pen.globalAlpha = 1;
    };
    const smoothing = line.dots ? 0 : this.smoothing;
    if (smoothing) stroke(line.mean, 1, 0.35);
    stroke(smoothing ? smooth(line.mean, smoothing) : line.mean, 1.8, 1);
    if (line.dots || line.mean.length === 1) {
      pen.fillStyle = line.color;
      for (let i = 0; i < line.x.length; i += 1)
        if (drawable(line.mean[i])) { pen.beginPath(); pen.arc(px(line.x[i]), py(line.mean[i]), 2.5, 0, 7); pen.fill(); }
    }
  }

  pointer(pen, range, px, py, width, height) {
    if (this.dragFrom != null && this.dragTo != null) {
      pen.fillStyle = css("--line-1");
      pen.globalAlpha = 0.15;
      pen.fillRect(Math.min(this.dragFrom, this.dragTo), MARGIN.top, Math.abs(this.dragTo - this.dragFrom), height - MARGIN.top - MARGIN.bottom);
      pen.globalAlpha = 1;
    }
    const wanted = this.cursor.x;
    if (wanted == null || wanted < range.left || wanted > range.right) return;
    const found = this.lines.filter((line) => line.x.length).map((line) => ({ line, i: nearest(line.x, wanted) }));
    if (!found.length) return;
    const x = found[0].line.x[found[0].i];
    pen.strokeStyle = css("--faint");
    pen.beginPath(); pen.moveTo(Math.round(px(x)) + 0.5, MARGIN.top); pen.lineTo(Math.round(px(x)) + 0.5, height - MARGIN.bottom); pen.stroke();
    const texts = [{ text: this.formatX(x), color: css("--faint") }, ...found.map(({ line, i }) => ({ text: this.valueText(line, i), color: line.color }))];
    const boxWidth = Math.max(...texts.map((each) => pen.measureText(each.text).width)) + 14;
    const boxHeight = 15 * texts.length + 7;
    const left = px(x) + 8 + boxWidth > width ? px(x) - 8 - boxWidth : px(x) + 8;
    pen.fillStyle = css("--card");
    pen.strokeStyle = css("--grid");
    pen.beginPath(); pen.roundRect(left, MARGIN.top + 2, boxWidth, boxHeight, 4); pen.fill(); pen.stroke();
    pen.textAlign = "left";
    texts.forEach((each, row) => { pen.fillStyle = each.color; pen.fillText(each.text, left + 7, MARGIN.top + 14 + 15 * row); });
  }

  valueText(line, i) {
    const name = this.lines.length > 1 || line.dots ? `${line.name} ` : "";
    const band = line.low && line.low[i] != null && line.low[i] !== line.high[i] ? ` (${this.format(line.low[i])} to ${this.format(line.high[i])})` : "";
    return `${name}${line.mean[i] == null ? "–" : this.format(line.mean[i])}${band}`;
  }

  onMove(event) {
    if (!this.area) return;
    if (this.dragFrom != null) { this.dragTo = event.offsetX; this.later(); }
    this.cursor.move(this.xAt(event.offsetX));
  }

  onUp(event) {
    const [from, to] = [this.dragFrom, event.offsetX];
    this.dragFrom = this.dragTo = null;
    this.later();
    if (from == null || !this.area) return;
    if (Math.abs(to - from) > 6) this.zoomed?.(this.xAt(Math.min(from, to)), this.xAt(Math.max(from, to)));
    else this.picked?.(this.xAt(to));
  }

  onKey(event) {
    const line = this.lines.find((each) => each.x.length);
    if (!line || !this.area) return;
    const now = this.cursor.x == null ? line.x.length - 1 : nearest(line.x, this.cursor.x);
    const far = event.shiftKey ? 10 : 1;
    const next = { ArrowLeft: now - far, ArrowRight: now + far, Home: 0, End: line.x.length - 1 }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      const i = Math.max(0, Math.min(line.x.length - 1, next));
      this.cursor.move(line.x[i]);
      this.canvas.setAttribute("aria-label", `${this.label}. At ${this.formatX(line.x[i])}: ${this.lines.filter((each) => each.x.length).map((each) => this.valueText(each, nearest(each.x, line.x[i]))).join(", ")}`);
    } else if (event.key === "Enter" && this.cursor.x != null) this.picked?.(this.cursor.x);
    else if (event.key === "Escape") this.zoomed?.(null, null);
  }
}
