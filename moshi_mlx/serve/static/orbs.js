// Two orbs that breathe with the voices: the user's on the left, Moshi's on the right.

const WAVES = [
  [2, 0.9, 0],
  [3, -1.3, 1.7],
  [5, 1.9, 4.1],
]; // lobes, speed, phase

export class Orbs {
  constructor(canvas) {
    this.canvas = canvas;
    this.drawn = -Infinity;
    this.wanted = { you: 0, moshi: 0 };
    this.shown = { you: 0, moshi: 0 };
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => this.readColours());
    this.readColours();
    requestAnimationFrame((now) => this.draw(now));
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.colours = {
      you: style.getPropertyValue("--you").trim(),
      moshi: style.getPropertyValue("--moshi").trim(),
    };
  }

  set(who, level) {
    this.wanted[who] = level;
  }

  draw(now) {
    requestAnimationFrame((next) => this.draw(next));
    if (now - this.drawn < 1000 / 40) return; // 30 times a second is smooth enough
    this.drawn = now;
    const { canvas } = this;
    const scale = window.devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return; // another tab is shown
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const radius = Math.min(width / 6.4, Math.max(0, height - 20) / 3.2);
    const seconds = this.still.matches ? 0 : now / 1000;
    for (const [who, x] of [["you", 0.25], ["moshi", 0.75]]) {
      const rise = this.wanted[who] > this.shown[who] ? 0.5 : 0.15;
      this.shown[who] += (this.wanted[who] - this.shown[who]) * rise;
      this.orb(pen, width * x, height / 2, radius, this.colours[who], this.shown[who], seconds);
    }
  }

  orb(pen, x, y, radius, colour, loud, seconds) {
    for (const [layer, alpha] of [[1.28, 0.14], [1.12, 0.28], [1, 0.95]]) {
      const size = radius * layer * (0.82 + 0.32 * loud);
      pen.beginPath();
      for (let i = 0; i <= 120; i++) {
        const angle = (i / 120) * 2 * Math.PI;
        let bump = 0;
        for (const [lobes, speed, phase] of WAVES) {
          bump += Math.sin(lobes * angle + speed * seconds * (1 + layer) + phase * layer);
        }
        const reach = size * (1 + bump * (0.006 + 0.035 * loud));
        pen.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
      }
      pen.globalAlpha = alpha;
      pen.fillStyle = layer === 1 ? this.shading(pen, x, y, size, colour) : colour;
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  shading(pen, x, y, size, colour) {
    const glow = pen.createRadialGradient(x - size / 2, y - size / 2, 0, x, y, size * 1.3);
    glow.addColorStop(0, `color-mix(in oklab, ${colour}, white 45%)`);
    glow.addColorStop(0.6, colour);
    glow.addColorStop(1, `color-mix(in oklab, ${colour}, black 18%)`);
    return glow;
  }
}
