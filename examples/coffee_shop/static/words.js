// What the system does now, in one sentence: a pure function of the status that the front door sends.

const BREAKS = {
  hang: "Payments do not answer",
  down: "Payments fail",
  slow: "Payments answer too late",
  flaky: "Half of the calls to payments fail",
};

/**
 * @returns {{tone: "good" | "wait" | "bad", text: string}} what to say, and in which colour
 */
export function sentence({ queue, circuit, payments }) {
  if (queue === null) return { tone: "bad", text: "The queue does not answer, so no order can be taken." };
  const waiting = queue.parked + queue.delayed;
  const queued = count(queue.ready + queue.in_flight, "order");
  if (circuit.state === "forced-open") {
    return { tone: "wait", text: `Somebody opened the circuit by hand: coffee is served, ${wait(waiting)}.` };
  }
  if (circuit.state === "open") return { tone: "bad", text: whileOpen(payments, waiting) };
  if (circuit.state === "half-open") {
    return { tone: "wait", text: `Payments answer again. Trying carefully; ${wait(waiting)}.` };
  }
  if (payments.reachable && payments.mode === "refuse") {
    return { tone: "wait", text: "Every card is refused. That is an answer and no outage: nothing is tried again." };
  }
  if (payments.mode in BREAKS) return { tone: "wait", text: whileUnnoticed(payments, waiting) };
  if (!payments.reachable) {
    return { tone: "bad", text: "The payment system is not running. Coffee will be served, and paid for later." };
  }
  if (queue.parked > 0) return { tone: "wait", text: `Payments work again. Catching up: ${payment(queue.parked)} to go.` };
  if (queue.delayed > 0) return { tone: "wait", text: `Payments work; ${count(queue.delayed, "order")} will be tried again.` };
  if (queue.dead > 0) {
    return { tone: "wait", text: `All is well, but ${count(queue.dead, "order")} can only be helped by a person.` };
  }
  if (queue.ready + queue.in_flight > 0) return { tone: "good", text: `All is well: ${queued} in the making.` };
  return { tone: "good", text: "All is well. Coffee is served and paid for at once." };
}

function whileOpen(payments, waiting) {
  const served = `Coffee is served, ${wait(waiting)}.`;
  if (!payments.reachable) return `The payment system is not running. ${served}`;
  if (payments.mode === "none" || payments.mode === "refuse") {
    return `Payments are mended, and the next check will notice. ${served}`;
  }
  return `Payments are down. ${served}`;
}

function whileUnnoticed(payments, waiting) {
  const fault = BREAKS[payments.mode];
  if (waiting > 0) return `${fault}. ${capital(wait(waiting))}; the coffee is served.`;
  return payments.mode === "flaky" ? `${fault}; those orders will be tried again.` : `${fault}. The next orders will notice.`;
}

function wait(n) {
  if (n === 0) return "and no payment waits";
  return n === 1 ? "1 payment waits" : `${n} payments wait`;
}

function payment(n) {
  return count(n, "payment");
}

function count(n, thing) {
  return n === 1 ? `1 ${thing}` : `${n} ${thing}s`;
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}
