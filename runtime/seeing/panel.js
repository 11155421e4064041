// The panel: what one agent hears, says and sees in a step.

function element(tag, text = "", properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

function signed(value, digits) {
  return (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);
}

class Panel {
  constructor(root, episode, choose) {
    Object.assign(this, { root, episode, choose });
  }

  show(moment, agent) {
    const parts = agent === null ? this.invitation() : this.about(moment, agent);
    this.root.replaceChildren(...parts);
  }

  invitation() {
    const { map, ring, colours } = this.episode;
    const legend = [element("h2", "What is shown")];
    const line = (colour, text) => {
      const row = element("p", "", { className: "faint" });
      const mark = element("span", "\u25A0 ");
      mark.style.color = colour;
      row.append(mark, text);
      return row;
    };
    for (const team of map ? map.teams : []) {
      legend.push(line(team.colour, `${team.name}: as full as it is healthy`));
    }
    if (ring) {
      legend.push(line(colours.answers[ring.colour], "the colour that all must name at the end"));
      legend.push(line(colours.text, "a dark middle: the agent that sees it. A full disc: the answer is right"));
    }
    legend.push(line(colours.edge, "open edge: broad at its sender, a point at its receiver"));
    legend.push(line(colours.hears, "what the chosen agent hears"));
    legend.push(line(colours.says, "whom it speaks to"));
    return legend;
  }

  about(moment, agent) {
    const { episode } = this;
    const { map, steps, arrays } = episode;
    const parts = [element("h2", `Agent ${agent}`, { id: "who" })];
    if (!arrays.alive.at(moment, agent)) {
      return [...parts, element("p", "It is dead: it hears nothing and says nothing.")];
    }
    const health = map ? [`health ${Math.round(arrays.health.at(moment, agent) / 2.55)} %`] : [];
    if (moment >= steps) return [...parts, element("p", ["the end", ...health].join(", "))];
    const reward = arrays.rewards.at(moment, agent);
    const said = [...health, this.action(moment, agent), `reward ${signed(reward, 3)}`];
    return [
      ...parts,
      element("p", said.join(", "), { className: "faint" }),
      this.hears(moment, agent),
      this.says(moment, agent),
      ...this.sees(moment, agent),
    ];
  }

  action(moment, agent) {
    const { ring, arrays: { actions } } = this.episode;
    if (ring) {
      const answer = actions.at(moment, agent);
      return `names colour ${answer}, which is ${answer === ring.colour ? "right" : "wrong"}`;
    }
    if (actions.shape.length === 2) return `action ${actions.at(moment, agent)}`;
    const numbers = Array.from({ length: actions.shape[2] }, (_, i) => actions.at(moment, agent, i));
    return `action ${numbers.map((number) => number.toFixed(2)).join(" ")}`;
  }

  hears(moment, agent) {
    const { agents, offsets, arrays } = this.episode;
    const weight = (token) => (arrays.weights ? arrays.weights.at(moment, agent, token) / 255 : null);
    const rows = arrays.weights ? [[null, true, weight(0), ""]] : [];
    offsets.forEach((offset, k) => {
      const from = (((agent - offset) % agents) + agents) % agents;
      const heard = Boolean(arrays.heard.at(moment, agent, k));
      rows.push([from, heard, weight(k + 1), heard ? "" : "closed"]);
    });
    const heard = rows.filter((row) => row[1] && row[0] !== null).length;
    const title = `Hears ${heard} of ${offsets.length}`;
    return this.table("hears", title, ["from", arrays.weights ? "attention" : "", ""], rows);
  }

  says(moment, agent) {
    const { agents, offsets, arrays, messageBytes } = this.episode;
    const rows = offsets.map((offset, k) => {
      const open = Boolean(arrays.open.at(moment, agent, k));
      const score = arrays.scores ? arrays.scores.at(moment, agent, k) / 100 : null;
      const text = score === null ? (open ? "open" : "closed") : signed(score, 2);
      return [(agent + offset) % agents, open, open ? 1 : 0, text];
    });
    const open = rows.filter((row) => row[1]).length;
    const title = `Speaks to ${open} of ${offsets.length}, ${open * messageBytes} bytes`;
    return this.table("says", title, ["to", "open", arrays.scores ? "score" : ""], rows);
  }

  // Rows: agent or null, whether the edge is open, share of a bar or null, words.
  table(name, title, heads, rows) {
    const section = element("section", "", { className: name });
    const head = element("h3");
    head.append(element("span", "\u25A0 "), title);
    const table = element("table", "", { id: name });
    const top = element("tr");
    top.append(...heads.map((text) => element("th", text, { scope: "col" })));
    table.append(top);
    for (const [agent, open, share, words] of rows) {
      const row = element("tr", "", { className: open ? "open" : "closed" });
      const who = element("td", agent === null ? "own message" : "");
      if (agent !== null) {
        who.append(element("button", `agent ${agent}`, { type: "button", onclick: () => this.choose(agent) }));
      }
      const bar = element("td", "", { className: "bar" });
      if (open && share !== null) {
        const fill = element("div");
        fill.style.width = `${Math.max(share * 100, 1)}%`;
        bar.append(fill);
      }
      const percent = name === "hears" && open && share !== null ? `${Math.round(share * 100)} %` : "";
      row.append(who, bar, element("td", [percent, words].filter(Boolean).join(", ")));
      table.append(row);
    }
    section.append(head, table);
    return section;
  }

  sees(moment, agent) {
    const { sight, arrays, observationScale } = this.episode;
    const { observations } = arrays;
    if (!observations) return [];
    const size = observations.shape[2];
    const values = Array.from({ length: size }, (_, i) => observations.at(moment, agent, i) * observationScale);
    const head = element("h3", "Sees");
    if (!sight) {
      const numbers = element("div", "", { className: "numbers", id: "sees" });
      numbers.append(...values.slice(0, 64).map((value) => element("span", value.toFixed(2))));
      if (size > 64) numbers.append(element("span", `and ${size - 64} more`, { className: "faint" }));
      return [head, numbers];
    }
    const planes = element("div", "", { className: "planes", id: "sees" });
    sight.planes.forEach((name, plane) => planes.append(this.plane(name, plane, values)));
    return [head, planes];
  }

  plane(name, plane, values) {
    const { rows, columns } = this.episode.sight;
    const { colours } = this.episode;
    const figure = element("figure");
    const canvas = element("canvas", "", { width: columns * 12, height: rows * 12 });
    const pen = canvas.getContext("2d");
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const value = values[(plane * rows + row) * columns + column];
        pen.fillStyle = value < 0 ? colours.wall : colours.ground;
        pen.fillRect(column * 12, row * 12, 12, 12);
        if (value <= 0) continue;
        pen.globalAlpha = Math.min(0.25 + 0.75 * value, 1);
        pen.fillStyle = colours.teams[plane % colours.teams.length];
        pen.fillRect(column * 12 + 1, row * 12 + 1, 10, 10);
        pen.globalAlpha = 1;
      }
    }
    figure.append(canvas, element("figcaption", name));
    return figure;
  }
}
