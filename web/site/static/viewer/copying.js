// Puts text on the clipboard, also where the page is not served by https.

export async function copy(text, within) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // an older way, which needs a field, inside the dialog that has the focus
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
