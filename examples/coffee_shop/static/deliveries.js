// Deliveries: each saga as a line with its stations, and the partners, which can be broken.

import { cup } from "./cups.js";
import { at, text } from "./dom.js";
import { fate, ledger, signOf, wordFor } from "./fates.js";

const journeys = new Map();

export function showDeliveries({ deliveries, partners }) {
  for (const name of ["stock", "courier"]) showPartner(name, partners[name]);
  at("payments-books").textContent = partners.payments === null ? "not running" : books(partners.payments, "charged", "refunded");
  if (deliveries === null) return; // nobody can say now: what was seen last stands
  at("rule").hidden = deliveries.length > 0;
  const shown = new Set(deliveries.map(({ order_id }) => order_id));
  for (const [id, journey] of journeys) {
    if (!shown.has(id)) { journey.remove(); journeys.delete(id); }
  }
  deliveries.forEach((delivery, position) => {
    const journey = journeys.get(delivery.order_id) ?? newJourney(delivery);
    update(journey, delivery);
    const there = at("journeys").children[position];
    if (there !== journey) at("journeys").insertBefore(journey, there ?? null);
  });
}

function newJourney({ order_id, customer, drink, size, steps }) {
  const journey = text("li", "", "journey");
  const who = text("p", "", "who");
  who.append(text("bdi", customer), text("small", `${size} ${drink}`));
  const line = text("ol", "", "stations");
  line.append(...steps.map(() => {
    const station = text("li", "", "station");
    station.append(text("span", "", "sign"), text("span", "", "word"));
    return station;
  }));
  const end = text("p", "", "fate");
  end.append(text("b", ""), text("small", "", "why"), text("small", "", "account"));
  journey.append(cup(drink), who, line, end);
  journeys.set(order_id, journey);
  return journey;
}

function update(journey, delivery) {
  const { tone, words, detail } = fate(delivery);
  journey.dataset.tone = tone;
  journey.dataset.state = delivery.state;
  set(journey.querySelector(".fate b"), words);
  set(journey.querySelector(".why"), detail);
  set(journey.querySelector(".account"), ledger(delivery.account));
  delivery.steps.forEach((step, position) => {
    const station = journey.querySelectorAll(".station")[position];
    station.dataset.state = step.state;
    set(station.querySelector(".sign"), signOf(step));
    set(station.querySelector(".word"), wordFor(step));
  });
}

function set(element, words) {
  if (element.textContent !== words) element.textContent = words; // a screen reader speaks every change
}

// The partners

const MENDS = { refuse: { stock: "Refill", courier: "Free a rider" } };

function showPartner(name, partner) {
  const form = at(name);
  const [select, button] = [form.querySelector("select"), form.querySelector("button")];
  const broken = partner !== null && partner.mode !== "none";
  if (broken) select.value = partner.mode;
  select.disabled = broken || partner === null;
  button.disabled = partner === null;
  button.value = broken ? "none" : "";
  set(button, broken ? MENDS[partner.mode]?.[name] ?? "Fix" : "Break");
  button.classList.toggle("mend", broken);
  button.classList.toggle("break", !broken);
  const words = name === "stock" ? ["held", "released"] : ["booked", "cancelled"];
  set(form.querySelector(".books"), partner === null ? "not running" : books(partner, ...words));
}

function books({ done, undone, shelf = {} }, doing, undoing) {
  const left = Object.entries(shelf).map(([item, portions]) => `${item} ${portions}`);
  return [`${doing} ${done}`, `${undoing} ${undone}`, ...left.slice(-1)].join(" · ");
}

async function breakOrMend(event) {
  event.preventDefault();
  const form = event.currentTarget;
  const mode = form.querySelector("button").value || form.querySelector("select").value;
  await change(`faults/${form.id}`, "PUT", { mode });
}

async function kill() {
  at("kill").disabled = true;
  const done = await change("kill", "POST", {});
  at("kill").disabled = false;
  if (done) at("killed").textContent = `kill -9 ${done.killed}. Another worker goes on where it was; nothing is done twice.`;
}

async function change(path, method, what) {
  let problem = "The shop does not answer.";
  try {
    const response = await fetch(path, { method, body: JSON.stringify(what) });
    const body = await response.json();
    if (response.ok) { at("partner-problem").textContent = ""; return body; }
    problem = body.error;
  } catch { /* said below */ }
  at("partner-problem").textContent = problem;
  return null;
}

at("stock").addEventListener("submit", breakOrMend);
at("courier").addEventListener("submit", breakOrMend);
at("kill").addEventListener("click", kill);
