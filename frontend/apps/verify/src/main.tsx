import "@signedapproval/ui/tokens.css";
import { address, command } from "virtual:verifier";
import { show } from "@signedapproval/ui/page";
import { load } from "./load.ts";
import { VerifyPage } from "./VerifyPage.tsx";
import worker from "./worker.ts?worker&url";

show(<VerifyPage loading={load(address, worker)} command={command} />);
