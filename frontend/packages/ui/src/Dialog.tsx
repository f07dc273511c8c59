import { type ReactNode, useId, useLayoutEffect, useRef } from "react";
import "./Dialog.css";

export interface DialogProps {
  title: string;
  children: ReactNode;
  /** Its buttons, the way out among them. */
  actions: ReactNode;
  /** Called when the reader leaves it, also with the Escape key. */
  onClose: () => void;
}

/** A modal dialog for as long as it is rendered. The browser keeps the focus inside and gives it back afterwards. */
export function Dialog({ title, children, actions, onClose }: DialogProps) {
  const heading = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  // Closed while it is still in the page: only then does the browser give the focus back.
  useLayoutEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
    return () => element?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      className="sa-dialog"
      aria-labelledby={heading}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
    >
      <div className="sa-dialog__inside">
        <h2 id={heading}>{title}</h2>
        {children}
        <div className="sa-dialog__actions">{actions}</div>
      </div>
    </dialog>
  );
}
