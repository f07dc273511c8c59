import { fromBase64, fromBase64Url, hex, sha256 } from "./bytes.ts";

/** Where the log has a decision. */
export interface Recorded {
  /** The leaf's place, counted from 0. */
  index: number;
  /** How many leaves the published checkpoint covers. */
  size: number;
  /** The receipt as the server gave it, to be kept. */
  file: Blob;
}

/** The log has not published the decision yet. */
export class NotYet extends Error {}

/** The receipt does not prove that the decision is recorded. */
export class ReceiptMismatch extends Error {}

/** How long the page waits for an answer, in milliseconds. */
const patience = 15_000;

/** Asks for the receipt of a decision and checks it. Throws {@link NotYet} or {@link ReceiptMismatch}. */
export async function fetchReceipt(path: string, statementSha256: string): Promise<Recorded> {
  let response: Response;
  try {
    response = await fetch(path, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(patience) });
  } catch (error) {
    throw new NotYet("the server did not answer", { cause: error });
  }
  if (!response.ok) throw new NotYet(`the server answered ${response.status}`);
  const file = await response.blob();
  return { ...(await checkReceipt(await file.text(), statementSha256)), file };
}

/**
 * Makes sure that a receipt holds the leaf of the decision that signed a statement, and that this leaf is under the
 * receipt's checkpoint. Whether the log's key signed the checkpoint, `signedapproval verify` and the verify page tell who
 * has the anchors.
 */
export async function checkReceipt(text: string, statementSha256: string): Promise<Omit<Recorded, "file">> {
  try {
    return await check(JSON.parse(text), statementSha256);
  } catch (error) {
    if (error instanceof ReceiptMismatch) throw error;
    throw new ReceiptMismatch("it cannot be read", { cause: error });
  }
}

interface Receipt {
  format: unknown;
  leaf: { entry: string; index: unknown; proof: string[] };
  checkpoint: string;
}

async function check(receipt: Receipt, statementSha256: string) {
  if (receipt.format !== "signedapproval.receipt/v1") throw new ReceiptMismatch("it has another format");
  const entry = fromBase64Url(receipt.leaf.entry);
  const leaf = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(entry)) as {
    type: unknown;
    body: { statement: unknown };
  };
  if (leaf.type !== "decision" || leaf.body.statement !== statementSha256) {
    throw new ReceiptMismatch("it is about another decision");
  }
  const [, count, base64] = receipt.checkpoint.split("\n");
  const size = wholeNumber(Number(count));
  if (String(size) !== count) throw new ReceiptMismatch("its checkpoint has no size");
  const index = wholeNumber(receipt.leaf.index);
  const root = await rootOf(await hash(0, entry), index, size, receipt.leaf.proof.map(fromBase64Url));
  if (hex(root) !== hex(fromBase64(base64 ?? ""))) throw new ReceiptMismatch("its leaf is not under its checkpoint");
  return { index, size };
}

function wholeNumber(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw new ReceiptMismatch("a place in the log is no number");
  return value as number;
}

/** The root of a tree of some leaves that has a leaf at a place (RFC 9162, section 2.1.3.2). */
async function rootOf(leaf: Uint8Array<ArrayBuffer>, index: number, size: number, proof: Uint8Array<ArrayBuffer>[]) {
  if (index >= size) throw new ReceiptMismatch("its leaf is beyond its checkpoint");
  let place = index;
  let last = size - 1;
  let node = leaf;
  for (const sibling of proof) {
    if (sibling.length !== 32 || last === 0) throw new ReceiptMismatch("its proof has another length");
    if (place % 2 === 1 || place === last) {
      node = await hash(1, sibling, node);
      while (place % 2 === 0 && place !== 0) {
        place /= 2;
        last = Math.floor(last / 2);
      }
    } else {
      node = await hash(1, node, sibling);
    }
    place = Math.floor(place / 2);
    last = Math.floor(last / 2);
  }
  if (last !== 0) throw new ReceiptMismatch("its proof has another length");
  return node;
}

async function hash(kind: 0 | 1, ...parts: Uint8Array<ArrayBuffer>[]): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(1 + parts.reduce((sum, part) => sum + part.length, 0));
  bytes[0] = kind;
  let at = 1;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return sha256(bytes);
}
