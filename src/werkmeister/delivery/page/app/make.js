// DOM elements in one call. Strings become text nodes, never markup.

/** An element with properties and content. */
export function make(name, properties = {}, inside = []) {
  const made = document.createElement(name);
  const { dataset = {}, ...rest } = properties;
  Object.assign(made, rest);
  Object.assign(made.dataset, dataset);
  made.append(...inside);
  return made;
}
