import "./Spinner.css";

/** Says that something is on its way; inside a button it is only the ring, for the button speaks for itself. */
export function Spinner({ label = "Loading…", inline = false }: { label?: string; inline?: boolean }) {
  const ring = <span className="sa-spinner__ring" aria-hidden="true" />;
  if (inline) return ring;
  return (
    <div className="sa-spinner" role="status">
      {ring}
      <span>{label}</span>
    </div>
  );
}
