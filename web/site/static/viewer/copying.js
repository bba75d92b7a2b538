// Copies text to the clipboard, also on pages without HTTPS.

export async function copy(text, within) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // fallback: select the text in a field, which must be inside the open dialog
  }
  const before = document.activeElement;
  const field = Object.assign(document.createElement("textarea"), { value: text, className: "hidden" });
  within.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  before?.focus();
  return copied;
}
