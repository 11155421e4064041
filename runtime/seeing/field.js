// The field: units, walls, frames and edges of one moment, on a canvas.
// runtime/seeing/drawing.py draws the same for films.

class Field {
  constructor(canvas, episode) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.episode = episode;
    this.images = (episode.frames || []).map((url) => Object.assign(new Image(), { src: url }));
    this.ready = Promise.all(this.images.map((image) => image.decode()));
  }

  // Pixels of the square with the agents: its left edge, and its side.
  get square() {
    const { clientWidth, clientHeight } = this.canvas;
    return this.episode.frames ? [clientWidth - clientHeight, clientHeight] : [0, clientWidth];
  }

  get cell() {
    const { map } = this.episode;
    return map ? this.square[1] / Math.max(map.width, map.height) : 0;
  }

  // Index in `positions` of the first unit of each team.
  teams() {
    let first = 0;
    return this.episode.map.teams.map((team) => {
      const found = { ...team, first };
      first += team.size;
      return found;
    });
  }

  corner(moment, unit, onward) {
    const { positions } = this.episode.arrays;
    const [x, y] = [positions.at(moment, unit, 0), positions.at(moment, unit, 1)];
    const after = Math.min(moment + 1, this.episode.steps);
    const [toX, toY] = [positions.at(after, unit, 0), positions.at(after, unit, 1)];
    if (toX < 0 || !onward) return [x, y];
    return [x + (toX - x) * onward, y + (toY - y) * onward];
  }

  // Middle of an agent in pixels.
  centre(moment, agent, onward = 0) {
    const [left, side] = this.square;
    const { map, agents } = this.episode;
    if (map) {
      const [x, y] = this.corner(moment, agent, onward);
      const half = map.teams[0].body / 2;
      return [(x + half) * this.cell, (y + half) * this.cell];
    }
    const angle = (2 * Math.PI * agent) / agents;
    return [left + side * (0.5 + 0.4 * Math.sin(angle)), side * (0.5 - 0.4 * Math.cos(angle))];
  }

  radius() {
    const { map, agents } = this.episode;
    if (map) return 0.5 * this.cell * map.teams[0].body;
    const side = this.square[1];
    return Math.min(0.04 * side, (0.36 * 0.8 * Math.PI * side) / agents);
  }

  // The agent at a place of the canvas; null if there is none.
  agentAt(moment, x, y) {
    let [nearest, best] = [null, Math.max(1.5 * this.radius(), 10)];
    for (let agent = 0; agent < this.episode.agents; agent++) {
      if (!this.episode.arrays.alive.at(moment, agent)) continue;
      const [atX, atY] = this.centre(moment, agent);
      const distance = Math.hypot(atX - x, atY - y);
      if (distance <= best) [nearest, best] = [agent, distance];
    }
    return nearest;
  }

  draw(moment, onward, selected, shown) {
    const { canvas, pen, episode } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.fillStyle = episode.colours.ground;
    pen.fillRect(0, 0, width, height);
    if (this.images.length) this.drawFrame(moment);
    if (episode.map) this.drawMap(moment, onward);
    if (shown === "all") this.drawEdges(moment, onward, selected === null ? 0.45 : 0.16);
    if (!episode.map) this.drawCircle(moment);
    if (selected !== null) this.drawSelected(moment, onward, selected, shown);
  }

  drawFrame(moment) {
    const image = this.images[Math.min(moment, this.images.length - 1)];
    const [side] = this.square;
    const scale = Math.min(side / image.width, this.canvas.clientHeight / image.height);
    const [wide, high] = [image.width * scale, image.height * scale];
    const top = (this.canvas.clientHeight - high) / 2;
    this.pen.drawImage(image, (side - wide) / 2, top, wide, high);
  }

  drawMap(moment, onward) {
    const { pen, cell, episode } = this;
    const { map, colours, steps } = episode;
    const { health, positions } = episode.arrays;
    const after = Math.min(moment + 1, steps);
    pen.fillStyle = colours.wall;
    for (const [x, y] of map.walls) pen.fillRect(x * cell, y * cell, cell + 0.5, cell + 0.5);
    for (const team of this.teams()) {
      const [size, gap] = [cell * team.body, Math.max(cell * 0.06, 0.5)];
      for (let unit = team.first; unit < team.first + team.size; unit++) {
        if (positions.at(moment, unit, 0) < 0) continue;
        const [x, y] = this.corner(moment, unit, onward).map((value) => value * cell + gap);
        const side = size - 2 * gap;
        const falls = positions.at(after, unit, 0) < 0;
        const [now, then] = [health.at(moment, unit), health.at(after, unit)];
        const full = (side * (now + (then - now) * onward)) / 255;
        pen.globalAlpha = falls ? 1 - onward : 1;
        pen.fillStyle = team.colour + "48";
        pen.fillRect(x, y, side, side);
        pen.fillStyle = team.colour;
        pen.fillRect(x, y + side - full, side, full);
      }
    }
    pen.globalAlpha = 1;
  }

  drawCircle(moment) {
    const { pen, episode } = this;
    const { ring, colours, agents, steps, arrays } = episode;
    const radius = this.radius();
    const step = Math.min(moment, steps - 1);
    for (let agent = 0; agent < agents; agent++) {
      const [x, y] = this.centre(moment, agent);
      const answer = ring ? arrays.actions.at(step, agent) : 0;
      const colour = ring ? colours.answers[answer % colours.answers.length] : colours.teams[0];
      const full = ring ? answer === ring.colour : arrays.alive.at(moment, agent);
      this.dot(x, y, radius, "#fff");
      this.dot(x, y, radius, full ? colour : colour + "3C", colour, 1);
      if (ring && agent === ring.source) this.dot(x, y, 0.4 * radius, colours.text, "#fff", 2);
    }
    if (!ring) return;
    const [left, side] = this.square;
    const colour = colours.answers[ring.colour % colours.answers.length];
    this.dot(left + side / 2, side / 2, 0.05 * side, colour, "#fff", 3);
  }

  drawEdges(moment, onward, opaque) {
    const { episode } = this;
    const { agents, offsets, steps, arrays, colours } = episode;
    if (moment >= steps) return;
    this.pen.globalAlpha = opaque;
    for (let sender = 0; sender < agents; sender++) {
      for (let k = 0; k < offsets.length; k++) {
        if (!arrays.open.at(moment, sender, k)) continue;
        const receiver = (sender + offsets[k]) % agents;
        this.wedge(moment, onward, sender, receiver, colours.edge, 1.5);
      }
    }
    this.pen.globalAlpha = 1;
  }

  drawSelected(moment, onward, agent, shown) {
    const { pen, cell, episode } = this;
    const { agents, offsets, steps, arrays, colours, map, sight } = episode;
    if (!arrays.alive.at(moment, agent)) return;
    if (shown !== "none" && moment < steps) {
      offsets.forEach((offset, k) => {
        const from = (((agent - offset) % agents) + agents) % agents;
        if (arrays.heard.at(moment, agent, k)) {
          this.wedge(moment, onward, from, agent, colours.hears, 3);
        }
        if (arrays.open.at(moment, agent, k)) {
          this.wedge(moment, onward, agent, (agent + offset) % agents, colours.says, 3);
        }
      });
    }
    const [x, y] = this.centre(moment, agent, onward);
    this.dot(x, y, 1.3 * this.radius() + 2, null, colours.text, 2);
    if (!map || !sight) return;
    const [wide, high] = [sight.columns * cell, sight.rows * cell];
    pen.setLineDash([5, 4]);
    pen.lineWidth = 1.5;
    pen.strokeRect(x - wide / 2, y - high / 2, wide, high);
    pen.setLineDash([]);
  }

  // Broad at the sender, a point at the receiver; to the left, so that two opposite edges show.
  wedge(moment, onward, sender, receiver, colour, half) {
    const { alive } = this.episode.arrays;
    if (!alive.at(moment, sender) || !alive.at(moment, receiver)) return;
    const [fromX, fromY] = this.centre(moment, sender, onward);
    const [toX, toY] = this.centre(moment, receiver, onward);
    const length = Math.hypot(toX - fromX, toY - fromY);
    const rim = 0.84 * this.radius();
    if (length < 2 * rim) return;
    const [aheadX, aheadY] = [(toX - fromX) / length, (toY - fromY) / length];
    const [x, y] = [fromX + aheadX * rim, fromY + aheadY * rim];
    const { pen } = this;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + aheadY * 2 * half, y - aheadX * 2 * half);
    pen.lineTo(toX - aheadX * rim, toY - aheadY * rim);
    pen.closePath();
    pen.fillStyle = colour;
    pen.fill();
  }

  dot(x, y, radius, fill, outline = null, width = 0) {
    const { pen } = this;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    if (fill) {
      pen.fillStyle = fill;
      pen.fill();
    }
    if (outline) {
      pen.strokeStyle = outline;
      pen.lineWidth = width;
      pen.stroke();
    }
  }
}
