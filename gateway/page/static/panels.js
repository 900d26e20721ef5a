// Panels above the page: the browser opens and closes them, except where the keyboard has left one; it
// would hide what has the focus then.

export function startPanels() {
  for (const panel of document.querySelectorAll(".panel")) {
    panel.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !panel.contains(relatedTarget)) panel.hidePopover();
    });
  }
}
