// The page: takes orders, and shows what the front door says about them.

import { cup } from "./cups.js";
import { showDeliveries } from "./deliveries.js";
import { at, text } from "./dom.js";
import { sentence } from "./words.js";

const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

// Ordering

const NAMES = ["Ada", "Grace", "Linus", "Margaret", "Edsger", "Barbara", "Alan", "Radia", "Donald", "Frances"];
let menu = { drinks: [], sizes: [] };

async function openCounter() {
  try {
    menu = await (await fetch("menu")).json();
  } catch {
    setTimeout(openCounter, 1000);
    return;
  }
  document.querySelector(".drinks").replaceChildren(
    ...menu.drinks.map(({ name, price }) => choice("drink", name, [cup(name), text("b", name), text("small", money.format(price))])),
  );
  document.querySelector(".sizes").replaceChildren(
    ...menu.sizes.map(({ name, extra }) => choice("size", name, [text("b", name), text("small", extra ? `+${money.format(extra)}` : "–")])),
  );
  document.querySelector("[name=drink][value=latte]").checked = true;
  document.querySelector("[name=size][value=medium]").checked = true;
  at("customer").value ||= remembered(); // somebody may have typed faster than the menu came
  price();
}

function choice(name, value, inside) {
  const label = text("label", "", "choice");
  const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
  const tile = text("span", "", "tile");
  tile.append(...inside);
  label.append(input, tile);
  return label;
}

function price() {
  const { drink, size } = Object.fromEntries(new FormData(at("order")));
  const total = menu.drinks.find(({ name }) => name === drink)?.price + menu.sizes.find(({ name }) => name === size)?.extra;
  at("send").textContent = Number.isNaN(total) ? "Order" : `Order · ${money.format(total)}`;
}

async function order(what, queue = "orders") {
  try {
    const response = await fetch(queue, { method: "POST", body: JSON.stringify(what) });
    const body = await response.json();
    return response.ok ? body : { error: body.error, field: body.field };
  } catch {
    return { error: "The shop does not answer; nothing was ordered." };
  }
}

async function orderOne(event) {
  event.preventDefault();
  const what = await ordered(at("send"), "orders");
  if (what) say(`Thank you, ${what.customer.trim()}. Your ${what.drink} is on its way.`);
}

async function orderDelivery() {
  const what = await ordered(at("deliver"), "deliveries");
  if (what) say(`Thank you, ${what.customer.trim()}. Watch your ${what.drink} under Deliveries.`);
}

async function ordered(button, queue) {
  const what = Object.fromEntries(new FormData(at("order")));
  button.disabled = true;
  const result = await order(what, queue);
  button.disabled = false;
  complain(result);
  if (result.error) return null;
  remember(what.customer);
  return what;
}

async function orderTen() {
  at("rush").disabled = true;
  const any = (list) => list[Math.floor(Math.random() * list.length)].name;
  const rush = NAMES.map((customer) => order({ customer, drink: any(menu.drinks), size: any(menu.sizes) }));
  const failed = (await Promise.all(rush)).filter(({ error }) => error);
  at("rush").disabled = false;
  complain(failed[0] ?? {});
  if (failed.length === 0) say("Ten people at once! Their coffees are on their way.");
}

function complain({ error, field }) {
  for (const name of ["customer", "drink", "size"]) {
    at(`${name}-problem`).textContent = name === field ? wording(name, error) : "";
  }
  at("customer").setAttribute("aria-invalid", String(field === "customer"));
  say(error && !at(`${field}-problem`) ? error : "");
  if (field === "customer") at("customer").focus();
}

function wording(field, error) {
  if (field === "customer" && !at("customer").value.trim()) return "Whose name may we write on the cup?";
  return error;
}

function say(words) {
  at("answer").textContent = words;
}

function remember(customer) {
  try { localStorage.setItem("customer", customer); } catch { /* a convenience only */ }
}

function remembered() {
  try { return localStorage.getItem("customer") ?? ""; } catch { return ""; }
}

// Orders, as tickets

const tickets = new Map();

function showOrders(orders) {
  at("empty").hidden = orders.length > 0;
  const shown = new Set(orders.map(({ order_id }) => order_id));
  for (const [id, ticket] of tickets) {
    if (!shown.has(id)) { ticket.remove(); tickets.delete(id); }
  }
  orders.forEach((order, position) => {
    const ticket = tickets.get(order.order_id) ?? newTicket(order);
    update(ticket, order);
    const there = at("tickets").children[position];
    if (there !== ticket) at("tickets").insertBefore(ticket, there ?? null);
  });
}

function newTicket(order) {
  const ticket = text("li", "", "ticket");
  const head = text("p", "", "head");
  head.append(text("span", `No. ${order.order_id.slice(0, 4).toUpperCase()}`), text("span", money.format(order.total), "total"), text("time", ""));
  const name = text("h3", "");
  name.append(text("bdi", order.customer));
  const chips = text("p", "", "chips");
  chips.append(text("span", "", "chip status"), text("span", "", "chip payment"));
  ticket.append(head, cup(order.drink), name, text("p", `${order.size} ${order.drink}`, "what"), chips);
  tickets.set(order.order_id, ticket);
  return ticket;
}

const PAYMENT = { pending: "payment pending", paid: "paid", refused: "card refused" };

function update(ticket, { status, payment, at_ms }) {
  ticket.querySelector("time").textContent = clock.format(at_ms);
  ticket.dataset.status = status;
  ticket.querySelector(".status").textContent = status === "queued" ? "in the queue" : status;
  const stamp = ticket.querySelector(".payment");
  if (stamp.dataset.payment !== (payment ?? "")) {
    stamp.dataset.payment = payment ?? "";
    stamp.textContent = PAYMENT[payment] ?? "";
  }
}

// The strip

const STATES = { "forced-open": "open, by hand", "forced-closed": "closed, by hand" };
let canaryAt = null;

function showStatus(status) {
  const { queue, circuit, handler_runs, payments } = status;
  tell(sentence(status));
  for (const name of ["ready", "in_flight", "delayed", "parked", "dead"]) number(name, queue?.[name]);
  number("handler_runs", handler_runs);
  number("calls", payments.calls);
  const state = circuit?.state ?? "unknown";
  document.body.dataset.circuit = state;
  at("state").textContent = STATES[state] ?? state;
  at("circuit").setAttribute("aria-label", `The circuit to the payment system is ${STATES[state] ?? state}`);
  canaryAt = circuit?.next_canary_in == null ? null : performance.now() + circuit.next_canary_in * 1000;
  countDown();
  showFaults(payments);
}

function tell({ tone, text: words }) {
  document.body.dataset.tone = tone;
  if (at("sentence").textContent !== words) at("sentence").textContent = words; // a screen reader speaks every change
}

function number(id, value) {
  const element = at(id);
  element.textContent = value ?? "–";
  element.parentElement.classList.toggle("some", value > 0);
}

function countDown() {
  const left = canaryAt === null ? null : Math.max(0, (canaryAt - performance.now()) / 1000);
  at("next_canary").textContent = left === null ? "–" : left < 0.05 ? "now" : `${left.toFixed(1)} s`;
  at("countdown").textContent = left === null ? "" : left < 0.5 ? "Checking now…" : `Next check in ${Math.round(left)} s.`;
}

function showFaults({ reachable, mode }) {
  const broken = reachable && mode !== "none";
  if (broken) at("mode").value = mode;
  at("mode").disabled = broken || !reachable;
  at("break").disabled = !reachable;
  at("break").textContent = broken ? "Fix payments" : "Break payments";
  at("break").className = broken ? "mend" : "break";
  at("break").value = broken ? "none" : "";
}

async function breakOrMend(event) {
  event.preventDefault();
  const mode = at("break").value || at("mode").value;
  let problem = "";
  try {
    const response = await fetch("faults", { method: "PUT", body: JSON.stringify({ mode }) });
    if (!response.ok) problem = (await response.json()).error;
  } catch {
    problem = "The shop does not answer.";
  }
  at("faults-problem").textContent = problem;
}

// What the front door tells; a page that nobody sees does not listen, for a browser has few connections to a server

let events = null;
let patience = null;

function listen() {
  if (document.hidden) {
    events?.close();
    events = null;
    found();
  } else if (events === null) {
    events = new EventSource("events");
    events.addEventListener("open", found);
    events.addEventListener("orders", ({ data }) => showOrders(JSON.parse(data)));
    events.addEventListener("status", ({ data }) => showStatus(JSON.parse(data)));
    events.addEventListener("deliveries", ({ data }) => showDeliveries(JSON.parse(data)));
    events.addEventListener("error", lost);
  }
}

function found() {
  clearTimeout(patience);
  patience = null;
}

function lost() {
  patience ??= setTimeout(sayLost, 700); // the browser tries again by itself, most often with success
  if (events?.readyState === EventSource.CLOSED) {
    events = null;
    setTimeout(listen, 1000);
  }
}

function sayLost() {
  canaryAt = null;
  countDown();
  tell({ tone: "bad", text: "The shop does not answer. Looking for it…" });
}

at("order").addEventListener("submit", orderOne);
at("order").addEventListener("change", price);
at("rush").addEventListener("click", orderTen);
at("deliver").addEventListener("click", orderDelivery);
at("breaker").addEventListener("submit", breakOrMend);
document.addEventListener("visibilitychange", listen);
setInterval(countDown, 100);
openCounter();
listen();
