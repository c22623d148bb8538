import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// Names without hashes: the program serves exactly these files, each with an ETag.
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./",
  build: {
    outDir: "build",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    rollupOptions: {
      output: { entryFileNames: "app.js", chunkFileNames: "[name].js", assetFileNames: "app[extname]" },
    },
  },
  resolve: { alias: { "#verifier": fileURLToPath(new URL("../../../docs/examples/verifier.mjs", import.meta.url)) } },
});
