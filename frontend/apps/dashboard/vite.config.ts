import react from "@vitejs/plugin-react";
import { defineConfig, mergeConfig } from "vite";
import { entry } from "../../vite.base.ts";

export default defineConfig(mergeConfig(entry("dashboard"), { plugins: [react()] }));
