// What became of a delivery, in words: pure functions of what the front door sends.

const UNDONE = { charge: "refunded", reserve: "released", book: "cancelled" };
const SIGNS = {
  next: "", started: "…", again: "↻", parked: "‖", done: "✓", rejected: "✕", unknown: "?",
  undoing: "↩", undone: "↩", skipped: "–", stuck: "!",
};
const PARTNERS = { payments: "the payment system", stock: "the stock", courier: "the courier" };

export function signOf({ state }) {
  return SIGNS[state] ?? "";
}

export function wordFor({ name, state, attempts }) {
  if (state === "undone") return UNDONE[name] ?? "undone";
  return state === "again" ? `${name}, try ${attempts + 1}` : name;
}

/**
 * @returns {{tone: "good" | "wait" | "bad" | "soft" | "calm", words: string, detail: string}} what the customer is told
 */
export function fate(delivery) {
  const { state, rider, because, parked_for } = delivery;
  if (state === "completed") return { tone: "good", words: "on its way", detail: `with ${rider}` };
  if (state === "undone") return undone(delivery);
  if (state === "stuck") return { tone: "bad", words: "a person has to look", detail: because ?? "" };
  if (parked_for !== null) {
    const words = `waits for ${PARTNERS[parked_for] ?? parked_for}`;
    return { tone: "wait", words, detail: state === "undoing" ? `being undone: ${because}` : "parked; nothing is lost" };
  }
  if (state === "undoing") return { tone: "wait", words: "being undone", detail: because ?? "" };
  if (state === "queued") return { tone: "soft", words: "in the queue", detail: "" };
  if (state === "waiting") return { tone: "wait", words: "waiting", detail: "" };
  return { tone: "soft", words: "in the making", detail: "" };
}

function undone({ because, account, steps }) {
  const refunded = account?.refunded > 0 || steps[0].state === "undone";
  return { tone: "calm", words: refunded ? "refunded" : "not charged", detail: because ?? "" };
}

/** What the payment system's ledger has of an order, once it has anything. */
export function ledger(account) {
  return account?.charged > 0 ? `charged ${account.charged}, refunded ${account.refunded}` : "";
}
