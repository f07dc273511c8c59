import { graphql } from "@signedapproval/graph/generated";
import type { Host } from "@signedapproval/host/host";
import { useEffect, useRef, useState } from "react";
import { type Client, useClient } from "urql";

const CreateSignTicket = graphql(`
  mutation CreateSignTicket($input: CreateSignTicketInput!) {
    createSignTicket(input: $input) {
      url
      expiresAt
      userErrors {
        code
        message
        path
      }
    }
  }
`);

/** How long before its end a ticket is exchanged, in milliseconds: the reader may press the button at any moment. */
const margin = 30_000;

/** How long to wait before the next attempt where no ticket was given, in milliseconds. */
const again = 30_000;

interface Ticket {
  address: string;
  /** How long it lives, in milliseconds, by a clock that may be wrong: never believed to be very short or very long. */
  life: number;
}

export interface SignAddress {
  /** Where the sign page is. */
  address: string;
  /** Says that the address was opened: a ticket opens it once. */
  onOpened: () => void;
}

/**
 * The address of a request's sign page, ready before the click: a browser that has to wait for it opens no tab. Inside
 * Bitbucket it carries a ticket that lives two minutes, which is exchanged before it dies for as long as the page is
 * seen. Without a ticket the address works as well; the reader then signs in on the page.
 */
export function useSignAddress(host: Host, requestId: string, path: string): SignAddress {
  const client = useClient();
  const plain = host.address(path);
  const [ticket, setTicket] = useState<string | null>(null);
  const renew = useRef<() => void>(() => {});

  useEffect(() => {
    if (host.standsAlone) return;
    let turn = 0;
    let timers: ReturnType<typeof setTimeout>[] = [];
    const forget = () => {
      turn += 1;
      for (const timer of timers) clearTimeout(timer);
      timers = [];
    };
    const ask = async () => {
      forget();
      const mine = turn;
      const made = await ticketOf(client, requestId, plain);
      if (turn !== mine) return;
      setTicket(made?.address ?? null);
      timers.push(setTimeout(look, made ? made.life - margin : again));
      if (made) timers.push(setTimeout(() => setTicket(null), made.life));
    };
    const look = () => {
      if (document.visibilityState !== "hidden") void ask();
    };
    look();
    renew.current = () => {
      setTicket(null);
      look();
    };
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      forget();
      setTicket(null);
      renew.current = () => {};
    };
  }, [client, host, requestId, plain]);

  return { address: ticket ?? plain, onOpened: () => renew.current() };
}

/** A ticket of the server's for the page that the plain address leads to; null where there is none. */
async function ticketOf(client: Client, requestId: string, plain: string): Promise<Ticket | null> {
  const { data } = await client.mutation(CreateSignTicket, { input: { requestId } }).toPromise();
  const { url, expiresAt } = data?.createSignTicket ?? {};
  if (!url || !expiresAt || !url.startsWith(`${plain}#ticket=`)) return null;
  return { address: url, life: Math.min(120_000, Math.max(margin + 15_000, Date.parse(expiresAt) - Date.now())) };
}
