// What is kept of the settings: on this device, where that is allowed.
const memory = {};

export function kept(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? fallback;
  } catch {
    return memory[name] ?? fallback;
  }
}

export function keep(name, value) {
  memory[name] = value;
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing: until the page is closed.
  }
}
