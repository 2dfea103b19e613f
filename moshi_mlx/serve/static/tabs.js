// The tabs at the top: those that the server has something for.

import { $ } from "./dom.js";

/**
 * Shows the tabs in `shown` (by name, with what to do when one is opened), the first of
 * them or the one in the address.
 *
 * @param {Map<string, () => void>} shown
 */
export function showTabs(shown) {
  const names = [...shown.keys()];
  const several = names.length > 1;
  $("tabs").hidden = !several;
  for (const tab of $("tabs").children) {
    const name = tab.id.slice(4);
    tab.hidden = !shown.has(name);
    tab.onclick = () => open(name);
    if (several) {
      $(`panel-${name}`).setAttribute("role", "tabpanel");
      $(`panel-${name}`).setAttribute("aria-labelledby", tab.id);
    }
  }
  $("tabs").onkeydown = (event) => {
    const at = names.indexOf(opened());
    const places = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 };
    if (!(event.key in places)) return;
    event.preventDefault();
    const name = names.at(places[event.key] % names.length);
    open(name);
    $(`tab-${name}`).focus();
  };

  function open(name) {
    for (const tab of $("tabs").children) {
      const chosen = tab.id === `tab-${name}`;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
    }
    for (const part of document.querySelectorAll("[data-tab]")) {
      part.hidden = part.dataset.tab !== name;
    }
    document.body.dataset.opened = name;
    if (several) history.replaceState(null, "", `#${name}`);
    shown.get(name)();
  }

  const wanted = location.hash.slice(1);
  open(shown.has(wanted) ? wanted : names[0]);
}

/** The name of the tab that is open. */
export const opened = () => document.body.dataset.opened;
