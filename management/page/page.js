// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// The page asks this API for what is shown, every five seconds as rates are not
// newer than that. The browser adds the login it was asked for. Whatever comes
// from the broker is set as text, never as markup.
"use strict";

const interval = 5000; // milliseconds between refreshes
const history = 120; // refreshes in the chart
const pageSize = 50;

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return `${precise.format(n)} ${units[unit]}`;
}

const perSecond = (details) => `${precise.format(details.rate)}/s`;

async function request(path, options) {
  // Written out, as the page's own address may contain a login, which fetch refuses.
  const response = await fetch(new URL(path, location.origin + location.pathname), { cache: "no-store", ...options });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.reason || `the broker answered ${response.status}`);
  }
  return response.status === 204 ? null : response.json();
}

// Overview

const samples = [];

function showOverview(o) {
  $("product").textContent = o.product_name;
  $("version").textContent = o.product_version;
  $("where").textContent = `${o.node} in ${o.cluster_name}`;
  document.title = o.product_name;
  const { object_totals: objects, queue_totals: queues, message_stats: stats } = o;
  const cards = {
    "Messages ready": whole.format(queues.messages_ready),
    "Unacknowledged": whole.format(queues.messages_unacknowledged),
    "Published": perSecond(stats.publish_details),
    "Delivered": perSecond(stats.deliver_get_details),
    "Acknowledged": perSecond(stats.ack_details),
    "Queues": whole.format(objects.queues),
    "Consumers": whole.format(objects.consumers),
    "Connections": whole.format(objects.connections),
    "Channels": whole.format(objects.channels),
    "Exchanges": whole.format(objects.exchanges),
  };
  $("cards").replaceChildren(...Object.entries(cards).map(([name, value]) => {
    const card = element("div");
    card.append(element("dt", "", name), element("dd", "", value));
    return card;
  }));
  samples.push({ publish: stats.publish_details.rate, deliver: stats.deliver_get_details.rate, ack: stats.ack_details.rate });
  if (samples.length > history) samples.shift();
  drawChart();
}

function drawChart() {
  const peak = Math.max(1, ...samples.flatMap((s) => Object.values(s)));
  for (const line of $("chart").children) {
    const name = line.classList[0];
    line.setAttribute("points", samples.map((s, i) => {
      const x = 600 - (samples.length - 1 - i) * (600 / (history - 1));
      return `${x.toFixed(1)},${(116 - 112 * s[name] / peak).toFixed(1)}`;
    }).join(" "));
  }
  $("peak").textContent = `peak ${precise.format(peak)}/s`;
}

// Lists

// A List shows one page of a list of the API. Its columns have a title, the field
// to sort by, and a function from an item to a cell.
class List {
  constructor(id, title, path, columns) {
    Object.assign(this, { path, columns, page: 1, sort: columns[0].sort, reverse: false, name: "", asked: 0 });
    this.root = $(id);
    this.root.append($("list").content.cloneNode(true));
    this.find = (selector) => this.root.querySelector(selector);
    this.find(".scroll").setAttribute("aria-label", title);
    this.find(".pages").setAttribute("aria-label", `Pages of ${title.toLowerCase()}`);
    this.find("form").addEventListener("submit", (event) => event.preventDefault());
    this.find("input").addEventListener("input", (event) => {
      this.name = event.target.value;
      this.page = 1;
      this.refreshSoon();
    });
    this.find(".previous").addEventListener("click", () => this.turn(-1));
    this.find(".next").addEventListener("click", () => this.turn(1));
    this.find("thead tr").append(...columns.map((column) => this.heading(column)));
    this.markSort();
  }

  heading(column) {
    const cell = element("th", column.number ? "number" : "");
    cell.scope = "col";
    if (!column.sort) {
      cell.textContent = column.title;
      return cell;
    }
    const button = element("button", "", column.title);
    button.type = "button";
    button.addEventListener("click", () => {
      this.reverse = this.sort === column.sort ? !this.reverse : Boolean(column.number);
      this.sort = column.sort;
      this.page = 1;
      this.markSort();
      this.refreshSoon();
    });
    cell.append(button);
    return cell;
  }

  markSort() {
    this.columns.forEach((column, i) => {
      const cell = this.find("thead tr").children[i];
      cell.removeAttribute("aria-sort");
      if (column.sort === this.sort) cell.setAttribute("aria-sort", this.reverse ? "descending" : "ascending");
    });
  }

  turn(by) {
    this.page += by;
    this.refreshSoon();
  }

  refreshSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => attempt(() => this.refresh()), 150);
  }

  async refresh() {
    const ask = ++this.asked;
    const query = new URLSearchParams({
      page: this.page, page_size: pageSize, name: this.name, sort: this.sort, sort_reverse: this.reverse,
    });
    const answer = await request(`${this.path}?${query}`).catch((error) => {
      if (this.page === 1) throw error;
      this.page = 1; // the page it was on has gone
      this.refreshSoon();
      return null;
    });
    if (answer && ask === this.asked) this.show(answer);
  }

  show(answer) {
    const rows = answer.items.map((item) => {
      const row = element("tr");
      row.append(...this.columns.map((column, i) => {
        const cell = element(i === 0 ? "th" : "td", column.number ? "number" : "");
        if (i === 0) cell.scope = "row";
        const value = column.cell(item);
        cell.append(value);
        if (typeof value === "string" && i === 0) cell.title = value;
        return cell;
      }));
      return row;
    });
    if (rows.length === 0) {
      const cell = element("td", "quiet", this.name ? "None matches." : "None.");
      cell.colSpan = this.columns.length;
      rows.push(element("tr"));
      rows[0].append(cell);
    }
    this.find("tbody").replaceChildren(...rows);
    this.find(".count").textContent = `${whole.format(answer.filtered_count)} of ${whole.format(answer.total_count)}`;
    this.find(".page").textContent = `Page ${answer.page} of ${answer.page_count}`;
    this.find(".previous").disabled = answer.page <= 1;
    this.find(".next").disabled = answer.page >= answer.page_count;
    this.find(".pages").hidden = answer.page_count <= 1;
  }
}

function state(item) {
  return element("span", item.state === "running" ? "" : "bad", item.state);
}

function features(q) {
  const names = [];
  if (q.durable) names.push("durable");
  if (q.auto_delete) names.push("auto-delete");
  if (q.exclusive) names.push("exclusive");
  const cell = element("span", "quiet", names.join(", ") || "transient");
  const args = Object.entries(q.arguments);
  if (args.length > 0) cell.title = args.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join("\n");
  return cell;
}

function closeButton(c) {
  const button = element("button", "", "Close");
  button.type = "button";
  button.setAttribute("aria-label", `Close connection ${c.name}`);
  button.addEventListener("click", () => {
    if (!confirm(`Close the connection ${c.user_provided_name || c.name}? Its client is told.`)) return;
    button.disabled = true;
    attempt(async () => {
      await request(`api/connections/${encodeURIComponent(c.name)}`, { method: "DELETE" });
      connections.refreshSoon();
    });
  });
  return button;
}

const queues = new List("queues", "Queues", "api/queues", [
  { title: "Name", sort: "name", cell: (q) => q.name },
  { title: "Virtual host", sort: "vhost", cell: (q) => q.vhost },
  { title: "Type", sort: "type", cell: (q) => q.type },
  { title: "Features", cell: features },
  { title: "State", sort: "state", cell: state },
  { title: "Ready", sort: "messages_ready", number: true, cell: (q) => whole.format(q.messages_ready) },
  { title: "Unacked", sort: "messages_unacknowledged", number: true, cell: (q) => whole.format(q.messages_unacknowledged) },
  { title: "Delayed", sort: "messages_delayed", number: true, cell: (q) => whole.format(q.messages_delayed) },
  { title: "Size", sort: "message_bytes", number: true, cell: (q) => bytes(q.message_bytes) },
  { title: "In", sort: "message_stats.publish_details.rate", number: true, cell: (q) => perSecond(q.message_stats.publish_details) },
  { title: "Out", sort: "message_stats.deliver_get_details.rate", number: true, cell: (q) => perSecond(q.message_stats.deliver_get_details) },
  { title: "Consumers", sort: "consumers", number: true, cell: (q) => whole.format(q.consumers) },
]);

const connections = new List("connections", "Connections", "api/connections", [
  { title: "Name", sort: "name", cell: (c) => c.user_provided_name ? `${c.user_provided_name} (${c.name})` : c.name },
  { title: "Virtual host", sort: "vhost", cell: (c) => c.vhost },
  { title: "User", sort: "user", cell: (c) => c.user },
  { title: "State", sort: "state", cell: state },
  { title: "Channels", sort: "channels", number: true, cell: (c) => whole.format(c.channels) },
  { title: "From client", sort: "recv_oct_details.rate", number: true, cell: (c) => `${bytes(c.recv_oct_details.rate)}/s` },
  { title: "To client", sort: "send_oct_details.rate", number: true, cell: (c) => `${bytes(c.send_oct_details.rate)}/s` },
  { title: "Since", sort: "connected_at", cell: (c) => new Date(c.connected_at).toLocaleString() },
  { title: "", cell: closeButton },
]);

// attempt does something and says in the header how it went.
async function attempt(action) {
  const status = $("status");
  try {
    await action();
    status.textContent = `Refreshed ${new Date().toLocaleTimeString()}`;
    status.className = "";
  } catch (error) {
    status.textContent = `Not up to date: ${error.message}`;
    status.className = "bad";
  }
}

async function refresh() {
  if (!document.hidden) {
    await attempt(() => Promise.all([request("api/overview").then(showOverview), queues.refresh(), connections.refresh()]));
  }
  setTimeout(refresh, interval);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    queues.refreshSoon();
    connections.refreshSoon();
  }
});
refresh();
