import react from "@vitejs/plugin-react";
import { defineConfig, mergeConfig } from "vite";
import { entry } from "../../vite.base.ts";

export default defineConfig(({ mode }) => mergeConfig(entry("dashboard", mode), { plugins: [react()] }));
