// What frontend/vite.verifier.ts gives to the page.

declare module "virtual:verifier" {
  /** Where the WebAssembly module is, compressed with gzip. */
  export const address: string;
  /** The command that builds it from the source. */
  export const command: string;
}

declare module "virtual:go";
