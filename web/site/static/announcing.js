// Announces changes of the list to screen readers.

const said = document.getElementById("status");

export function announce(text) {
  said.textContent = text;
}
