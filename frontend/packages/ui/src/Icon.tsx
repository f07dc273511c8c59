import "./Icon.css";

// Drawn on 16 by 16, with a stroke of 1.5.
const paths = {
  check: "M3 8.5 6.5 12 13 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  clock: "M8 1.75a6.25 6.25 0 1 0 0 12.5 6.25 6.25 0 0 0 0-12.5M8 4.75V8l2.25 1.5",
  information: "M8 1.75a6.25 6.25 0 1 0 0 12.5 6.25 6.25 0 0 0 0-12.5M8 7.25v4M8 4.75v.01",
  warning: "M8 2 14.5 13.5h-13zM8 6.5v3.25M8 11.5v.01",
  error: "M5.4 1.75h5.2l3.65 3.65v5.2l-3.65 3.65H5.4l-3.65-3.65V5.4zM8 4.75v4M8 11.1v.01",
  branch:
    "M4.5 5.25v5.5M4.5 1.75a1.75 1.75 0 1 0 0 3.5 1.75 1.75 0 0 0 0-3.5M4.5 10.75a1.75 1.75 0 1 0 0 3.5 1.75 1.75 0 0 0 0-3.5M11.5 3.75a1.75 1.75 0 1 0 0 3.5 1.75 1.75 0 0 0 0-3.5M11.5 7.25c0 3-7 1.5-7 3.5",
  commit: "M8 5.25a2.75 2.75 0 1 0 0 5.5 2.75 2.75 0 0 0 0-5.5M1 8h4.25M10.75 8H15",
  key: "M5.25 7.25a3 3 0 1 0 0 6 3 3 0 0 0 0-6M7.5 8.25 13.75 2M11 4.75l2 2",
  copy: "M5.75 5.75h8v8h-8zM10.25 5.75v-3.5h-8v8h3.5",
  external: "M6.5 3H2.75v10.25H13V9.5M9.25 2.75h4v4M13 3 7.25 8.75",
  arrow: "M2.5 8h10.5M9.25 4 13 8l-3.75 4",
  up: "M8 13V3M4 7l4-4 4 4",
  down: "M8 3v10M4 9l4 4 4-4",
  plus: "M8 3v10M3 8h10",
  bell: "M3.25 11.25h9.5l-1.25-2V6.5a3.5 3.5 0 0 0-7 0v2.75zM6.5 13.75h3",
} as const;

export type IconName = keyof typeof paths;

/** A small drawing. It says nothing by itself: what it means stands in words beside it. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="sa-icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}
