// The page: reads the episode, plays it, and answers buttons, keys and clicks.

// An array of some shape, as runtime/seeing/page.py packs it: zlib, then base64.
class Packed {
  static async unpack({ type, shape, data }) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(stream).arrayBuffer();
    const types = { uint8: Uint8Array, int8: Int8Array, int16: Int16Array, int32: Int32Array, float32: Float32Array };
    return new Packed(new types[type](buffer), shape);
  }

  constructor(values, shape) {
    Object.assign(this, { values, shape });
  }

  at(...index) {
    return this.values[index.reduce((flat, i, axis) => flat * this.shape[axis] + i, 0)];
  }
}

class Player {
  constructor(episode) {
    this.episode = episode;
    this.part = (id) => document.getElementById(id);
    this.field = new Field(this.part("field"), episode);
    this.panel = new Panel(this.part("panel"), episode, (agent) => this.choose(agent));
    Object.assign(this, { moment: 0, onward: 0, selected: null, playing: false, last: 0 });
    this.glides = Boolean(episode.map) && !matchMedia("(prefers-reduced-motion: reduce)").matches;
  }

  async begin() {
    const { episode, part } = this;
    await this.field.ready;
    if (episode.frames) part("stage").classList.add("wide");
    part("outcome").textContent = episode.outcome;
    part("slider").max = episode.steps;
    for (let agent = 0; agent < episode.agents; agent++) part("agent").append(new Option(agent, agent));
    part("play").onclick = () => this.play(!this.playing);
    part("back").onclick = () => this.go(this.moment - 1);
    part("forward").onclick = () => this.go(this.moment + 1);
    part("slider").oninput = () => this.go(Number(part("slider").value));
    part("edges").onchange = () => this.draw();
    part("agent").onchange = ({ target }) => this.choose(target.value === "" ? null : Number(target.value));
    part("field").onclick = (event) => {
      this.choose(this.field.agentAt(this.moment, event.offsetX, event.offsetY));
    };
    addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(part("field"));
    const asked = new URLSearchParams(location.hash.slice(1));
    if (asked.has("agent")) this.selected = Math.min(Number(asked.get("agent")) || 0, episode.agents - 1);
    this.go(Number(asked.get("step")) || 0);
    document.body.dataset.ready = "yes";
  }

  onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("select, input")) return;
    const { agents } = this.episode;
    const turned = (by) => this.choose(this.selected === null ? 0 : (this.selected + by + agents) % agents);
    const actions = {
      ArrowRight: () => this.go(this.moment + 1),
      ArrowLeft: () => this.go(this.moment - 1),
      Home: () => this.go(0),
      End: () => this.go(this.episode.steps),
      ArrowUp: () => turned(1),
      ArrowDown: () => turned(-1),
      Escape: () => this.choose(null),
      " ": () => this.play(!this.playing),
    };
    if (event.key === " " && event.target.closest("button")) return; // the button's own
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  // Show a moment, and stop there.
  go(moment) {
    this.play(false);
    this.moment = Math.min(Math.max(moment, 0), this.episode.steps);
    this.show();
  }

  play(playing) {
    if (playing && this.moment >= this.episode.steps) this.moment = 0;
    Object.assign(this, { playing, onward: 0, last: 0 });
    this.part("play").textContent = playing ? "Pause" : "Play";
    if (playing) requestAnimationFrame((now) => this.tick(now));
    this.show();
  }

  tick(now) {
    if (!this.playing) return;
    const passed = this.last ? ((now - this.last) / 1000) * Number(this.part("speed").value) : 0;
    this.last = now;
    this.onward += passed;
    const whole = Math.floor(this.onward);
    if (whole) {
      this.moment = Math.min(this.moment + whole, this.episode.steps);
      this.onward -= whole;
      if (this.moment === this.episode.steps) return this.go(this.moment);
      this.show();
    } else {
      this.draw();
    }
    requestAnimationFrame((then) => this.tick(then));
  }

  choose(agent) {
    this.selected = agent;
    this.show();
  }

  // Words and panel change with the step and the agent; the field with every picture.
  show() {
    const { part, moment, selected, episode } = this;
    const [clock, standing, traffic] = episode.moments[moment];
    part("clock").textContent = clock;
    part("standing").textContent = standing;
    part("traffic").textContent = traffic;
    part("slider").value = moment;
    part("slider").setAttribute("aria-valuetext", clock);
    part("agent").value = selected === null ? "" : selected;
    part("field").setAttribute("aria-label", `${clock}: ${standing}, ${traffic}`);
    this.panel.show(moment, selected);
    this.draw();
  }

  draw() {
    const onward = this.glides && this.playing ? this.onward : 0;
    this.field.draw(this.moment, onward, this.selected, this.part("edges").value);
  }
}

async function begin() {
  const episode = JSON.parse(document.getElementById("episode").textContent);
  const names = Object.keys(episode.arrays);
  const arrays = await Promise.all(names.map((name) => Packed.unpack(episode.arrays[name])));
  episode.arrays = Object.fromEntries(names.map((name, i) => [name, arrays[i]]));
  await new Player(episode).begin();
}

begin();
