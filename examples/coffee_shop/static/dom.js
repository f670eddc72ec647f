// The two things that the page's modules do to it. Whatever people typed is set as text, never as HTML.

export const at = (id) => document.getElementById(id);

export function text(name, words, className = "") {
  return Object.assign(document.createElement(name), { textContent: words, className });
}
