import { useEffect, useState } from "react";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

/** The reader's clock, read again every minute, and for another instant, which may have come after the last look. */
function useNow(value: string): number {
  const [{ now, of }, read] = useState(() => ({ now: Date.now(), of: value }));
  useEffect(() => {
    const timer = setInterval(() => read({ now: Date.now(), of: value }), minute);
    return () => clearInterval(timer);
  }, [value]);
  if (of !== value) read({ now: Date.now(), of: value });
  return now;
}

/** How far an instant is from now, in words: within a week relative to now, beyond it the date. */
export function spoken(at: Date, now: number, locale?: string): string {
  const distance = at.getTime() - now;
  const size = Math.abs(distance);
  const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  if (size < minute) return distance > 0 ? "in less than a minute" : "just now";
  if (size < hour) return relative.format(Math.round(distance / minute), "minute");
  if (size < day) return relative.format(Math.round(distance / hour), "hour");
  if (size < 7 * day) return relative.format(Math.round(distance / day), "day");
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(at);
}

export interface TimeProps {
  /** RFC 3339 in UTC, as the API gives it. */
  value: string;
  /** Date and time of day in place of the distance from now. */
  exact?: boolean;
}

/** An instant in the reader's zone. The title gives it in UTC, as evidence does. */
export function Time({ value, exact = false }: TimeProps) {
  const now = useNow(value);
  const at = new Date(value);
  if (Number.isNaN(at.getTime())) return <span>{value}</span>;
  const text = exact
    ? new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" }).format(at)
    : spoken(at, now);
  return (
    <time dateTime={value} title={value.replace("T", " ").replace("Z", " UTC")}>
      {text}
    </time>
  );
}
