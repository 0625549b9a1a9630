"use strict";
// The page is complete without this: it adds the choice of the axis, the smoothing, reading off values, and leafing
// through the samples. All labels of the axes come ready from the page, and so does every number.
(() => {
  const numbers = JSON.parse(document.getElementById("numbers").textContent);
  const find = (selector, within = document) => within.querySelector(selector);
  const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];
  const NS = "http://www.w3.org/2000/svg";

  function svg(name, attributes, text) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function share(scale, value) {
    const [low, high, at] = scale.isLog
      ? [scale.low, scale.high, Math.max(value, 1e-300)].map(Math.log10)
      : [scale.low, scale.high, value];
    return Math.min(Math.max((at - low) / (high - low), 0), 1);
  }

  const percent = (part) => `${(100 * Math.min(Math.max(part, 0), 1)).toFixed(3)}%`;

  // --- numbers as people read them -----------------------------------------------------------------------------------

  function scaled(value, suffixes, space) {
    for (const [suffix, scale] of suffixes) {
      if (Math.abs(value) >= scale) return `${Number((value / scale).toPrecision(3))}${space}${suffix}`;
    }
    return `${Number(value.toPrecision(3))}${space && " B"}`;
  }

  const count = (value) => scaled(value, [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]], "");
  const bytes = (value) => scaled(value, [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]], " ");

  function duration(value) {
    const whole = Math.round(value);
    if (value < 60) return `${Number(value.toPrecision(2))} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
    return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  }

  function valueText(key, value) {
    const kind = numbers.charts[key].scale;
    if (kind === "bytes") return bytes(value);
    if (kind === "count") return Math.round(value).toLocaleString("en");
    return key === "loss" ? value.toFixed(3) : String(Number(value.toPrecision(3)));
  }

  // --- curves --------------------------------------------------------------------------------------------------------

  const WIDEST = 0.15; // as in the page's own drawing
  const view = { axis: "step", scale: "linear", smoothing: numbers.smoothing || 0, cursor: null };

  function smooth(values, amount) {
    const width = amount ** 2 * WIDEST * values.length;
    if (width <= 0) return values;
    const reach = Math.ceil(3 * width);
    const weights = Array.from({ length: reach + 1 }, (_, offset) => Math.exp(-0.5 * (offset / width) ** 2));
    return values.map((value, i) => {
      if (value === null) return null;
      let [s, sx, sxx, sy, sxy] = [0, 0, 0, 0, 0];
      for (let j = Math.max(0, i - reach); j <= Math.min(values.length - 1, i + reach); j += 1) {
        if (values[j] === null) continue;
        const weight = weights[Math.abs(i - j)];
        const x = j - i;
        s += weight;
        sx += weight * x;
        sxx += weight * x * x;
        sy += weight * values[j];
        sxy += weight * x * values[j];
      }
      const spread = s * sxx - sx * sx;
      return spread > 1e-9 * s * s ? (sxx * sy - sx * sxy) / spread : sy / s;
    });
  }

  const chartOf = (key) => document.querySelector(`[aria-labelledby^="${numbers.charts[key].chart}-title"]`);
  const scaleOf = (key) => (key === "loss" && view.scale === "log" && numbers.charts[key].log) || numbers.charts[key].linear;

  function draw(key) {
    const curve = numbers.charts[key];
    const chart = curve.element;
    const x = numbers.axes[view.axis];
    const y = scaleOf(key);
    const across = x.at.map((at) => (1000 * share(x, at)).toFixed(1));
    const down = (value) => (1000 * (1 - share(y, value))).toFixed(1);

    const line = (values) => {
      let path = "";
      let isDown = false;
      values.forEach((value, i) => {
        if (value !== null) path += `${isDown ? "L" : "M"}${across[i]} ${down(value)}`;
        isDown = value !== null;
      });
      return path;
    };
    const band = (low, high) => {
      let path = "";
      let there = [];
      let back = [];
      for (let i = 0; i <= low.length; i += 1) {
        if (i < low.length && low[i] !== null) {
          there.push(`${across[i]} ${down(high[i])}`);
          back.unshift(`${across[i]} ${down(low[i])}`);
        } else if (there.length) {
          path += `M${[...there, ...back].join("L")}Z`;
          there = [];
          back = [];
        }
      }
      return path;
    };

    curve.smooth = curve.noisy ? smooth(curve.mean, view.smoothing) : curve.mean;
    if (curve.mean.length > 1) {
      find(".band", chart).setAttribute("d", band(curve.low || curve.mean, curve.high || curve.mean));
      find(".raw", chart).setAttribute("d", curve.noisy ? line(curve.mean) : "");
      find(".smooth", chart).setAttribute("d", line(curve.smooth));
    }
    find(".x", chart).replaceChildren(
      ...x.ticks.map(([at, label]) => svg("text", { x: percent(share(x, at)), y: "100%", dy: 18 }, label)),
    );
    find(".y", chart).replaceChildren(
      ...y.ticks.flatMap(([at, label]) => {
        const place = percent(1 - share(y, at));
        return [
          svg("line", { x2: "100%", y1: place, y2: place }),
          svg("text", { x: -8, y: place, dy: "0.32em", class: "left" }, label),
        ];
      }),
    );
    const column = numbers.order.indexOf(view.axis);
    findAll("circle", chart).forEach((circle, i) => {
      const point = curve.points[i];
      circle.setAttribute("cx", percent(share(x, point[column])));
      circle.setAttribute("cy", percent(1 - share(y, point[point.length - 1])));
    });
    findAll(".mark", chart).forEach((mark, i) => {
      const place = percent(share(x, numbers.marks[i][column]));
      mark.setAttribute("x1", place);
      mark.setAttribute("x2", place);
    });
  }

  const drawAll = () => Object.keys(numbers.charts).forEach(draw);

  function read(index) {
    view.cursor = index;
    const readout = find("[data-readout]");
    for (const [key, curve] of Object.entries(numbers.charts)) {
      const place = index === null ? null : percent(share(numbers.axes[view.axis], numbers.axes[view.axis].at[index]));
      curve.cursor.toggleAttribute("hidden", place === null);
      curve.cursor.setAttribute("display", place === null ? "none" : "inline");
      if (place !== null) {
        curve.cursor.setAttribute("x1", place);
        curve.cursor.setAttribute("x2", place);
      }
      curve.now.textContent = index === null ? curve.summary : described(key, index);
    }
    if (index === null) {
      readout.replaceChildren(...view.legend);
      return;
    }
    const bold = document.createElement("b");
    bold.textContent = `step ${numbers.axes.step.at[index].toLocaleString("en")}`;
    const rest = [];
    if (numbers.axes.tokens) rest.push(`${count(numbers.axes.tokens.at[index])} tokens`);
    if (numbers.axes.seconds) rest.push(duration(numbers.axes.seconds.at[index]));
    const loss = numbers.charts.loss;
    if (loss && loss.mean[index] !== null) rest.push(`loss ${described("loss", index)}`);
    readout.replaceChildren(bold, rest.length ? ` · ${rest.join(" · ")}` : "");
  }

  function described(key, index) {
    const curve = numbers.charts[key];
    if (curve.mean[index] === null) return "not measured";
    let text = valueText(key, curve.mean[index]);
    if (curve.low && curve.low[index] !== curve.high[index]) {
      text += ` (${valueText(key, curve.low[index])} to ${valueText(key, curve.high[index])})`;
    }
    if (curve.noisy && view.smoothing > 0) text += `, smoothed ${valueText(key, curve.smooth[index])}`;
    if (key === "tokens_per_second" && numbers.mfu[index]) text += `, MFU ${(100 * numbers.mfu[index]).toFixed(1)}%`;
    return text;
  }

  function nearest(chart, clientX) {
    const box = find(".y line", chart) || chart;
    const { left, width } = box.getBoundingClientRect();
    const x = numbers.axes[view.axis];
    const wanted = x.low + ((clientX - left) / width) * (x.high - x.low);
    let low = 0;
    let high = x.at.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x.at[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return low > 0 && wanted - x.at[low - 1] < x.at[low] - wanted ? low - 1 : low;
  }

  function choices(place, names, current, choose) {
    const buttons = names.map(([name, label]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.setAttribute("aria-pressed", String(name === current));
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        choose(name);
        drawAll();
        read(view.cursor);
      });
      return button;
    });
    place.replaceChildren(...buttons);
  }

  function startCurves() {
    const keys = Object.keys(numbers.charts);
    view.legend = [...find("[data-readout]").childNodes];
    for (const key of keys) {
      const curve = numbers.charts[key];
      const chart = chartOf(key);
      const last = curve.mean.length - 1;
      curve.element = chart;
      curve.now = find(`[data-now="${key}"]`);
      curve.summary = curve.now.textContent;
      curve.cursor = svg("line", { class: "cursor", y2: "100%", display: "none" });
      chart.append(curve.cursor);
      chart.setAttribute("aria-label", findAll(":scope > title, :scope > desc", chart).map((e) => e.textContent).join(". "));
      chart.removeAttribute("aria-labelledby");
      find(":scope > title", chart).remove(); // browsers show it over the curve
      chart.addEventListener("pointermove", (event) => read(nearest(chart, event.clientX)));
      chart.addEventListener("pointerleave", () => read(null));
      chart.addEventListener("blur", () => read(null));
      chart.addEventListener("click", (event) => showSampleAt(numbers.axes.step.at[nearest(chart, event.clientX)]));
      chart.addEventListener("keydown", (event) => {
        const pace = event.shiftKey ? 10 : 1;
        const now = view.cursor ?? last;
        const moves = { ArrowLeft: now - pace, ArrowRight: now + pace, Home: 0, End: last };
        if (!(event.key in moves)) return;
        event.preventDefault();
        read(Math.min(Math.max(moves[event.key], 0), last));
      });
    }
    const axes = { step: "steps", tokens: "tokens", seconds: "time" };
    choices(find("[data-axes]"), numbers.order.map((axis) => [axis, axes[axis]]), "step", (axis) => {
      view.axis = axis;
    });
    const hasLog = numbers.charts.loss && numbers.charts.loss.log;
    find("[data-scales]").parentElement.hidden = !hasLog;
    choices(find("[data-scales]"), [["linear", "linear"], ["log", "log"]], "linear", (scale) => {
      view.scale = scale;
    });
    const slider = find("#smoothing");
    const say = () => {
      const width = view.smoothing ** 2 * WIDEST;
      find("#smoothing-value").textContent = width ? `± ${(100 * width).toFixed(1)}% of the run` : "none";
    };
    slider.value = String(100 * view.smoothing);
    slider.addEventListener("input", () => {
      view.smoothing = Number(slider.value) / 100;
      say();
      drawAll();
    });
    say();
    drawAll();
    find(".controls").hidden = false;
  }

  // --- samples -------------------------------------------------------------------------------------------------------

  const samples = findAll(".samples > li");
  const slider = find("#sample");

  function showSample(index) {
    const all = find("#all-samples").checked;
    slider.value = String(index);
    slider.disabled = all;
    slider.setAttribute("aria-valuetext", `step ${samples[index].dataset.at}`);
    samples.forEach((sample, i) => {
      sample.hidden = !all && i !== index;
    });
  }

  function showSampleAt(step) {
    if (!samples.length) return;
    const distances = samples.map((sample) => Math.abs(Number(sample.dataset.at) - step));
    showSample(distances.indexOf(Math.min(...distances)));
  }

  function startSamples() {
    slider.addEventListener("input", () => showSample(Number(slider.value)));
    find("#all-samples").addEventListener("change", () => showSample(Number(slider.value)));
    for (const button of findAll(".scrubber button")) {
      button.addEventListener("click", () => {
        const wanted = Number(slider.value) + Number(button.dataset.step);
        showSample(Math.min(Math.max(wanted, 0), samples.length - 1));
      });
    }
    find(".scrubber").hidden = false;
    showSample(samples.length - 1);
  }

  // --- commands ------------------------------------------------------------------------------------------------------

  function startCopying() {
    if (!navigator.clipboard) return;
    for (const button of findAll(".copy")) {
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(find("code", button.parentElement).textContent);
        button.textContent = "copied";
        setTimeout(() => { button.textContent = "copy"; }, 1500);
      });
    }
  }

  if (numbers.charts) startCurves();
  if (samples.length > 1) startSamples();
  startCopying();
})();
