import { readFileSync } from "node:fs";
import { defineConfig } from "vite";

/** What `parathinker serve` or the scripted model of dev/mock.mjs listens on while one develops. */
const server = "http://127.0.0.1:8000";
const fonts = ["inter", "jetbrains-mono", "source-serif-4"];

/** Vite writes down the licences of the scripts; the letters have theirs, too. */
const fontLicenses = {
  name: "font-licenses",
  generateBundle() {
    const source = fonts
      .map((font) => readFileSync(`node_modules/@fontsource-variable/${font}/LICENSE`, "utf8"))
      .join("\n\n");
    this.emitFile({ type: "asset", fileName: "assets/licenses-fonts.txt", source });
  },
};

/** The repository's checks want every text file to end in a newline. */
const newlines = {
  name: "newlines",
  generateBundle(_, bundle) {
    for (const file of Object.values(bundle)) {
      if (file.type === "chunk" && !file.code.endsWith("\n")) file.code += "\n";
    }
  },
};

export default defineConfig({
  // Relative addresses: the page also works under a path of somebody's proxy.
  base: "./",
  plugins: [fontLicenses, newlines],
  server: { proxy: { "/v1": server } },
  build: {
    outDir: "../src/parathinker/serving/page",
    emptyOutDir: true,
    // The Content-Security-Policy allows no data: fonts.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    license: { fileName: "assets/licenses.md" },
  },
});
