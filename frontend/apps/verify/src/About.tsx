import { CopyButton } from "@signedapproval/ui/CopyButton";
import type { Loaded } from "./load.ts";

/** What this page is, and how to find out whether its verifier is that of the source. */
export function About({ loaded, command }: { loaded: Loaded | undefined; command: string }) {
  const download = loaded && `curl -sSf ${new URL(loaded.address, window.location.href).href} | gunzip | sha256sum`;
  return (
    <section className="verify__about sa-stack" aria-labelledby="about">
      <h2 id="about">This verifier</h2>
      <p>
        It is the package of the command line, compiled to WebAssembly. It cannot look into a clone of the repository:
        to have the diff that was shown and what landed recomputed, run the command line with <code>--repo</code>. The
        anchors must come from somewhere else than the bundle, and not from this server.
      </p>
      <dl>
        <dt>SHA-256 of the module, as this page loaded it</dt>
        <dd className="sa-row">
          <code className="sa-wrap" data-testid="module">
            {loaded?.sha256 ?? "…"}
          </code>
          {loaded && <CopyButton text={loaded.sha256} label="Copy the SHA-256 of the module" />}
        </dd>
        <dt>Size and compiler</dt>
        <dd>{loaded ? `${loaded.size.toLocaleString("en")} bytes, ${loaded.verifier.go}` : "…"}</dd>
        <dt>
          Build it yourself, from the source that this server was built from and with the same compiler, and compare the
          sum
        </dt>
        <dd className="sa-row">
          <code className="sa-wrap" data-testid="build">
            {command}
          </code>
          <CopyButton text={command} label="Copy the command that builds the module" />
        </dd>
        <dt>What this server hands out to others</dt>
        <dd className="sa-row">
          <code className="sa-wrap">{download ?? "…"}</code>
          {download && <CopyButton text={download} label="Copy the command that fetches the module" />}
        </dd>
      </dl>
    </section>
  );
}
