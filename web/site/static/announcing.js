// Says what changes in the list, for those who cannot see it.

const said = document.getElementById("status");

export function announce(text) {
  said.textContent = text;
}
