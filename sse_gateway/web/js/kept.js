// What is kept: settings on this device, what was said in this tab alone. Where the browser allows neither, until the page
// is closed.
function store(name) {
  const memory = {};
  return {
    get(key, fallback = null) {
      try {
        return JSON.parse(window[name].getItem(key)) ?? fallback;
      } catch {
        return memory[key] ?? fallback;
      }
    },
    /** Returns whether it is kept over a reload. */
    set(key, value) {
      memory[key] = value;
      try {
        window[name].setItem(key, JSON.stringify(value));
        return true;
      } catch {
        return false; // not allowed, or full
      }
    },
    remove(key) {
      delete memory[key];
      try {
        window[name].removeItem(key);
      } catch {
        // There is nothing, then.
      }
    },
  };
}

export const onDevice = store("localStorage");
export const inTab = store("sessionStorage");
